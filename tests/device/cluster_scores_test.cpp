// The CPU's scores of cluster_assign: whatever the number of columns that products take, low and high hold what float64
// says, and going on with the centres that are left finds what whole products find.
#include "fixture.h"

extern "C" {
#include "device/cpu/cluster_scores.h"
#include "device/device.h"
}

namespace
{

// Columns whose variance falls off, so that the leading ones tell most.
struct Case {
    int64_t k, dim;
    float slope, scale;
    std::vector<float> x, centres;
};

Case sloped(int64_t k, int64_t dim, float slope, float scale, unsigned seed)
{
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Case c{k, dim, slope, scale, std::vector<float>(SCORE_ROWS * dim), std::vector<float>(k * dim)};
    for (int64_t i = 0; i < SCORE_ROWS * dim; i++)
        c.x[i] = scale * normal(random) / std::pow(1 + static_cast<float>(i % dim), slope);
    for (int64_t i = 0; i < k * dim; i++)
        c.centres[i] = scale * normal(random) / std::pow(1 + static_cast<float>(i % dim), 1.5f * slope);
    return c;
}

// |c|^2 - 2 x.c
double score(const float *x, const float *c, int64_t dim)
{
    long double sum = 0;
    for (int64_t d = 0; d < dim; d++)
        sum += static_cast<long double>(c[d]) * c[d] - 2 * static_cast<long double>(x[d]) * c[d];
    return static_cast<double>(sum);
}

struct Scores {
    std::vector<float> panels, low_norms, high_norms, spread, blur, rests, lows;
    std::vector<uint32_t> pairs;
    std::vector<uint16_t> rounded;
    score_centres s;
    std::vector<const float *> rows;
    std::vector<float> norms;
    std::vector<score_best> best;

    explicit Scores(const Case &c)
        : panels(score_padded(c.k) * c.dim), low_norms(score_padded(c.k)), high_norms(low_norms),
          spread(low_norms), blur(low_norms), rests(low_norms), lows(SCORE_ROWS * score_padded(c.k)),
          pairs((c.k + SCORE_WIDE) * score_rounded_dim(c.dim) / 2),
          rounded(score_rounded_rows(SCORE_ROWS) * score_rounded_dim(c.dim)), best(SCORE_ROWS)
    {
        s = {};
        s.k = c.k, s.dim = c.dim, s.panels = panels.data(), s.low_norms = low_norms.data();
        s.high_norms = high_norms.data(), s.spread = spread.data(), s.rests = rests.data(),
        s.blur = blur.data();
        s.pairs = cpu_has_amx() ? pairs.data() : nullptr;
        cpu_score_prepare(&s, c.centres.data());
        for (int64_t r = 0; r < SCORE_ROWS; r++) {
            rows.push_back(&c.x[r * c.dim]);
            norms.push_back(cpu_score_norm(rows.back(), c.dim));
        }
    }
    void run()
    {
        cpu_score_rows(&s, SCORE_ROWS, rows.data(), norms.data(), lows.data(), rounded.data(), best.data(),
                       nullptr, 0);
    }
};

TEST(ClusterScores, HoldWhatFloat64SaysHoweverCoarse)
{
    for (int64_t k : {1, 16, 33, 100})
        for (int64_t dim : {64, 130, 400})
            for (float slope : {0.0f, 0.5f, 2.0f})
                for (float scale : {1e-12f, 1.0f, 1e15f}) {
                    SCOPED_TRACE("k " + std::to_string(k) + " dim " + std::to_string(dim) + " slope " +
                                 std::to_string(slope) + " scale " + std::to_string(scale));
                    const Case c = sloped(k, dim, slope, scale, static_cast<unsigned>(k + dim));
                    Scores all(c);
                    all.run();
                    for (int64_t depth : {int64_t{0}, int64_t{1}, int64_t{32}, dim / 2, dim - 1, dim}) {
                        Scores part(c);
                        if (depth > 0)
                            cpu_score_set_depth(&part.s, c.centres.data(), depth);
                        else if (part.s.pairs) // 0: products of bf16
                            cpu_score_set_rounded(&part.s, c.centres.data());
                        else
                            continue;
                        SCOPED_TRACE("depth " + std::to_string(depth));
                        part.run();
                        for (int64_t r = 0; r < SCORE_ROWS; r++) {
                            double lowest = INFINITY;
                            std::vector<double> exact;
                            for (int64_t j = 0; j < k; j++) {
                                exact.push_back(score(part.rows[r], &c.centres[j * dim], dim));
                                lowest = std::min(lowest, exact.back());
                                ASSERT_LE(part.lows[r * score_padded(k) + j], exact[j]) << r << " " << j;
                            }
                            ASSERT_GE(part.best[r].high, lowest);
                            ASSERT_GE(part.best[r].high, exact[part.best[r].index]);
                            if (depth == dim)
                                continue;
                            float *lows = &part.lows[r * score_padded(k)];
                            const int64_t finished = cpu_score_finish(&part.s, c.centres.data(), part.rows[r],
                                                                      part.norms[r], lows, &part.best[r]);
                            ASSERT_GE(finished, 1);
                            ASSERT_LE(finished, k);
                            const score_best &b = part.best[r];
                            ASSERT_GE(b.high, exact[b.index]);
                            // As sharp as whole products are: two centres' errors at most beside theirs.
                            ASSERT_LE(b.high, all.best[r].high + 2 * part.norms[r] * part.s.spread[b.index] +
                                                  1e-5 * exact[b.index] * (exact[b.index] > 0));
                            double second = INFINITY;
                            for (int64_t j = 0; j < k; j++) {
                                ASSERT_LE(lows[j], exact[j]);
                                second = j == b.index ? second : std::min(second, exact[j]);
                                if (lows[j] > b.high) { // ruled out
                                    ASSERT_GT(exact[j], lowest);
                                }
                            }
                            ASSERT_LE(b.second, second);
                        }
                    }
                }
}

// What it is for: few whole products where the leading columns tell most, all of them where none does.
TEST(ClusterScores, FinishFewCentresWhereColumnsFallOff)
{
    const int64_t k = 64, dim = 400;
    for (float slope : {0.0f, 1.0f}) {
        const Case c = sloped(k, dim, slope, 1, 3);
        Scores part(c);
        cpu_score_set_depth(&part.s, c.centres.data(), 64);
        part.run();
        int64_t finished = 0;
        for (int64_t r = 0; r < SCORE_ROWS; r++)
            finished += cpu_score_finish(&part.s, c.centres.data(), part.rows[r], part.norms[r],
                                         &part.lows[r * score_padded(k)], &part.best[r]);
        if (slope > 0) {
            EXPECT_LT(finished, 3 * SCORE_ROWS);
        } else {
            EXPECT_GT(finished, k * SCORE_ROWS / 2);
        }
    }
}

// Products of bf16 leave few centres of a row, whether columns fall off or not, and any number of rows is told alike.
TEST(ClusterScores, RoundedProductsLeaveFewCentres)
{
    if (!cpu_has_amx())
        GTEST_SKIP() << "this processor has no AMX";
    const int64_t k = 70, dim = 400;
    for (float slope : {0.0f, 1.0f}) {
        const Case c = sloped(k, dim, slope, 1, 3);
        Scores part(c), few(c);
        cpu_score_set_rounded(&part.s, c.centres.data());
        cpu_score_set_rounded(&few.s, c.centres.data());
        part.run();
        for (int count : {1, 16, 17, 33}) {
            cpu_score_rows(&few.s, count, few.rows.data(), few.norms.data(), few.lows.data(),
                           few.rounded.data(), few.best.data(), nullptr, 0);
            for (int64_t i = 0; i < count * score_padded(k); i++)
                ASSERT_EQ(few.lows[i], part.lows[i]) << count << " " << i;
        }
        int64_t finished = 0;
        for (int64_t r = 0; r < SCORE_ROWS; r++)
            finished += cpu_score_finish(&part.s, c.centres.data(), part.rows[r], part.norms[r],
                                         &part.lows[r * score_padded(k)], &part.best[r]);
        EXPECT_LT(finished, 3 * SCORE_ROWS);
    }
}

} // namespace
