// optimizer: AdamW and the norm of a gradient.
#include "fixture.h"

class Optimizer : public DeviceTest
{
};
INSTANTIATE_TEST_SUITE_P(Tables, Optimizer, testing::ValuesIn(settings(&ops::adamw, false)), setting_name);

TEST_P(Optimizer, TenStepsEqualTheFormula)
{
    for (size_t n : {size_t{1}, size_t{9001}})
        for (double decay : {0.0, 0.1}) {
            const double lr = double(1e-2f), b1 = double(0.9f), b2 = double(0.999f), eps = double(1e-8f),
                         scale = 0.5, wd = double(float(decay));
            Doubles w = random(n, 1), m(n, 0), v(n, 0);
            Tensor d_w = floats(w), d_m = floats(m), d_v = floats(v), half(table, DTYPE_BF16, Doubles(n, 0));
            for (int64_t step = 1; step <= 10; step++) {
                Doubles g = random(n, unsigned(step) + 10, 0.1);
                if (step == 4)
                    g.assign(n, 0.0);
                Tensor d_g = floats(g);
                adamw_options options = {float(lr),    float(b1), float(b2),   float(eps),
                                         float(decay), step,      float(scale)};
                ASSERT_OK(table->adamw(nullptr, d_w.as<float>(), half.get(), d_g.as<float>(), d_m.as<float>(),
                                       d_v.as<float>(), int64_t(n), &options));
                for (size_t i = 0; i < n; i++) {
                    double x = g[i] * scale;
                    m[i] = b1 * m[i] + (1 - b1) * x;
                    v[i] = b2 * v[i] + (1 - b2) * x * x;
                    double m_hat = m[i] / (1 - std::pow(b1, double(step)));
                    double v_hat = v[i] / (1 - std::pow(b2, double(step)));
                    w[i] = w[i] - lr * wd * w[i] - lr * m_hat / (std::sqrt(v_hat) + eps);
                }
            }
            expect_close(d_w.values(), w, DTYPE_F32);
            expect_close(d_m.values(), m, DTYPE_F32);
            expect_close(d_v.values(), v, DTYPE_F32);
            Doubles master = d_w.values(), rounded = half.values();
            for (size_t i = 0; i < n; i++)
                ASSERT_EQ(rounded[i], double(bf16_of(master[i])));
        }
}

TEST_P(Optimizer, WithoutGradientNothingMovesAndStepZeroIsRefused)
{
    Doubles w = random(100, 2);
    Tensor d_w = floats(w), zero = floats(Doubles(100, 0)), m = floats(Doubles(100, 0)),
           v = floats(Doubles(100, 0));
    adamw_options options = {1e-2f, 0.9f, 0.999f, 1e-8f, 0, 1, 1};
    ASSERT_OK(table->adamw(nullptr, d_w.as<float>(), nullptr, zero.as<float>(), m.as<float>(), v.as<float>(),
                           100, &options));
    EXPECT_EQ(d_w.values(), w);
    options.step = 0;
    EXPECT_EQ(table->adamw(nullptr, d_w.as<float>(), nullptr, zero.as<float>(), m.as<float>(), v.as<float>(),
                           100, &options),
              SC_INTERNAL);
}

// Lengths at the edges of vectors and blocks, from memory that begins anywhere: what one step does to an element does not
// depend on where it is.
TEST_P(Optimizer, AStepFromAnyPlace)
{
    const adamw_options options = {1e-2f, 0.9f, 0.99f, 1e-8f, 0.1f, 3, 0.5f};
    for (size_t n : {0, 1, 3, 4, 5, 1023, 1024, 1025})
        for (size_t skip : {0, 1}) {
            Doubles w = random(n + skip + 1, 1), g = random(n + skip + 1, 2), m = random(n + skip + 1, 3),
                    v = random(n + skip + 1, 4);
            for (double &x : v)
                x = std::fabs(x);
            Tensor d_w = floats(w), d_g = floats(g), d_m = floats(m), d_v = floats(v),
                   half(table, DTYPE_BF16, w);
            ASSERT_OK(table->adamw(nullptr, static_cast<float *>(d_w.at(skip)), half.at(skip),
                                   static_cast<float *>(d_g.at(skip)), static_cast<float *>(d_m.at(skip)),
                                   static_cast<float *>(d_v.at(skip)), int64_t(n), &options));
            const double b1 = double(0.9f), b2 = double(0.99f);
            for (size_t i = skip; i < skip + n; i++) {
                m[i] = b1 * m[i] + (1 - b1) * 0.5 * g[i];
                v[i] = b2 * v[i] + (1 - b2) * 0.25 * g[i] * g[i];
                w[i] -=
                    double(1e-2f) * (double(0.1f) * w[i] + m[i] / (1 - b1 * b1 * b1) /
                                                               (std::sqrt(v[i] / (1 - b2 * b2 * b2)) + 1e-8));
            }
            expect_close(d_w.values(), w, DTYPE_F32);
            expect_close(d_m.values(), m, DTYPE_F32);
            expect_close(d_v.values(), v, DTYPE_F32);
            Doubles master = d_w.values(), rounded = half.values();
            for (size_t i = 0; i < rounded.size(); i++)
                ASSERT_EQ(rounded[i], double(bf16_of(master[i])));
        }
}

TEST_P(Optimizer, SquareSumIsExactAndRepeatable)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const size_t most = 300001; // more blocks than one, and minutes less
#else
    const size_t most = 4200001; // more than all blocks take at once
#endif
    for (size_t n : {size_t{0}, size_t{1}, size_t{4095}, size_t{4097}, most})
        for (size_t skip : {0, 1}) {
            if (skip > 0 && n > 5000) // a second run of it costs the emulator seconds
                continue;
            Doubles x = random(n + skip, 3, 1e3);
            Tensor device_x = floats(x);
            const float *from = static_cast<float *>(device_x.at(skip));
            double want = dot_of(x, x) - (skip ? x[0] * x[0] : 0), got = -1, again = -2;
            ASSERT_OK(table->square_sum(nullptr, &got, from, int64_t(n)));
            ASSERT_OK(table->square_sum(nullptr, &again, from, int64_t(n)));
            EXPECT_NEAR(got, want, 1e-12 * want);
            EXPECT_EQ(got, again);
        }
    Tensor large = floats({1e30, 1e30}); // the square leaves the range of float
    double got = 0;
    ASSERT_OK(table->square_sum(nullptr, &got, large.as<float>(), 2));
    EXPECT_NEAR(got, 2e60, 1e54);
}
