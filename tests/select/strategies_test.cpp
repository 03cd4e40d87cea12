// kcenter, kmeans, entropy and popularity against what they are defined as.
#include <numeric>

#include "fixture.h"

namespace
{

double distance2(const Data &d, int64_t a, int64_t b)
{
    double sum = 0;
    for (int64_t j = 0; j < d.dim; j++) {
        const double diff = (double)d.x[a * d.dim + j] - d.x[b * d.dim + j];
        sum += diff * diff;
    }
    return sum;
}

selection_task task_of(const Data &d, int64_t budget)
{
    selection_task task = {};
    task.x = d.x.data(), task.n = d.n, task.dim = d.dim, task.budget = budget;
    return task;
}

// Every row's distance to every pick, at every pick.
void expect_kcenter(const Data &d, int64_t budget)
{
    SCOPED_TRACE(d.name);
    const std::vector<selection_pick> picks = run("kcenter", task_of(d, budget), 1);
    expect_same(picks, run("kcenter", task_of(d, budget), 2));
    std::vector<double> nearest(d.n, INFINITY);
    std::vector<bool> chosen(d.n);
    for (int64_t t = 0; t < budget; t++) {
        const int64_t row = picks[t].row;
        ASSERT_FALSE(chosen[row]) << "pick " << t;
        if (t > 0) {
            double most = -1;
            int64_t lowest = -1;
            for (int64_t i = 0; i < d.n; i++)
                if (!chosen[i] && nearest[i] > most)
                    most = nearest[i], lowest = i;
            ASSERT_GE(nearest[row], most * (1 - 1e-10)) << "pick " << t;
            ASSERT_NEAR(picks[t].score, std::sqrt(most), 1e-9 * std::sqrt(most));
            if (std::memcmp(&d.x[row * d.dim], &d.x[lowest * d.dim], d.dim * sizeof(float)) == 0) {
                ASSERT_EQ(row, lowest) << "pick " << t;
            }
        }
        chosen[row] = true;
        for (int64_t i = 0; i < d.n; i++)
            nearest[i] = std::min(nearest[i], distance2(d, i, row));
    }
}

TEST(Kcenter, PicksTheFarthest)
{
    for (const Data &d : all_data())
        expect_kcenter(d, d.n);
}

TEST(Kcenter, ThePoolsPicksAreThoseOfAllRows)
{
    for (const Data &d : many_rows())
        expect_kcenter(d, 300);
}

TEST(Kcenter, BeginsNearestToTheMean)
{
    const Data d{"line", 5, 1, {0, 1, 2, 3, 40}};
    const std::vector<selection_pick> picks = run("kcenter", task_of(d, 5), 1);
    const int64_t want[] = {3, 4, 0, 1, 2}; // the mean is 9.2; 1 and 2 are equally far from what is chosen
    for (int t = 0; t < 5; t++)
        EXPECT_EQ(picks[t].row, want[t]);
}

using Long = std::vector<long double>;

// S^-1 by elimination; S is symmetric and positive definite.
Long inverse_of(Long s, int64_t dim)
{
    Long out(dim * dim);
    for (int64_t i = 0; i < dim; i++)
        out[i * dim + i] = 1;
    for (int64_t c = 0; c < dim; c++) {
        const long double pivot = s[c * dim + c];
        for (int64_t j = 0; j < dim; j++)
            s[c * dim + j] /= pivot, out[c * dim + j] /= pivot;
        for (int64_t i = 0; i < dim; i++) {
            const long double factor = s[i * dim + c];
            for (int64_t j = 0; i != c && j < dim; j++)
                s[i * dim + j] -= factor * s[c * dim + j], out[i * dim + j] -= factor * out[c * dim + j];
        }
    }
    return out;
}

Long times(const Long &a, const Long &b, int64_t dim)
{
    Long out(dim * dim);
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < dim; j++)
            for (int64_t l = 0; l < dim; l++)
                out[i * dim + j] += a[i * dim + l] * b[l * dim + j];
    return out;
}

long double form(const Long &a, const float *x, int64_t dim)
{
    long double sum = 0;
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j < dim; j++)
            sum += a[i * dim + j] * x[i] * x[j];
    return sum;
}

// Both forms of every row computed anew at every pick.
TEST(Bait, PicksWhatTheTextbookPicks)
{
    for (const Data &d : all_data())
        for (double lambda : {1.0, 1e-2}) {
            SCOPED_TRACE(d.name + ", lambda " + std::to_string(lambda));
            selection_task task = task_of(d, d.n);
            task.lambda = lambda;
            const std::vector<selection_pick> picks = run("bait", task, 1);
            expect_same(picks, run("bait", task, 2));
            const double near = d.name == "one huge row" ? 1e-4 : 1e-7; // the digits that S^-1 has
            Long s(d.dim * d.dim), f(d.dim * d.dim);
            for (int64_t i = 0; i < d.dim; i++)
                s[i * d.dim + i] = lambda;
            for (int64_t i = 0; i < d.n; i++)
                for (int64_t a = 0; a < d.dim; a++)
                    for (int64_t b = 0; b < d.dim; b++)
                        f[a * d.dim + b] += (long double)d.x[i * d.dim + a] * d.x[i * d.dim + b] / d.n;
            std::vector<bool> chosen(d.n);
            for (int64_t t = 0; t < d.n; t++) {
                const Long a = inverse_of(s, d.dim), b = times(times(a, f, d.dim), a, d.dim);
                const float *x = &d.x[picks[t].row * d.dim];
                long double most = 0;
                for (int64_t i = 0; i < d.n; i++) {
                    const float *row = &d.x[i * d.dim];
                    if (!chosen[i])
                        most = std::max(most, form(b, row, d.dim) / (1 + form(a, row, d.dim)));
                    if (!chosen[i] && std::memcmp(row, x, d.dim * sizeof(float)) == 0) {
                        ASSERT_LE(picks[t].row, i) << "pick " << t;
                    }
                }
                const long double fall = form(b, x, d.dim) / (1 + form(a, x, d.dim));
                ASSERT_FALSE(chosen[picks[t].row]) << "pick " << t;
                ASSERT_GE((double)fall, (double)most * (1 - 0.1 * near)) << "pick " << t;
                ASSERT_NEAR(picks[t].score, (double)fall, near * (double)fall + 1e-300) << "pick " << t;
                chosen[picks[t].row] = true;
                long double left = 0;
                for (int64_t i = 0; i < d.dim; i++)
                    for (int64_t j = 0; j < d.dim; j++)
                        s[i * d.dim + j] += (long double)x[i] * x[j];
                const Long after = inverse_of(s, d.dim);
                for (int64_t i = 0; i < d.dim * d.dim; i++)
                    left += after[i] * f[i];
                ASSERT_NEAR(picks[t].objective, (double)left, near * (double)left + 1e-300) << "pick " << t;
            }
        }
}

// More picks than go between two computations from the ground.
TEST(Bait, ManyPicksStayExact)
{
    const Data d = normal_rows("random", 700, 6, 14);
    selection_task task = task_of(d, 600);
    task.lambda = 1e-3;
    const std::vector<selection_pick> picks = run("bait", task, 2);
    Long s(36), f(36);
    for (int64_t i = 0; i < 6; i++)
        s[i * 7] = 1e-3L;
    for (int64_t i = 0; i < d.n; i++)
        for (int64_t j = 0; j < 36; j++)
            f[j] += (long double)d.x[i * 6 + j / 6] * d.x[i * 6 + j % 6] / d.n;
    for (const selection_pick &p : picks) {
        const Long a = inverse_of(s, 6), b = times(times(a, f, 6), a, 6);
        const float *x = &d.x[p.row * 6];
        ASSERT_NEAR(p.score, (double)(form(b, x, 6) / (1 + form(a, x, 6))), 1e-9 * p.score);
        for (int64_t j = 0; j < 36; j++)
            s[j] += (long double)x[j / 6] * x[j % 6];
    }
}

// Every row's gain at every pick, with likenesses by all pairs.
TEST(Facility, PicksWhatTheTextbookPicks)
{
    for (const Data &d : all_data())
        for (int64_t k : {int64_t{1}, int64_t{7}, d.n}) {
            SCOPED_TRACE(d.name + ", " + std::to_string(k) + " neighbours");
            selection_task task = task_of(d, d.n);
            task.neighbours = k;
            const std::vector<selection_pick> picks = run("facility", task, 1);
            expect_same(picks, run("facility", task, 2));
            std::vector<float> like(d.n * d.n); // [j][i]: how well j serves i
            for (int64_t i = 0; i < d.n; i++) {
                std::vector<std::pair<double, int64_t>> others;
                for (int64_t j = 0; j < d.n; j++) {
                    double dot = 0, a = 0, b = 0;
                    for (int64_t c = 0; c < d.dim; c++) {
                        const double x = d.x[i * d.dim + c], y = d.x[j * d.dim + c];
                        dot += x * y, a += x * x, b += y * y;
                    }
                    const double size = std::sqrt(a) * std::sqrt(b);
                    others.push_back({i == j ? -1 : size > 0 ? -std::min(1.0, dot / size) : 0, j});
                }
                std::sort(others.begin(), others.end());
                for (int64_t q = 0; q < std::min(k, d.n); q++)
                    like[others[q].second * d.n + i] = std::max(0.0f, (float)-others[q].first);
            }
            std::vector<float> best(d.n);
            std::vector<bool> chosen(d.n);
            for (int64_t t = 0; t < d.n; t++) {
                int64_t want = -1;
                double most = -1;
                for (int64_t j = 0; j < d.n; j++) {
                    double gain = 0;
                    for (int64_t i = 0; i < d.n; i++)
                        gain += (double)std::max(0.0f, like[j * d.n + i] - best[i]);
                    if (!chosen[j] && gain > most)
                        want = j, most = gain;
                }
                ASSERT_EQ(picks[t].row, want) << "pick " << t;
                ASSERT_EQ(picks[t].score, most) << "pick " << t;
                chosen[want] = true;
                double total = 0;
                for (int64_t i = 0; i < d.n; i++)
                    total += (double)(best[i] = std::max(best[i], like[want * d.n + i]));
                ASSERT_NEAR(picks[t].objective, total / (double)d.n, 1e-6);
            }
        }
}

TEST(KmeansStrategy, OneRowOfEveryGroup)
{
    const Data d = normal_rows("groups", 300, 5, 11, [](Data &g) {
        for (int64_t i = 0; i < g.n; i++)
            g.x[i * g.dim + (i < 100 ? 0 : i % 4 + 1)] += 50;
    });
    const std::vector<selection_pick> picks = run("kmeans", task_of(d, 5), 1);
    expect_same(picks, run("kmeans", task_of(d, 5), 2));
    std::set<int64_t> groups;
    for (const selection_pick &p : picks)
        groups.insert(p.row < 100 ? 0 : p.row % 4 + 1);
    EXPECT_EQ(groups.size(), 5u);
    EXPECT_LT(picks[0].row, 100); // the largest group is the first
    EXPECT_EQ(picks[0].score, 100);
    EXPECT_DOUBLE_EQ(picks[4].objective, 1);
}

TEST(KmeansStrategy, FewerDistinctRowsThanPicks)
{
    for (const Data &d : all_data())
        for (int64_t budget : {d.n / 2 + 1, d.n}) {
            SCOPED_TRACE(d.name);
            std::set<int64_t> rows;
            for (const selection_pick &p : run("kmeans", task_of(d, budget), 2))
                EXPECT_TRUE(rows.insert(p.row).second);
            EXPECT_EQ((int64_t)rows.size(), budget);
        }
}

TEST(Entropy, HighestFirstThenLowestRow)
{
    const std::vector<double> entropy = {0.5, 2, 1, 2, 0, 1};
    const std::vector<int32_t> labels = {0, 1, 2, 3, 4, 5};
    selection_task task = {};
    task.n = 6, task.budget = 6, task.entropy = entropy.data(), task.labels = labels.data();
    const std::vector<selection_pick> picks = run("entropy", task, 1);
    const int64_t want[] = {1, 3, 2, 5, 0, 4};
    for (int t = 0; t < 6; t++) {
        EXPECT_EQ(picks[t].row, want[t]);
        EXPECT_EQ(picks[t].cluster, want[t]);
    }
    EXPECT_DOUBLE_EQ(picks[5].objective, 6.5 / 6);
}

TEST(Nll, HighestFirstThenLowestRow)
{
    const std::vector<double> surprise = {3, 4.5, 3, -1};
    selection_task task = {};
    task.n = 4, task.budget = 4, task.surprise = surprise.data();
    const std::vector<selection_pick> picks = run("nll", task, 1);
    const int64_t want[] = {1, 0, 2, 3};
    for (int t = 0; t < 4; t++) {
        EXPECT_EQ(picks[t].row, want[t]);
        EXPECT_EQ(picks[t].score, surprise[want[t]]);
    }
    EXPECT_DOUBLE_EQ(picks[3].objective, 9.5 / 4);
}

TEST(Popularity, OneReviewOfEachItemInTurn)
{
    const std::vector<int32_t> items = {0, 1, 1, 2, 2, 2, 0, 3};
    selection_task task = {};
    task.n = 8, task.budget = 8, task.items = items.data(), task.n_items = 4;
    const std::vector<selection_pick> picks = run("popularity", task, 1);
    const int64_t want[] = {3, 0, 1, 7,
                            4, 2, 6, 5}; // items 2, 0, 1, 3; then their second reviews; then the third
    for (int t = 0; t < 8; t++)
        EXPECT_EQ(picks[t].row, want[t]) << t;
    EXPECT_EQ(picks[0].score, 3);
    EXPECT_DOUBLE_EQ(picks[3].objective, 1);
}

TEST(Order, TheBestInOrderWhateverTheInput)
{
    std::mt19937 random(3);
    for (int64_t n : {1, 2, 3, 10, 257, 2000})
        for (int kind = 0; kind < 4; kind++)
            for (int64_t m : {int64_t{1}, n / 3 + 1, n}) {
                std::vector<double> keys;
                for (int64_t i = 0; i < n; i++)
                    keys.push_back(kind == 0 ? double(random() % 1000) : kind == 1 ? i : kind == 2 ? -i : 7);
                std::vector<int32_t> rows(n), want(n);
                const auto key = [](const void *context, int64_t row) {
                    return (*static_cast<const std::vector<double> *>(context))[row];
                };
                order_best(rows.data(), n, m, key, &keys);
                std::iota(want.begin(), want.end(), 0);
                std::stable_sort(want.begin(), want.end(),
                                 [&](int32_t a, int32_t b) { return keys[a] > keys[b]; });
                for (int64_t i = 0; i < m; i++)
                    ASSERT_EQ(rows[i], want[i]) << n << " " << kind << " " << m;
            }
}

} // namespace
