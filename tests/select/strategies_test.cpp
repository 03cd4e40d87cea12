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
