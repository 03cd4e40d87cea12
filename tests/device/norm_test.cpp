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
    // dx and dw by the formula that finite differences have shown to hold
    static Doubles gradient(const Doubles &x, const Doubles &w, const Doubles &dy, const Doubles &rstd,
                            Doubles &dw)
    {
        const size_t dim = w.size();
        Doubles dx(x.size());
        for (size_t row = 0; row < rstd.size(); row++) {
            const double r = rstd[row];
            double dot = 0;
            for (size_t i = 0; i < dim; i++) {
                dot += dy[row * dim + i] * w[i] * x[row * dim + i];
                dw[i] += dy[row * dim + i] * x[row * dim + i] * r;
            }
            for (size_t i = 0; i < dim; i++)
                dx[row * dim + i] =
                    r * dy[row * dim + i] * w[i] - x[row * dim + i] * dot / double(dim) * r * r * r;
        }
        return dx;
    }
};
INSTANTIATE_TEST_SUITE_P(Tables, Norm, testing::ValuesIn(settings(&ops::rmsnorm_forward)), setting_name);

TEST_P(Norm, ForwardEqualsTheFormula)
{
    for (size_t dim : {1, 7, 64, 576, 2305})
        for (size_t n :
             {size_t{1}, dim < 1000 ? size_t{33} : size_t{2}}) // wide blocks cost the emulator much
            for (dtype w_type : {DTYPE_F32, DTYPE_BF16})
                for (double spread : {1e-4, 1.0, 1e4}) {
                    Doubles x = random(n * dim, 1, spread), w = random_values(dim, 2, w_type), rstd;
                    Doubles want = twin(x, w, 1e-5, &rstd);
                    Tensor dx = tensor(x), dw(table, w_type, w), y = tensor(x), r = floats(Doubles(n, 0));
                    ASSERT_OK(table->rmsnorm_forward(nullptr, y.get(), r.as<float>(), dx.get(), dw.get(),
                                                     type, w_type, int64_t(n), int64_t(dim), 1e-5f, 0));
                    expect_close(y.values(), want, type);
                    expect_close(r.values(), rstd, DTYPE_F32);
                    Tensor again = tensor(x);
                    ASSERT_OK(table->rmsnorm_forward(nullptr, again.get(), nullptr, dx.get(), dw.get(), type,
                                                     w_type, int64_t(n), int64_t(dim), 1e-5f, 0));
                    EXPECT_EQ(again.bytes(), y.bytes());
                }
}

TEST_P(Norm, ARowOfZerosStaysZero)
{
    Tensor x = tensor(Doubles(64, 0)), w = tensor(Doubles(64, 3)), y = tensor(Doubles(64, 1));
    ASSERT_OK(
        table->rmsnorm_forward(nullptr, y.get(), nullptr, x.get(), w.get(), type, type, 1, 64, 1e-5f, 0));
    EXPECT_EQ(y.values(), Doubles(64, 0));
}

// Rows wider than what a block of a kernel keeps, many rows, and memory that begins anywhere.
TEST_P(Norm, RowsOfAnyWidthFromAnyPlace)
{
    struct {
        size_t n, dim, skip;
    } shapes[] = {
        {3, 1030, 0},
        {2, 4100, 0},
        {2, 16392, 0},
        {17, 64, 1},
        {35, 64, 8},
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        {32800, 8, 0}, // more rows than runs of the least length, narrow and wide; minutes under a sanitizer
        {8200, 264, 0}
#endif
    };
    for (auto [n, dim, skip] : shapes)
        for (dtype w_type : {DTYPE_F32, DTYPE_BF16}) {
            if (w_type != type && n > 1000) // a second run of it costs the emulator seconds
                continue;
            Doubles x = random(skip + n * dim, 21), w = random_values(dim, 22, w_type),
                    dy = random(skip + n * dim, 23), dx0 = random(skip + n * dim, 24),
                    dw = random_values(dim, 25), rstd;
            Tensor d_x = tensor(x), d_w(table, w_type, w), d_dy = tensor(dy), d_dx = tensor(dx0),
                   d_dw = floats(dw), y = tensor(Doubles(skip + n * dim, 7));
            auto after = [&](const Doubles &all) { return Doubles(all.begin() + long(skip), all.end()); };
            Doubles want = twin(after(x), w, 1e-5, &rstd);
            Tensor d_r = floats(Doubles(n, 0));
            ASSERT_OK(table->rmsnorm_forward(nullptr, y.at(skip), d_r.as<float>(), d_x.at(skip), d_w.get(),
                                             type, w_type, int64_t(n), int64_t(dim), 1e-5f, 0));
            expect_close(after(y.values()), want, type, 1, "y");
            expect_close(d_r.values(), rstd, DTYPE_F32, 1, "rstd");
            want = plus(gradient(after(x), w, after(dy), rstd, dw), after(dx0));
            Buffer workspace(table, table->rmsnorm_backward_workspace(int64_t(n), int64_t(dim)));
            ASSERT_OK(table->rmsnorm_backward(nullptr, d_dx.at(skip), true, d_dw.as<float>(), d_dy.at(skip),
                                              d_x.at(skip), d_w.get(), d_r.as<float>(), type, w_type,
                                              int64_t(n), int64_t(dim), 0, workspace.get()));
            expect_close(after(d_dx.values()), want, type, 1, "dx");
            expect_close(d_dw.values(), dw, DTYPE_F32, 1, "dw");
        }
}

TEST_P(Norm, KeepsNaNInItsRowAndDoesNothingToNothing)
{
    Doubles x = random(3 * 40, 11);
    x[47] = std::nan("");
    Tensor d_x = tensor(x), w = tensor(Doubles(40, 1)), y = tensor(Doubles(120, 3)), dw = floats({1, 2});
    ASSERT_OK(
        table->rmsnorm_forward(nullptr, y.get(), nullptr, d_x.get(), w.get(), type, type, 0, 40, 1e-5f, 0));
    EXPECT_EQ(y.values(), Doubles(120, 3));
    ASSERT_OK(
        table->rmsnorm_forward(nullptr, y.get(), nullptr, d_x.get(), w.get(), type, type, 3, 40, 1e-5f, 0));
    Doubles got = y.values();
    for (size_t i = 0; i < got.size(); i++)
        EXPECT_EQ(std::isnan(got[i]), i / 40 == 1) << i;
    Buffer workspace(table, table->rmsnorm_backward_workspace(0, 2));
    ASSERT_OK(table->rmsnorm_backward(nullptr, y.get(), false, dw.as<float>(), d_x.get(), d_x.get(), w.get(),
                                      dw.as<float>(), type, type, 0, 2, 0, workspace.get()));
    EXPECT_EQ(dw.values(), (Doubles{1, 2}));
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
                                                  int64_t(n), int64_t(dim), 0, workspace.get()));
                auto loss = [&] { return dot_of(dy, twin(x, w, 1e-5)); };
                Doubles want = gradient_of(loss, x, 1e-6);
                if (dim > 1) // the slope of a single number is what rounding leaves of 1 - 1
                    expect_close(dx.values(), accumulate ? plus(want, dx0) : want, type, 2, "dx");
                expect_close(dw.values(), plus(gradient_of(loss, w), dw0), DTYPE_F32, 2, "dw");
            }
}

TEST_P(Norm, BackwardWithoutWeightsAndSameBytesTwice)
{
    const int64_t n = 300, dim = 576;
    Doubles x = random(size_t(n * dim), 8), w = random(dim, 9), rstd;
    twin(x, w, 1e-5, &rstd);
    Tensor d_x = tensor(x), d_w = tensor(w), dy = tensor(random(size_t(n * dim), 10)), r = floats(rstd);
    Buffer workspace(table, table->rmsnorm_backward_workspace(n, dim));
    std::vector<uint8_t> first_dx, first_dw;
    for (int run = 0; run < 3; run++) {
        Tensor dx = tensor(Doubles(x.size(), 0)), dw = floats(Doubles(dim, 0));
        ASSERT_OK(table->rmsnorm_backward(nullptr, dx.get(), false, run < 2 ? dw.as<float>() : nullptr,
                                          dy.get(), d_x.get(), d_w.get(), r.as<float>(), type, type, n, dim,
                                          0, workspace.get()));
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

// Gemma keeps what weights differ from 1. And a row may be normed where it lies.
TEST_P(Norm, AShiftOfTheWeightsInPlace)
{
    const float eps = 1e-5f;
    for (auto [n, dim] : {std::pair<size_t, size_t>{5, 48}, {3, 1030}, {2, 9}, {2, 16392}})
        for (bool accumulate : {false, true}) {
            Doubles x = random(n * dim, 31), w = random(dim, 32), dy = random(n * dim, 33), shifted = w, rstd;
            for (double &v : shifted)
                v += 1;
            const Doubles want = twin(x, shifted, double(eps), &rstd);
            Tensor d_w = tensor(w), y = tensor(x), r = floats(Doubles(n, 0));
            ASSERT_OK(table->rmsnorm_forward(nullptr, y.get(), r.as<float>(), y.get(), d_w.get(), type, type,
                                             int64_t(n), int64_t(dim), eps, 1));
            expect_close(y.values(), want, type, 1, "y");
            expect_close(r.values(), rstd, DTYPE_F32, 1, "rstd");
            Doubles dw = random_values(dim, 34), sums = dw;
            Doubles dx = gradient(x, shifted, dy, rstd, sums);
            Tensor d_x = tensor(x), d_dy = tensor(dy), d_dw = floats(dw), d_dx = tensor(x);
            void *to = accumulate ? d_dx.get() : d_dy.get();
            Buffer workspace(table, table->rmsnorm_backward_workspace(int64_t(n), int64_t(dim)));
            ASSERT_OK(table->rmsnorm_backward(nullptr, to, accumulate, d_dw.as<float>(), d_dy.get(),
                                              d_x.get(), d_w.get(), r.as<float>(), type, type, int64_t(n),
                                              int64_t(dim), 1, workspace.get()));
            expect_close((accumulate ? d_dx : d_dy).values(), accumulate ? plus(dx, x) : dx, type, 2, "dx");
            expect_close(d_dw.values(), sums, DTYPE_F32, 2, "dw");
        }
}
