// Bounds on js's scores: never below the score, and close to it while the mean is near.
#include "fixture.h"

#include <cmath>

extern "C" {
#include "select/tangents.h"
}

namespace
{

using Vector = std::vector<double>;

long double entropy(const Vector &p)
{
    long double sum = 0;
    for (double v : p)
        sum -= v > 0 ? (long double)v * std::log((long double)v) : 0;
    return sum;
}

// w JS(p || m)
double score(const Vector &p, const Vector &m, double weight)
{
    Vector a(p.size());
    for (size_t j = 0; j < p.size(); j++)
        a[j] = 0.5 * (p[j] + m[j]);
    return (double)(weight * (entropy(a) - entropy(p) / 2 - entropy(m) / 2));
}

Vector distribution(std::mt19937 &random, int64_t k, double sharpness)
{
    std::normal_distribution<double> normal;
    Vector p(k);
    double z = 0;
    for (double &v : p)
        z += v = std::exp(sharpness * normal(random));
    for (double &v : p)
        v /= z;
    return p;
}

double bound(const tangents &t, int64_t slot, const Vector &mean)
{
    double found;
    tangents_bound(&t, &slot, 1, mean.data(), &found);
    return found;
}

TEST(Tangents, AreNeverBelowTheScore)
{
    for (int64_t k : {1, 2, 7, 64, 100})
        for (double sharpness : {0.1, 3.0, 30.0, 100.0}) // of the last most components are 0
            for (double weight : {0.0, 0.5, 1.0}) {
                SCOPED_TRACE("k " + std::to_string(k) + " sharpness " + std::to_string(sharpness) +
                             " weight " + std::to_string(weight));
                std::mt19937 random((unsigned)k);
                tangents t;
                tangents_open(&t, k, weight);
                ASSERT_EQ(tangents_clear(&t, 50), SC_OK);
                std::vector<Vector> rows;
                Vector sum(k), mean(k);
                for (int64_t i = 0; i < 50; i++)
                    rows.push_back(distribution(random, k, sharpness));
                for (int picks = 1; picks <= 400; picks++) {
                    const Vector next = picks % 3 ? rows[random() % 50] : distribution(random, k, sharpness);
                    for (int64_t j = 0; j < k; j++)
                        mean[j] = (sum[j] += next[j]) / picks;
                    tangents_move(&t, mean.data());
                    for (int64_t i = 0; i < 50; i++) {
                        const double now = score(rows[i], mean, weight);
                        if (t.heights[i] < INFINITY) {
                            ASSERT_GE(bound(t, i, mean), now) << "row " << i << ", pick " << picks;
                        }
                        if (random() % 40 == 0) {
                            tangents_set(&t, i, rows[i].data(), mean.data(), now);
                            ASSERT_GE(bound(t, i, mean), now);
                            ASSERT_LE(bound(t, i, mean), now + 1e-10);
                        }
                    }
                }
                tangents_close(&t);
            }
}

// What the slopes' rounding to float leaves is of second order: a step back and forth would show one of first order.
TEST(Tangents, AreOfSecondOrder)
{
    const int64_t k = 64;
    std::mt19937 random(5);
    tangents t;
    tangents_open(&t, k, 1);
    ASSERT_EQ(tangents_clear(&t, 1), SC_OK);
    const Vector p = distribution(random, k, 2), m = distribution(random, k, 1),
                 to = distribution(random, k, 1);
    tangents_move(&t, m.data());
    tangents_set(&t, 0, p.data(), m.data(), score(p, m, 1));
    for (double step : {1e-2, 1e-3, -1e-2, -1e-3}) {
        Vector moved(k);
        for (int64_t j = 0; j < k; j++)
            moved[j] = m[j] + step * (to[j] - m[j]);
        tangents_move(&t, moved.data());
        const double above = bound(t, 0, moved) - score(p, moved, 1);
        EXPECT_GT(above, 0);
        EXPECT_LT(above, 2 * step * step + 1e-11);
    }
    tangents_close(&t);
}

TEST(Tangents, AreInfiniteUntilTheyAreSet)
{
    tangents t;
    tangents_open(&t, 3, 1);
    ASSERT_EQ(tangents_clear(&t, 2), SC_OK);
    const Vector p = {0.2, 0.3, 0.5};
    tangents_move(&t, p.data());
    tangents_set(&t, 1, p.data(), p.data(), 0);
    EXPECT_EQ(bound(t, 0, p), INFINITY);
    EXPECT_LT(bound(t, 1, p), 1e-10);
    ASSERT_EQ(tangents_clear(&t, 2), SC_OK);
    EXPECT_EQ(bound(t, 1, p), INFINITY);
    tangents_close(&t);
}

} // namespace
