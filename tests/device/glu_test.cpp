// glu: gated linear units.
#include "fixture.h"

class Glu : public DeviceTest
{
  protected:
    static double act(double x, activation kind)
    {
        if (kind == ACT_SILU)
            return x / (1 + std::exp(-x));
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    }
    Doubles gates(size_t n) const
    {
        Doubles x = random(n, 1, 3.0);
        const double extremes[] = {0, -0.0, 1e-6, 40, -40, 90, -90, 200, -200, 1e4, -1e4};
        for (size_t i = 0; i < std::size(extremes) && i < n; i++)
            x[i] = type == DTYPE_F32 ? double(float(extremes[i])) : double(bf16_of(extremes[i]));
        return x;
    }
};
INSTANTIATE_TEST_SUITE_P(Tables, Glu, testing::ValuesIn(settings(&ops::glu_forward)), setting_name);

// relative to each value, for the extremes would hide the rest
static void expect_each_close(const Doubles &got, const Doubles &want, dtype type)
{
    for (size_t i = 0; i < want.size(); i++) {
        double allowed = (type == DTYPE_F32 ? 1e-5 : 0.005) * std::fabs(want[i]) + 1e-5;
        ASSERT_NEAR(got[i], want[i], allowed) << i;
    }
}

TEST_P(Glu, ForwardEqualsTheFormula)
{
    for (activation kind : {ACT_SILU, ACT_GELU_TANH})
        for (size_t n : {1, 7, 8, 9, 511, 2047, 2048, 2049, 100003}) {
            Doubles gate = gates(n), up = random(n, 2), want(n);
            for (size_t i = 0; i < n; i++)
                want[i] = act(gate[i], kind) * up[i];
            Tensor g = tensor(gate), u = tensor(up), y = tensor(up);
            ASSERT_OK(table->glu_forward(nullptr, y.get(), g.get(), u.get(), type, int64_t(n), kind));
            expect_each_close(y.values(), want, type);
            ASSERT_OK(table->glu_forward(nullptr, g.get(), g.get(), u.get(), type, int64_t(n), kind));
            EXPECT_EQ(g.bytes(), y.bytes()) << "in place";
        }
}

// From and to memory that begins at no multiple of 16 bytes; a NaN stays one, and where it is.
TEST_P(Glu, AnyPlaceAndNaN)
{
    const size_t n = 700;
    for (activation kind : {ACT_SILU, ACT_GELU_TANH})
        for (size_t skip : {1, 4, 8}) {
            Doubles gate = random(n + skip, 1), up = random(n + skip, 2), dy = random(n + skip, 5);
            gate[skip + 33] = std::nan("");
            Tensor g = tensor(gate), u = tensor(up), d = tensor(dy), y = tensor(Doubles(n + skip, 2)),
                   dg = tensor(Doubles(n + skip, 2)), du = tensor(Doubles(n + skip, 2));
            ASSERT_OK(table->glu_forward(nullptr, y.at(skip), g.at(skip), u.at(skip), type, n, kind));
            ASSERT_OK(table->glu_backward(nullptr, dg.at(skip), du.at(skip), d.at(skip), g.at(skip),
                                          u.at(skip), type, n, kind));
            Doubles got = y.values(), got_gate = dg.values(), got_up = du.values();
            for (size_t i = 0; i < n + skip; i++) {
                const double a = act(gate[i], kind), h = 1e-5;
                const double slope = (act(gate[i] + h, kind) - act(gate[i] - h, kind)) / (2 * h);
                const double want[3] = {a * up[i], dy[i] * up[i] * slope, dy[i] * a};
                const double results[3] = {got[i], got_gate[i], got_up[i]};
                for (int k = 0; k < 3; k++)
                    if (i < skip)
                        ASSERT_EQ(results[k], 2);
                    else if (i == skip + 33)
                        ASSERT_TRUE(std::isnan(results[k]));
                    else
                        ASSERT_NEAR(results[k], want[k],
                                    (type == DTYPE_F32 ? 1e-5 : 0.005) * std::fabs(want[k]) + 1e-5)
                            << i << " of result " << k;
            }
            ASSERT_OK(table->glu_forward(nullptr, y.get(), g.get(), u.get(), type, 0, kind));
            ASSERT_OK(
                table->glu_backward(nullptr, dg.get(), du.get(), d.get(), g.get(), u.get(), type, 0, kind));
            EXPECT_EQ(du.values()[0], 2);
        }
}

TEST_P(Glu, BackwardEqualsFiniteDifferences)
{
    for (activation kind : {ACT_SILU, ACT_GELU_TANH}) {
        const size_t n = 2000;
        Doubles gate = gates(n), up = random(n, 3), dy = random(n, 4), want_gate(n), want_up(n);
        for (size_t i = 0; i < n; i++) {
            const double h = 1e-5;
            want_gate[i] = dy[i] * up[i] * (act(gate[i] + h, kind) - act(gate[i] - h, kind)) / (2 * h);
            want_up[i] = dy[i] * act(gate[i], kind);
        }
        Tensor g = tensor(gate), u = tensor(up), d = tensor(dy), dg = tensor(up), du = tensor(up);
        ASSERT_OK(table->glu_backward(nullptr, dg.get(), du.get(), d.get(), g.get(), u.get(), type, n, kind));
        expect_each_close(dg.values(), want_gate, type);
        expect_each_close(du.values(), want_up, type);
        ASSERT_OK(table->glu_backward(nullptr, g.get(), u.get(), d.get(), g.get(), u.get(), type, n, kind));
        EXPECT_EQ(g.bytes(), dg.bytes()) << "in place";
        EXPECT_EQ(u.bytes(), du.bytes()) << "in place";
    }
}
