// embedding: rows by token id, and the table's gradient.
#include "fixture.h"

class Embedding : public DeviceTest
{
};
INSTANTIATE_TEST_SUITE_P(Tables, Embedding, testing::ValuesIn(settings(&ops::embedding_forward)),
                         setting_name);

TEST_P(Embedding, TakesRowsAndConverts)
{
    const size_t vocab = 50;
    std::vector<int32_t> ids = {0, 49, 7, 7, 23};
    Buffer index = upload_array(table, ids);
    for (size_t dim : {1, 64, 577, 2056})
        for (dtype table_type : {DTYPE_F32, DTYPE_BF16}) {
            Doubles rows = random_values(vocab * dim, 1, table_type), want;
            Tensor weights(table, table_type, rows), out = tensor(Doubles(ids.size() * dim, 9));
            ASSERT_OK(table->embedding_forward(nullptr, out.get(), type, weights.get(), table_type,
                                               index.as<int32_t>(), int64_t(ids.size()), int64_t(dim), 1));
            for (int32_t id : ids)
                for (size_t j = 0; j < dim; j++) {
                    double x = rows[size_t(id) * dim + j];
                    want.push_back(type == DTYPE_F32 ? x : double(bf16_of(x)));
                }
            EXPECT_EQ(out.values(), want) << dim;
        }
}

TEST_P(Embedding, SumsTheGradientOfRepeatedIds)
{
    const size_t vocab = 17, dim = 601, n = 123;
    std::vector<int32_t> ids(n);
    for (size_t i = 0; i < n; i++)
        ids[i] = int32_t(i * i % vocab);
    Doubles dout = random(n * dim, 2), start = random_values(vocab * dim, 3), want = start;
    Buffer index = upload_array(table, ids),
           workspace(table, table->embedding_backward_workspace(n, vocab, dim));
    Tensor gradient = tensor(dout);
    std::vector<uint8_t> first;
    for (int run = 0; run < 2; run++) {
        Tensor dtable = floats(start);
        ASSERT_OK(table->embedding_backward(nullptr, dtable.as<float>(), gradient.get(), type,
                                            index.as<int32_t>(), n, vocab, dim, -1, 1, workspace.get()));
        if (run == 0) {
            first = dtable.bytes();
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < dim; j++)
                    want[size_t(ids[i]) * dim + j] += dout[i * dim + j];
            expect_close(dtable.values(), want, DTYPE_F32);
        } else {
            EXPECT_EQ(dtable.bytes(), first);
        }
    }
}

// In order of the rows: to the bit what one addition after another gives. Tables of one, two and three digits of the
// sort, ids with no row, one and hundreds, rows at the edges of warps, blocks and vectors.
TEST_P(Embedding, AddsRowsInTheirOrder)
{
    struct {
        size_t n, vocab, dim;
        unsigned often; // in ten rows
    } shapes[] = {{1, 1, 4, 0},       {32, 3, 132, 0},      {33, 511, 8, 5},  {513, 512, 1, 9},
                  {1100, 600, 12, 6}, {1537, 300000, 4, 3}, {65, 40, 131, 8}, {200, 1, 5, 0}};
    for (auto [n, vocab, dim, often] : shapes) {
        std::mt19937 engine(7);
        std::vector<int32_t> ids(n);
        for (int32_t &id : ids)
            id = int32_t(engine() % 10 < often ? vocab / 2 : engine() % vocab);
        const int32_t skip = vocab > 1 ? int32_t(vocab - 1) : -1;
        ids[n - 1] = vocab > 1 ? skip : 0;
        Doubles dout = random(n * dim, 2), start = random_values(vocab * dim, 3), want = start;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < dim && ids[i] != skip; j++) {
                double &sum = want[size_t(ids[i]) * dim + j];
                sum = double(float(sum) + float(dout[i * dim + j]));
            }
        Buffer index = upload_array(table, ids),
               workspace(table,
                         table->embedding_backward_workspace(int64_t(n), int64_t(vocab), int64_t(dim)));
        Tensor gradient = tensor(dout), dtable = floats(start);
        ASSERT_OK(table->embedding_backward(nullptr, dtable.as<float>(), gradient.get(), type,
                                            index.as<int32_t>(), int64_t(n), int64_t(vocab), int64_t(dim),
                                            skip, 1, workspace.get()));
        ASSERT_EQ(dtable.values(), want) << n << " rows of a table of " << vocab;
    }
}

TEST_P(Embedding, NothingIsDoneToNothing)
{
    Buffer index = upload_array(table, std::vector<int32_t>{0}),
           workspace(table, table->embedding_backward_workspace(0, 1, 2));
    Tensor x = tensor({1, 2}), out = tensor({3, 4}), dtable = floats({5, 6});
    ASSERT_OK(
        table->embedding_forward(nullptr, out.get(), type, x.get(), type, index.as<int32_t>(), 0, 2, 1));
    ASSERT_OK(table->embedding_backward(nullptr, dtable.as<float>(), x.get(), type, index.as<int32_t>(), 0, 1,
                                        2, -1, 1, workspace.get()));
    EXPECT_EQ(out.values(), (Doubles{3, 4}));
    EXPECT_EQ(dtable.values(), (Doubles{5, 6}));
}

TEST_P(Embedding, LeavesTheGradientOfOneIdOut)
{
    std::vector<int32_t> ids = {3, 1, 3, 4};
    Buffer index = upload_array(table, ids), workspace(table, table->embedding_backward_workspace(4, 5, 2));
    Tensor gradient = tensor(Doubles{1, 2, 3, 4, 5, 6, 7, 8}), dtable = floats(Doubles(10, 1));
    ASSERT_OK(table->embedding_backward(nullptr, dtable.as<float>(), gradient.get(), type,
                                        index.as<int32_t>(), 4, 5, 2, 3, 1, workspace.get()));
    EXPECT_EQ(dtable.values(), (Doubles{1, 1, 4, 5, 1, 1, 1, 1, 8, 9}));
}

TEST_P(Embedding, RefusesIdsOutsideTheTable)
{
    for (int32_t bad : {-1, 5})
        for (size_t n : {2, 700}) {
            std::vector<int32_t> ids(n, 0);
            ids[n - 2] = 4;
            ids[n - 1] = bad;
            Buffer index = upload_array(table, ids),
                   workspace(table, table->embedding_backward_workspace(int64_t(n), 5, 3));
            Tensor gradient = tensor(Doubles(n * 3, 1)), dtable = floats(Doubles(15, 0));
            EXPECT_EQ(table->embedding_backward(nullptr, dtable.as<float>(), gradient.get(), type,
                                                index.as<int32_t>(), int64_t(n), 5, 3, -1, 1,
                                                workspace.get()),
                      SC_INTERNAL);
            EXPECT_NE(std::string(sc_last_error()).find("row " + std::to_string(n - 1)), std::string::npos);
        }
}

// What is scaled is rounded once; the gradient is one fused step after another.
TEST_P(Embedding, ScalesRows)
{
    const float scale = 55.5f;
    const std::vector<int32_t> ids = {3, 0, 3, 2, 3};
    for (size_t dim : {1, 33, 64, 1040})
        for (dtype table_type : {DTYPE_F32, DTYPE_BF16}) {
            const Doubles rows = random_values(4 * dim, 5, table_type), dout = random(ids.size() * dim, 6);
            Doubles want, grads(4 * dim, 0.25);
            for (size_t i = 0; i < ids.size(); i++)
                for (size_t j = 0; j < dim; j++) {
                    const float x = scale * float(rows[size_t(ids[i]) * dim + j]);
                    double &sum = grads[size_t(ids[i]) * dim + j];
                    want.push_back(double(type == DTYPE_F32 ? x : bf16_of(double(x))));
                    sum = ids[i] == 2 ? sum : double(std::fma(scale, float(dout[i * dim + j]), float(sum)));
                }
            Buffer index = upload_array(table, ids),
                   workspace(table, table->embedding_backward_workspace(5, 4, int64_t(dim)));
            Tensor weights(table, table_type, rows), out = tensor(Doubles(want.size(), 9)),
                                                     gradient = tensor(dout),
                                                     dtable = floats(Doubles(4 * dim, 0.25));
            ASSERT_OK(table->embedding_forward(nullptr, out.get(), type, weights.get(), table_type,
                                               index.as<int32_t>(), 5, int64_t(dim), scale));
            EXPECT_EQ(out.values(), want) << dim;
            ASSERT_OK(table->embedding_backward(nullptr, dtable.as<float>(), gradient.get(), type,
                                                index.as<int32_t>(), 5, 4, int64_t(dim), 2, scale,
                                                workspace.get()));
            EXPECT_EQ(dtable.values(), grads) << dim;
        }
}
