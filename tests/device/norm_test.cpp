// norm: RMSNorm and its gradients.
#include "fixture.h"

class Norm : public DeviceTest
{
  protected:
    static Doubles twin(const Doubles &x, const Doubles &w, double eps, Doubles *rstd = nullptr)
    {
        const size_t dim = w.size();
        Doubles y(x.size());
        for (size_t at = 0; at < x.size(); at += dim) {
            double squares = 0;
            for (size_t i = 0; i < dim; i++)
                squares += x[at + i] * x[at + i];
            double r = 1 / std::sqrt(squares / double(dim) + eps);
            if (rstd)
                rstd->push_back(r);
            for (size_t i = 0; i < dim; i++)
                y[at + i] = x[at + i] * r * w[i];
        }
        return y;
    }
};
INSTANTIATE_TEST_SUITE_P(Tables, Norm, testing::ValuesIn(settings(&ops::rmsnorm_forward)), setting_name);

TEST_P(Norm, ForwardEqualsTheFormula)
{
    for (size_t dim : {1, 7, 64, 576, 2305})
        for (size_t n : {1, 33})
            for (dtype w_type : {DTYPE_F32, DTYPE_BF16})
                for (double spread : {1e-4, 1.0, 1e4}) {
                    Doubles x = random(n * dim, 1, spread), w = random_values(dim, 2, w_type), rstd;
                    Doubles want = twin(x, w, 1e-5, &rstd);
                    Tensor dx = tensor(x), dw(table, w_type, w), y = tensor(x), r = floats(Doubles(n, 0));
                    ASSERT_OK(table->rmsnorm_forward(nullptr, y.get(), r.as<float>(), dx.get(), dw.get(),
                                                     type, w_type, int64_t(n), int64_t(dim), 1e-5f));
                    expect_close(y.values(), want, type);
                    expect_close(r.values(), rstd, DTYPE_F32);
                    Tensor again = tensor(x);
                    ASSERT_OK(table->rmsnorm_forward(nullptr, again.get(), nullptr, dx.get(), dw.get(), type,
                                                     w_type, int64_t(n), int64_t(dim), 1e-5f));
                    EXPECT_EQ(again.bytes(), y.bytes());
                }
}

TEST_P(Norm, ARowOfZerosStaysZero)
{
    Tensor x = tensor(Doubles(64, 0)), w = tensor(Doubles(64, 3)), y = tensor(Doubles(64, 1));
    ASSERT_OK(table->rmsnorm_forward(nullptr, y.get(), nullptr, x.get(), w.get(), type, type, 1, 64, 1e-5f));
    EXPECT_EQ(y.values(), Doubles(64, 0));
}

TEST_P(Norm, BackwardEqualsFiniteDifferences)
{
    for (size_t dim : {1, 9, 70})
        for (size_t n : {1, 40})
            for (bool accumulate : {false, true}) {
                Doubles x = random(n * dim, 3), w = random(dim, 4), dy = random(n * dim, 5), rstd;
                Doubles dx0 = random(n * dim, 6), dw0 = random_values(dim, 7);
                twin(x, w, 1e-5, &rstd);
                Tensor d_x = tensor(x), d_w = tensor(w), d_dy = tensor(dy), d_r = floats(rstd),
                       dx = tensor(dx0), dw = floats(dw0);
                Buffer workspace(table, table->rmsnorm_backward_workspace(int64_t(n), int64_t(dim)));
                ASSERT_OK(table->rmsnorm_backward(nullptr, dx.get(), accumulate, dw.as<float>(), d_dy.get(),
                                                  d_x.get(), d_w.get(), d_r.as<float>(), type, type,
                                                  int64_t(n), int64_t(dim), workspace.get()));
                auto loss = [&] { return dot_of(dy, twin(x, w, 1e-5)); };
                Doubles want = gradient_of(loss, x, 1e-6);
                if (dim > 1) // the slope of a single number is what rounding leaves of 1 - 1
                    expect_close(dx.values(), accumulate ? plus(want, dx0) : want, type, 2, "dx");
                expect_close(dw.values(), plus(gradient_of(loss, w), dw0), DTYPE_F32, 2, "dw");
            }
}

TEST_P(Norm, BackwardWithoutWeightsAndSameBytesTwice)
{
    const int64_t n = 1000, dim = 576;
    Doubles x = random(size_t(n * dim), 8), w = random(dim, 9), rstd;
    twin(x, w, 1e-5, &rstd);
    Tensor d_x = tensor(x), d_w = tensor(w), dy = tensor(random(size_t(n * dim), 10)), r = floats(rstd);
    Buffer workspace(table, table->rmsnorm_backward_workspace(n, dim));
    std::vector<uint8_t> first_dx, first_dw;
    for (int run = 0; run < 3; run++) {
        Tensor dx = tensor(Doubles(x.size(), 0)), dw = floats(Doubles(dim, 0));
        ASSERT_OK(table->rmsnorm_backward(nullptr, dx.get(), false, run < 2 ? dw.as<float>() : nullptr,
                                          dy.get(), d_x.get(), d_w.get(), r.as<float>(), type, type, n, dim,
                                          workspace.get()));
        if (run == 0) {
            first_dx = dx.bytes();
            first_dw = dw.bytes();
        }
        EXPECT_EQ(dx.bytes(), first_dx);
        if (run == 1) {
            EXPECT_EQ(dw.bytes(), first_dw);
        }
    }
}
