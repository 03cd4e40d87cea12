// dora: the length of a weight's rows with its adapter, the magnitude of the outputs, and its gradient.
#include <omp.h>

#include "fixture.h"

namespace
{

struct Shape {
    size_t n, in, out, rank;
};

const std::vector<Shape> shapes = {
    {1, 5, 3, 1}, {17, 33, 70, 4}, {9, 600, 129, 16}, {40, 64, 513, 8}, {130, 72, 136, 20}};

Doubles gains_of(const Doubles &magnitude, const Doubles &norm)
{
    Doubles out(magnitude.size());
    for (size_t i = 0; i < out.size(); i++)
        out[i] = norm[i] > 0 ? magnitude[i] / norm[i] : 0;
    return out;
}

// Lengths as the operation gets them: positive, and one row without any.
Doubles lengths(size_t n)
{
    Doubles out = random_values(n, 11);
    for (double &x : out)
        x = static_cast<double>(static_cast<float>(std::fabs(x) + 0.5));
    out[n / 2] = 0;
    return out;
}

} // namespace

class Dora : public DeviceTest
{
};
INSTANTIATE_TEST_SUITE_P(Tables, Dora, testing::ValuesIn(settings(&ops::dora_norm)), setting_name);

TEST_P(Dora, NormIsTheLengthOfTheSum)
{
    for (const Shape &s : shapes) {
        SCOPED_TRACE(testing::Message() << s.out << "x" << s.in << " rank " << s.rank);
        const double scaling = 1.5;
        Doubles w = random(s.out * s.in, 1), a = random_values(s.rank * s.in, 2),
                b = random_values(s.out * s.rank, 3), want(s.out, 0);
        for (size_t o = 0; o < s.out; o++) {
            double squares = 0;
            for (size_t j = 0; j < s.in; j++) {
                double sum = w[o * s.in + j];
                for (size_t r = 0; r < s.rank; r++)
                    sum += scaling * b[o * s.rank + r] * a[r * s.in + j];
                squares += sum * sum;
            }
            want[o] = std::sqrt(squares);
        }
        Tensor d_w = tensor(w), d_a = floats(a), d_b = floats(b), norm = floats(Doubles(s.out, -1));
        Buffer work(table, table->dora_norm_workspace(int64_t(s.in), int64_t(s.out)));
        ASSERT_OK(table->dora_norm(nullptr, norm.as<float>(), d_w.get(), type, d_a.as<float>(),
                                   d_b.as<float>(), int64_t(s.in), int64_t(s.out), int64_t(s.rank),
                                   float(scaling), work.get()));
        expect_close(norm.values(), want, DTYPE_F32);
    }
}

TEST_P(Dora, ForwardScalesTheColumns)
{
    for (const Shape &s : shapes)
        for (bool accumulate : {false, true}) {
            SCOPED_TRACE(testing::Message() << s.n << "x" << s.out << " accumulate " << accumulate);
            Doubles x = random(s.n * s.out, 1), y0 = random(s.n * s.out, 2), m = random_values(s.out, 3),
                    norm = lengths(s.out), gains = gains_of(m, norm), want(x.size());
            for (size_t i = 0; i < x.size(); i++)
                want[i] = (accumulate ? y0[i] : 0) + x[i] * gains[i % s.out];
            Tensor d_x = tensor(x), y = tensor(y0), d_m = floats(m), d_norm = floats(norm);
            ASSERT_OK(table->dora_forward(nullptr, y.get(), accumulate, d_x.get(), type, d_m.as<float>(),
                                          d_norm.as<float>(), int64_t(s.n), int64_t(s.out)));
            expect_close(y.values(), want, type);
        }
}

TEST_P(Dora, BackwardEqualsFiniteDifferences)
{
    for (const Shape &s : shapes)
        for (bool in_place : {false, true}) {
            SCOPED_TRACE(testing::Message() << s.n << "x" << s.out << " in place " << in_place);
            Doubles x = random(s.n * s.out, 1), dy = random(s.n * s.out, 2), m = random_values(s.out, 3),
                    norm = lengths(s.out), dm0 = random_values(s.out, 4);
            Tensor d_x = tensor(x), d_dy = tensor(dy), other = tensor(Doubles(x.size(), 7)), d_m = floats(m),
                   d_norm = floats(norm), dm = floats(dm0);
            Tensor &dx = in_place ? d_dy : other;
            ASSERT_OK(table->dora_backward(nullptr, dx.get(), dm.as<float>(), d_dy.get(), d_x.get(), type,
                                           d_m.as<float>(), d_norm.as<float>(), int64_t(s.n),
                                           int64_t(s.out)));
            const Doubles gains = gains_of(m, norm);
            Doubles want_dx(x.size()), want_dm = dm0;
            for (size_t i = 0; i < x.size(); i++)
                want_dx[i] = dy[i] * gains[i % s.out];
            // one column at a time: the others' share of the loss would only add rounding
            for (size_t o = 0; o < s.out; o++) {
                auto loss = [&] {
                    double total = 0;
                    for (size_t t = 0; t < s.n; t++)
                        total += norm[o] > 0 ? dy[t * s.out + o] * x[t * s.out + o] * m[o] / norm[o] : 0;
                    return total;
                };
                const double kept = m[o];
                m[o] = kept + 1e-5;
                const double up = loss();
                m[o] = kept - 1e-5;
                want_dm[o] += (up - loss()) / 2e-5;
                m[o] = kept;
            }
            expect_close(dx.values(), want_dx, type, 1, "dx");
            expect_close(dm.values(), want_dm, DTYPE_F32, 1, "dm");
        }
}

TEST_P(Dora, ThreadsChangeNothing)
{
    const Shape s = {50, 8, 400, 1};
    std::vector<std::vector<uint8_t>> seen;
    const int before = omp_get_max_threads();
    for (int threads : {1, 2, 3}) {
        omp_set_num_threads(threads);
        Doubles x = random(s.n * s.out, 1), dy = random(s.n * s.out, 2);
        Tensor d_x = tensor(x), d_dy = tensor(dy), d_m = floats(random_values(s.out, 3)),
               d_norm = floats(lengths(s.out)), dm = floats(Doubles(s.out, 0));
        ASSERT_OK(table->dora_backward(nullptr, d_dy.get(), dm.as<float>(), d_dy.get(), d_x.get(), type,
                                       d_m.as<float>(), d_norm.as<float>(), int64_t(s.n), int64_t(s.out)));
        seen.push_back(dm.bytes());
    }
    omp_set_num_threads(before);
    EXPECT_EQ(seen[0], seen[1]);
    EXPECT_EQ(seen[0], seen[2]);
}
