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

TEST_P(TensorOps, GathersAndScattersRows)
{
    const int64_t dim = 13, ld = 17, n = 4;
    std::vector<int32_t> rows = {5, 0, 2, 3};
    Doubles x = random(6 * ld, 4);
    Tensor from = tensor(x), to = tensor(Doubles(n * dim, 0)), back = tensor(Doubles(6 * ld, -1));
    Buffer index = upload_array(table, rows);
    ASSERT_OK(table->gather_rows(nullptr, to.get(), from.get(), index.as<int32_t>(), n, dim, ld, type));
    ASSERT_OK(table->scatter_rows(nullptr, back.get(), to.get(), index.as<int32_t>(), n, dim, ld, type));
    Doubles got = to.values(), scattered = back.values(), want(6 * ld, -1);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < dim; j++) {
            EXPECT_EQ(got[size_t(i * dim + j)], x[size_t(rows[size_t(i)] * ld + j)]);
            want[size_t(rows[size_t(i)] * ld + j)] = x[size_t(rows[size_t(i)] * ld + j)];
        }
    EXPECT_EQ(scattered, want);
}

TEST_P(TensorOps, PoolsSequencesOfAnyLength)
{
    const int64_t dim = 700;
    std::vector<int32_t> cu = {0, 1, 1, 34, 40};
    Doubles x = random(size_t(cu.back() * dim), 5);
    Tensor in = tensor(x), out = floats(Doubles(4 * dim, 9));
    Buffer lengths = upload_array(table, cu);
    for (pooling how : {POOL_MEAN, POOL_LAST}) {
        ASSERT_OK(
            table->pool_rows(nullptr, out.as<float>(), in.get(), type, lengths.as<int32_t>(), 4, dim, how));
        Doubles want(4 * dim, 0.0); // the empty sequence stays zero
        for (size_t s = 0; s < 4; s++)
            for (int32_t t = how == POOL_LAST ? std::max(cu[s], cu[s + 1] - 1) : cu[s]; t < cu[s + 1]; t++)
                for (size_t j = 0; j < dim; j++)
                    want[s * dim + j] += x[size_t(t) * dim + j] / (how == POOL_LAST ? 1 : cu[s + 1] - cu[s]);
        expect_close(out.values(), want, DTYPE_F32);
    }
}
