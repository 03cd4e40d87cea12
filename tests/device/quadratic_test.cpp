// quadratic: products with symmetric matrices against long double, in one order for any number of threads.
#include <omp.h>

#include "fixture.h"

namespace
{

std::vector<double> symmetric(int64_t dim, unsigned seed)
{
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::vector<double> a(static_cast<size_t>(dim * dim));
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j <= i; j++)
            a[size_t(i * dim + j)] = a[size_t(j * dim + i)] = normal(random);
    return a;
}

TEST(Quadratic, Forms)
{
    const int before = omp_get_max_threads();
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 3, 4, 7, 50, 131})
            for (int64_t n : {1, 2, 31, 33, 100}) {
                const std::vector<double> a = symmetric(dim, 5);
                std::vector<float> x(static_cast<size_t>(n * dim));
                for (float &v : x)
                    v = normal(random);
                std::vector<double> got[2];
                for (int run = 0; run < 2; run++) {
                    omp_set_num_threads(run == 0 ? 1 : 3);
                    Buffer da = upload_array(table, a), dx = upload_array(table, x),
                           out(table, size_t(n) * sizeof(double));
                    ASSERT_EQ(table->quadratic_forms(nullptr, out.as<double>(), dx.as<float>(),
                                                     da.as<double>(), n, dim),
                              SC_OK);
                    got[run] = out.array<double>();
                }
                EXPECT_EQ(got[0], got[1]);
                for (int64_t i = 0; i < n; i++) {
                    long double want = 0, size = 0;
                    for (int64_t j = 0; j < dim; j++)
                        for (int64_t l = 0; l < dim; l++) {
                            const long double term = (long double)a[size_t(j * dim + l)] *
                                                     x[size_t(i * dim + j)] * x[size_t(i * dim + l)];
                            want += term;
                            size += std::abs(term);
                        }
                    ASSERT_NEAR(got[0][size_t(i)], double(want), 1e-15 * double(size) + 1e-300)
                        << n << " " << dim;
                }
            }
    omp_set_num_threads(before);
}

TEST(Quadratic, Sandwich)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 2, 5, 16, 61}) {
            const std::vector<double> a = symmetric(dim, 2), f = symmetric(dim, 3);
            std::vector<double> got[2];
            for (int run = 0; run < 2; run++) {
                omp_set_num_threads(run == 0 ? 1 : 3);
                Buffer da = upload_array(table, a), df = upload_array(table, f),
                       b(table, a.size() * sizeof(double));
                Buffer work(table, table->sandwich_workspace(dim));
                ASSERT_EQ(table->sandwich(nullptr, b.as<double>(), da.as<double>(), df.as<double>(), dim,
                                          work.as<double>()),
                          SC_OK);
                got[run] = b.array<double>();
            }
            EXPECT_EQ(got[0], got[1]);
            for (int64_t i = 0; i < dim; i++)
                for (int64_t j = 0; j < dim; j++) {
                    long double want = 0;
                    for (int64_t p = 0; p < dim; p++)
                        for (int64_t q = 0; q < dim; q++)
                            want += (long double)a[size_t(i * dim + p)] * f[size_t(p * dim + q)] *
                                    a[size_t(q * dim + j)];
                    ASSERT_NEAR(got[0][size_t(i * dim + j)], double(want), 1e-13 * double(dim * dim));
                }
        }
    omp_set_num_threads(before);
}

TEST(Quadratic, RefusesImpossibleShapes)
{
    for (const ops *table : present_tables()) {
        EXPECT_EQ(table->quadratic_forms(nullptr, nullptr, nullptr, nullptr, -1, 3), SC_INTERNAL);
        EXPECT_EQ(table->quadratic_forms(nullptr, nullptr, nullptr, nullptr, 1, 0), SC_INTERNAL);
        EXPECT_EQ(table->sandwich(nullptr, nullptr, nullptr, nullptr, 0, nullptr), SC_INTERNAL);
    }
}

} // namespace
