// embedding: rows by token id, and the table's gradient.
#include "fixture.h"

class Embedding : public DeviceTest
{
};
INSTANTIATE_TEST_SUITE_P(Tables, Embedding, testing::ValuesIn(settings(&ops::embedding_forward)),
                         setting_name);

TEST_P(Embedding, TakesRowsAndConverts)
{
    const size_t vocab = 50, dim = 577;
    std::vector<int32_t> ids = {0, 49, 7, 7, 23};
    Buffer index = upload_array(table, ids);
    for (dtype table_type : {DTYPE_F32, DTYPE_BF16}) {
        Doubles rows = random_values(vocab * dim, 1, table_type), want;
        Tensor weights(table, table_type, rows), out = tensor(Doubles(ids.size() * dim, 9));
        ASSERT_OK(table->embedding_forward(nullptr, out.get(), type, weights.get(), table_type,
                                           index.as<int32_t>(), int64_t(ids.size()), dim));
        for (int32_t id : ids)
            for (size_t j = 0; j < dim; j++) {
                double x = rows[size_t(id) * dim + j];
                want.push_back(type == DTYPE_F32 ? x : double(bf16_of(x)));
            }
        EXPECT_EQ(out.values(), want);
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
                                            index.as<int32_t>(), n, vocab, dim, -1, workspace.get()));
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

TEST_P(Embedding, LeavesTheGradientOfOneIdOut)
{
    std::vector<int32_t> ids = {3, 1, 3, 4};
    Buffer index = upload_array(table, ids), workspace(table, table->embedding_backward_workspace(4, 5, 2));
    Tensor gradient = tensor(Doubles{1, 2, 3, 4, 5, 6, 7, 8}), dtable = floats(Doubles(10, 1));
    ASSERT_OK(table->embedding_backward(nullptr, dtable.as<float>(), gradient.get(), type,
                                        index.as<int32_t>(), 4, 5, 2, 3, workspace.get()));
    EXPECT_EQ(dtable.values(), (Doubles{1, 1, 4, 5, 1, 1, 1, 1, 8, 9}));
}

TEST_P(Embedding, RefusesIdsOutsideTheTable)
{
    for (int32_t bad : {-1, 5}) {
        std::vector<int32_t> ids = {0, bad};
        Buffer index = upload_array(table, ids),
               workspace(table, table->embedding_backward_workspace(2, 5, 3));
        Tensor gradient = tensor(Doubles(6, 1)), dtable = floats(Doubles(15, 0));
        EXPECT_EQ(table->embedding_backward(nullptr, dtable.as<float>(), gradient.get(), type,
                                            index.as<int32_t>(), 2, 5, 3, -1, workspace.get()),
                  SC_INTERNAL);
    }
}
