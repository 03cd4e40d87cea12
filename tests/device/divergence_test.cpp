// divergence: JS(p || q) against long double, its bounds, and its zeros.
#include "fixture.h"

namespace
{

std::vector<double> distribution(std::mt19937 &random, int64_t k, double sharpness)
{
    std::vector<double> p(k);
    double sum = 0;
    std::uniform_real_distribution<double> uniform;
    for (double &v : p)
        sum += v = std::exp(sharpness * uniform(random));
    for (double &v : p)
        v /= sum;
    return p;
}

double reference(const double *p, const double *q, int64_t k)
{
    long double sum = 0;
    for (int64_t j = 0; j < k; j++) {
        const long double m = ((long double)p[j] + q[j]) / 2;
        if (p[j] > 0)
            sum += p[j] * std::log(p[j] / m);
        if (q[j] > 0)
            sum += q[j] * std::log(q[j] / m);
    }
    return static_cast<double>(sum / 2);
}

std::vector<double> run(const ops *table, const std::vector<double> &p, const std::vector<double> &q)
{
    const int64_t k = static_cast<int64_t>(q.size()), n = static_cast<int64_t>(p.size()) / k;
    Buffer dp(table, p.size() * 8), dq(table, q.size() * 8), out(table, n * 8);
    dp.upload(p.data(), p.size() * 8);
    dq.upload(q.data(), q.size() * 8);
    EXPECT_EQ(table->js_to_mean(nullptr, out.as<double>(), dp.as<double>(), dq.as<double>(), n, k), SC_OK);
    return out.array<double>();
}

TEST(Divergence, EqualsTheDefinition)
{
    std::mt19937 random(3);
    for (const ops *table : present_tables())
        for (int64_t k : {1, 2, 64, 257}) {
            std::vector<double> q = distribution(random, k, 3), p;
            for (int i = 0; i < 50; i++) {
                std::vector<double> row = distribution(random, k, i);
                p.insert(p.end(), row.begin(), row.end());
            }
            std::vector<double> js = run(table, p, q);
            for (int i = 0; i < 50; i++) {
                EXPECT_NEAR(js[i], reference(&p[i * k], q.data(), k), 1e-14);
                EXPECT_GE(js[i], 0);
                EXPECT_LE(js[i], M_LN2 * (1 + 1e-15));
            }
        }
}

TEST(Divergence, ZerosAndExtremes)
{
    for (const ops *table : present_tables()) {
        std::vector<double> js = run(table, {1, 0, 0, /**/ 0, 0, 1, /**/ 0.5, 0.5, 0}, {1, 0, 0});
        EXPECT_EQ(js[0], 0);
        EXPECT_DOUBLE_EQ(js[1], M_LN2);
        EXPECT_GT(js[2], 0);
        EXPECT_LT(js[2], M_LN2);
    }
}

} // namespace
