// bias: rows of one vector, and the sums of columns.
#include "fixture.h"

class Bias : public DeviceTest
{
};
INSTANTIATE_TEST_SUITE_P(Tables, Bias, testing::ValuesIn(settings(&ops::bias_forward)), setting_name);

TEST_P(Bias, EveryRowIsTheBias)
{
    for (size_t dim : {1, 7, 64, 577})
        for (size_t n : {1, 5})
            for (size_t skip : {0, 1}) { // memory that begins anywhere
                const Doubles b = random(dim, 1), before = random(skip + n * dim, 2);
                Doubles want = before;
                for (size_t i = 0; i < n * dim; i++)
                    want[skip + i] = b[i % dim];
                Tensor d_b = tensor(b), y = tensor(before);
                ASSERT_OK(
                    table->bias_forward(nullptr, y.at(skip), d_b.get(), type, int64_t(n), int64_t(dim)));
                EXPECT_EQ(y.values(), want) << n << " rows of " << dim;
            }
}

// The loss sum(dy * (b + anything)) falls with b as the columns' sums say.
TEST_P(Bias, GradientIsTheSumOfRows)
{
    struct {
        size_t n, dim, skip;
    } shapes[] = {{1, 1, 0}, {3, 7, 1}, {40, 64, 0}, {257, 130, 0}, {600, 65, 0}, {1100, 2, 0}};
    for (auto [n, dim, skip] : shapes) {
        const Doubles dy = random(skip + n * dim, 3), start = random_values(dim, 4);
        Doubles want = start;
        for (size_t i = 0; i < n * dim; i++)
            want[i % dim] += dy[skip + i];
        Tensor d_dy = tensor(dy), db = floats(start), again = floats(start);
        ASSERT_OK(
            table->bias_backward(nullptr, db.as<float>(), d_dy.at(skip), type, int64_t(n), int64_t(dim)));
        ASSERT_OK(
            table->bias_backward(nullptr, again.as<float>(), d_dy.at(skip), type, int64_t(n), int64_t(dim)));
        expect_close(db.values(), want, DTYPE_F32);
        EXPECT_EQ(again.bytes(), db.bytes());
    }
}

TEST_P(Bias, NothingIsDoneToNothing)
{
    Tensor x = tensor({1, 2}), y = tensor({3, 4}), db = floats({5, 6});
    ASSERT_OK(table->bias_forward(nullptr, y.get(), x.get(), type, 0, 2));
    ASSERT_OK(table->bias_backward(nullptr, db.as<float>(), x.get(), type, 0, 2));
    EXPECT_EQ(y.values(), (Doubles{3, 4}));
    EXPECT_EQ(db.values(), (Doubles{5, 6}));
}
