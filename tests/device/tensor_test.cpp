// tensor: memory, casts, sums, moved rows, pooling.
#include "fixture.h"

class TensorOps : public DeviceTest
{
};
INSTANTIATE_TEST_SUITE_P(Tables, TensorOps, testing::ValuesIn(settings(&ops::gather_rows)), setting_name);

TEST_P(TensorOps, AllocatesAlignedMemoryAndRefusesTheImpossible)
{
    void *p = nullptr;
    for (size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{4097}}) {
        ASSERT_OK(table->alloc(&p, bytes));
        EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
        table->release(p);
    }
    table->release(nullptr);
    EXPECT_EQ(table->alloc(&p, SIZE_MAX), SC_MEMORY);
    EXPECT_EQ(table->alloc(&p, SIZE_MAX / 2), SC_MEMORY);
    EXPECT_NE(std::string(sc_last_error()).find("smaller"), std::string::npos);
}

TEST_P(TensorOps, FillsWithZeros)
{
    for (size_t n : {size_t{1}, size_t{1000}, size_t{3} << 20}) {
        Tensor x = floats(Doubles(n, 7.0));
        ASSERT_OK(table->fill_zero(nullptr, x.get(), n * 4 - 2));
        std::vector<uint8_t> raw = x.bytes();
        for (size_t i = 0; i < raw.size() - 2; i++)
            ASSERT_EQ(raw[i], 0) << i;
        EXPECT_EQ(raw[raw.size() - 1], 0x40);
    }
}

TEST_P(TensorOps, CastsToNearestEvenAndBack)
{
    Doubles x = random_values(100003, 1);
    x[0] = 1.00390625; // halfway between 1 and 1 + 2^-7: to the even, 1
    x[1] = 1.01171875; // halfway between 1 + 2^-7 and 1 + 2^-6: to the even, 1 + 2^-6
    x[2] = -0.0;
    x[3] = std::numeric_limits<double>::infinity();
    Tensor from = floats(x), to = tensor(Doubles(x.size(), 9)), back = floats(Doubles(x.size(), 9));
    ASSERT_OK(table->cast(nullptr, to.get(), type, from.get(), DTYPE_F32, int64_t(x.size())));
    ASSERT_OK(table->cast(nullptr, back.get(), DTYPE_F32, to.get(), type, int64_t(x.size())));
    Doubles got = back.values();
    for (size_t i = 0; i < x.size(); i++)
        ASSERT_EQ(got[i], type == DTYPE_F32 ? x[i] : double(bf16_of(x[i]))) << i;
    if (type == DTYPE_BF16) {
        EXPECT_EQ(got[0], 1.0);
        EXPECT_EQ(got[1], 1.015625);
    }
    float nan = std::nanf("");
    from.upload(&nan, 4);
    ASSERT_OK(table->cast(nullptr, to.get(), type, from.get(), DTYPE_F32, 1));
    EXPECT_TRUE(std::isnan(to.values()[0]));
}

TEST_P(TensorOps, AddsScaled)
{
    for (dtype x_type : {DTYPE_F32, DTYPE_BF16})
        for (size_t n : {size_t{1}, size_t{513}, size_t{70001}}) {
            Doubles x = random_values(n, 2, x_type), y = random(n, 3), want = y;
            Tensor dx(table, x_type, x), dy = tensor(y);
            ASSERT_OK(table->add(nullptr, dy.get(), type, dx.get(), x_type, -0.75f, int64_t(n)));
            for (size_t i = 0; i < n; i++)
                want[i] += -0.75 * x[i];
            expect_close(dy.values(), want, type);
        }
}

// Memory that begins at no multiple of 16 bytes, and lengths at the edges of vectors and blocks.
TEST_P(TensorOps, CastsAndAddsFromAnyPlaceToAny)
{
    for (size_t n : {1, 3, 7, 8, 9, 255, 2047, 2048, 2049})
        for (size_t skip : {0, 1, 4, 8})
            for (dtype x_type : {DTYPE_F32, DTYPE_BF16}) {
                Doubles x = random_values(n + skip + 1, 6, x_type), want(n + 9, 5.0);
                Tensor from(table, x_type, x), to = tensor(want);
                ASSERT_OK(table->cast(nullptr, to.at(8), type, from.at(skip), x_type, int64_t(n)));
                for (size_t i = 0; i < n; i++)
                    want[8 + i] = type == DTYPE_F32 ? x[skip + i] : double(bf16_of(x[skip + i]));
                ASSERT_EQ(to.values(), want) << n << " from " << skip;
                ASSERT_OK(table->add(nullptr, to.at(8), type, from.at(skip), x_type, 0.5f, int64_t(n)));
                for (size_t i = 0; i < n; i++)
                    want[8 + i] += 0.5 * x[skip + i];
                expect_close(to.values(), want, type);
                EXPECT_EQ(to.values().back(), 5.0);
            }
}

TEST_P(TensorOps, NothingIsDoneToNothing)
{
    Tensor x = tensor({1, 2}), out = floats({3, 4});
    Buffer rows = upload_array(table, std::vector<int32_t>{0, 0});
    ASSERT_OK(table->cast(nullptr, out.get(), DTYPE_F32, x.get(), type, 0));
    ASSERT_OK(table->add(nullptr, out.get(), DTYPE_F32, x.get(), type, 1, 0));
    ASSERT_OK(table->gather_rows(nullptr, out.get(), x.get(), rows.as<int32_t>(), 0, 2, 2, type));
    ASSERT_OK(table->scatter_rows(nullptr, out.get(), x.get(), rows.as<int32_t>(), 0, 2, 2, type));
    ASSERT_OK(table->pool_rows(nullptr, out.as<float>(), x.get(), type, rows.as<int32_t>(), 0, 2, POOL_MEAN));
    EXPECT_EQ(out.values(), (Doubles{3, 4}));
}

TEST_P(TensorOps, GathersAndScattersRows)
{
    struct {
        size_t dim, ld, skip;
    } shapes[] = {{13, 17, 0}, {24, 24, 0},     {24, 25, 0},  {24, 32, 1},
                  {1, 1, 0},   {1032, 1040, 8}, {513, 520, 0}};
    const std::vector<int32_t> rows = {5, 0, 2, 11, 3, 7, 1, 4, 10};
    const size_t n = rows.size();
    Buffer index = upload_array(table, rows);
    for (auto [dim, ld, skip] : shapes) {
        Doubles x = random(skip + 12 * ld, 4);
        Tensor from = tensor(x), to = tensor(Doubles(skip + n * dim, 0)), back = tensor(Doubles(12 * ld, -1));
        ASSERT_OK(table->gather_rows(nullptr, to.at(skip), from.at(skip), index.as<int32_t>(), int64_t(n),
                                     int64_t(dim), int64_t(ld), type));
        ASSERT_OK(table->scatter_rows(nullptr, back.get(), to.at(skip), index.as<int32_t>(), int64_t(n),
                                      int64_t(dim), int64_t(ld), type));
        Doubles got = to.values(), scattered = back.values(), want(12 * ld, -1);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < dim; j++) {
                const size_t at = size_t(rows[i]) * ld + j;
                ASSERT_EQ(got[skip + i * dim + j], x[skip + at]) << dim << " of " << ld;
                want[at] = x[skip + at];
            }
        ASSERT_EQ(scattered, want) << dim << " of " << ld;
    }
}

TEST_P(TensorOps, PoolsSequencesOfAnyLength)
{
    for (int64_t dim : {1, 700, 1031}) {
        std::vector<int32_t> cu = {0, 1, 1, 34, 40, 48, 57};
        const size_t n = cu.size() - 1, width = size_t(dim);
        Doubles x = random(size_t(cu.back()) * width, 5);
        Tensor in = tensor(x), out = floats(Doubles(n * width, 9));
        Buffer lengths = upload_array(table, cu);
        for (pooling how : {POOL_MEAN, POOL_LAST}) {
            ASSERT_OK(table->pool_rows(nullptr, out.as<float>(), in.get(), type, lengths.as<int32_t>(),
                                       int64_t(n), dim, how));
            Doubles want(n * width, 0.0); // the empty sequence stays zero
            for (size_t s = 0; s < n; s++) {
                const int32_t first = how == POOL_LAST ? std::max(cu[s], cu[s + 1] - 1) : cu[s];
                for (size_t j = 0; j < width && first < cu[s + 1]; j++) {
                    double sum = 0; // in order of the rows, to the bit
                    for (int32_t t = first; t < cu[s + 1]; t++)
                        sum += x[size_t(t) * width + j];
                    want[s * width + j] = double(float(sum * (1.0 / (cu[s + 1] - first))));
                }
            }
            EXPECT_EQ(out.values(), want);
        }
    }
}
