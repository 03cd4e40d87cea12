// design: gains fall by the squared product with w.
#include <omp.h>

#include "fixture.h"

namespace
{

TEST(Design, SubtractsTheSquaredProduct)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 5, 16, 31, 576}) {
            const int64_t n = 301;
            std::mt19937 random(5);
            std::normal_distribution<float> normal;
            std::vector<float> x(n * dim);
            std::vector<double> w(dim), g(n, 100.0);
            for (float &v : x)
                v = normal(random);
            for (double &v : w)
                v = normal(random) / std::sqrt(dim);
            Buffer dx(table, x.size() * 4), dw(table, w.size() * 8), dg(table, g.size() * 8);
            dx.upload(x.data(), x.size() * 4);
            dw.upload(w.data(), w.size() * 8);
            std::vector<double> out[2];
            for (int run = 0; run < 2; run++) {
                omp_set_num_threads(run == 0 ? 1 : 3);
                dg.upload(g.data(), g.size() * 8);
                ASSERT_EQ(
                    table->design_update(nullptr, dg.as<double>(), dx.as<float>(), dw.as<double>(), n, dim),
                    SC_OK);
                out[run] = dg.array<double>();
            }
            EXPECT_EQ(out[0], out[1]);
            for (int64_t i = 0; i < n; i++) {
                long double dot = 0;
                for (int64_t d = 0; d < dim; d++)
                    dot += (long double)x[i * dim + d] * w[d];
                ASSERT_NEAR(out[0][i], (double)(100 - dot * dot), 1e-12);
            }
        }
    omp_set_num_threads(before);
}

} // namespace
