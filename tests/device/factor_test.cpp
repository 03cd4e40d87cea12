// factor: updates, Cholesky and the inverse of symmetric matrices, against long double.
#include <omp.h>

#include "fixture.h"

namespace
{

std::vector<double> normal_doubles(int64_t n, unsigned seed)
{
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::vector<double> out(static_cast<size_t>(n));
    for (double &v : out)
        v = normal(random);
    return out;
}

// start I + W' W
std::vector<double> gram(const std::vector<double> &w, int64_t dim, double start)
{
    const int64_t b = int64_t(w.size()) / dim;
    std::vector<double> out;
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < dim; j++) {
            long double sum = i == j ? start : 0;
            for (int64_t l = 0; l < b; l++)
                sum += (long double)w[size_t(l * dim + i)] * w[size_t(l * dim + j)];
            out.push_back(double(sum));
        }
    return out;
}

TEST(Factor, RankUpdateAddsAndTakes)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 3, 16, 50, 131})
            for (int64_t b : {1, 2, 33, 65}) {
                const std::vector<double> w = normal_doubles(dim * b, 1), want = gram(w, dim, 2);
                std::vector<double> got[2];
                for (int run = 0; run < 2; run++) {
                    omp_set_num_threads(run == 0 ? 1 : 3);
                    Buffer a = upload_array(table, gram({}, dim, 2)), dw = upload_array(table, w);
                    ASSERT_EQ(table->rank_update(nullptr, a.as<double>(), dw.as<double>(), dim, b, 1), SC_OK);
                    got[run] = a.array<double>();
                    ASSERT_EQ(table->rank_update(nullptr, a.as<double>(), dw.as<double>(), dim, b, -1),
                              SC_OK);
                    const std::vector<double> back = a.array<double>();
                    for (int64_t i = 0; i < dim * dim; i++)
                        ASSERT_NEAR(back[size_t(i)], i % (dim + 1) == 0 ? 2 : 0, 1e-12);
                }
                EXPECT_EQ(got[0], got[1]);
                for (size_t i = 0; i < want.size(); i++)
                    ASSERT_NEAR(got[0][i], want[i], 1e-12);
            }
    omp_set_num_threads(before);
}

TEST(Factor, CholeskyAndItsInverse)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 2, 15, 16, 31, 32, 33, 100}) {
            const std::vector<double> a = gram(normal_doubles(dim * (dim + 3), 4), dim, 0.5);
            std::vector<double> factor[2], inverse[2];
            for (int run = 0; run < 2; run++) {
                omp_set_num_threads(run == 0 ? 1 : 3);
                Buffer da = upload_array(table, a), l(table, a.size() * 8), inv(table, a.size() * 8);
                Buffer work(table, table->cholesky_inverse_workspace(dim));
                bool definite = false;
                ASSERT_EQ(table->cholesky(nullptr, l.as<double>(), da.as<double>(), dim, &definite), SC_OK);
                EXPECT_TRUE(definite);
                ASSERT_EQ(table->cholesky_inverse(nullptr, inv.as<double>(), l.as<double>(), dim, work.get()),
                          SC_OK);
                factor[run] = l.array<double>();
                inverse[run] = inv.array<double>();
            }
            EXPECT_EQ(factor[0], factor[1]);
            EXPECT_EQ(inverse[0], inverse[1]);
            for (int64_t i = 0; i < dim; i++)
                for (int64_t j = 0; j < dim; j++) {
                    long double product = 0, one = 0;
                    for (int64_t q = 0; q < dim; q++) {
                        product +=
                            (long double)factor[0][size_t(i * dim + q)] * factor[0][size_t(j * dim + q)];
                        one += (long double)a[size_t(i * dim + q)] * inverse[0][size_t(q * dim + j)];
                    }
                    ASSERT_NEAR(double(product), a[size_t(i * dim + j)], 1e-11) << dim;
                    ASSERT_NEAR(double(one), i == j ? 1 : 0, 1e-9) << dim << " " << i << " " << j;
                    if (j > i) {
                        ASSERT_EQ(factor[0][size_t(i * dim + j)], 0);
                    }
                }
        }
    omp_set_num_threads(before);
}

TEST(Factor, SaysWhatIsNotPositiveDefinite)
{
    for (const ops *table : present_tables())
        for (int64_t at : {0, 5, 40}) {
            const int64_t dim = 50;
            std::vector<double> a = gram({}, dim, 1);
            a[size_t(at * dim + at)] = at == 5 ? std::nan("") : -1e-3;
            Buffer da = upload_array(table, a), l(table, a.size() * 8);
            bool definite = true;
            ASSERT_EQ(table->cholesky(nullptr, l.as<double>(), da.as<double>(), dim, &definite), SC_OK);
            EXPECT_FALSE(definite);
        }
}

} // namespace
