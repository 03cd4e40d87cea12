// A budget of costs: what it closes, in every strategy, and against choices made the plain way.
#include "everything.h"

namespace
{

TEST(Costs, CloseWhatIsTooDear)
{
    const std::vector<double> costs = {3, 8, 1, 5, 5, 2};
    limits l = {};
    ASSERT_EQ(limits_open(&l, 6, nullptr, nullptr, 0), SC_OK);
    EXPECT_EQ(limits_room(&l), 6);
    ASSERT_EQ(limits_set_budget(&l, costs.data(), 7), SC_OK);
    EXPECT_EQ(l.n_open, 5);
    EXPECT_TRUE(l.closed[1]);
    EXPECT_EQ(limits_room(&l), 3);      // 1 + 2 + 3
    EXPECT_EQ(limits_likely(&l, 6), 2); // 3.2 is the mean of those that are left
    EXPECT_EQ(limits_likely(&l, 1), 1);
    EXPECT_EQ(limits_reach(&l, 2), 6); // rows in between may be passed over
    limits_take(&l, 0);                // 4 are left
    EXPECT_EQ(l.n_open, 2);
    ASSERT_EQ(l.n_just_closed, 3);
    EXPECT_EQ(l.just_closed[0], 0);
    EXPECT_TRUE(l.closed[3] && l.closed[4]);
    limits_take(&l, 5);
    EXPECT_EQ(l.n_open, 1);
    limits_take(&l, 2);
    EXPECT_EQ(l.n_open, 0);
    EXPECT_EQ(l.cost_left, 1);
    limits_close(&l);
    for (double wrong : {0.0, -1.0, (double)NAN, (double)INFINITY}) {
        const std::vector<double> bad = {1, 1, 1, wrong, 1, 1};
        ASSERT_EQ(limits_open(&l, 6, nullptr, nullptr, 0), SC_OK);
        EXPECT_EQ(limits_set_budget(&l, bad.data(), 7), SC_BAD_INPUT);
        EXPECT_NE(std::string(sc_last_error()).find("row 3"), std::string::npos) << sc_last_error();
        limits_close(&l);
    }
}

// Costs as texts have them: most are small, some are large.
std::vector<double> uneven(int64_t n, unsigned seed)
{
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform;
    std::vector<double> costs;
    for (int64_t i = 0; i < n; i++)
        costs.push_back(std::floor(4 * std::exp(4.5 * uniform(random))));
    return costs;
}

class EveryStrategy : public testing::TestWithParam<std::string>
{
};

class GreedyStrategy : public testing::TestWithParam<std::string>
{
};

// Greedy: what is chosen and what is open say what is next.
std::vector<std::string> registered(bool greedy)
{
    int n;
    const strategy *s = strategy_list(&n);
    std::vector<std::string> names;
    for (int i = 0; i < n; i++) {
        const std::string name = s[i].name;
        if (!greedy || (name != "kmeans" && name != "popularity" && name != "random"))
            names.push_back(name);
    }
    return names;
}
INSTANTIATE_TEST_SUITE_P(Costs, EveryStrategy, testing::ValuesIn(registered(false)),
                         [](const auto &one) { return one.param; });
INSTANTIATE_TEST_SUITE_P(Costs, GreedyStrategy, testing::ValuesIn(registered(true)),
                         [](const auto &one) { return one.param; });

TEST_P(EveryStrategy, KeepsToTheBudgetAndUsesItUp)
{
    for (int64_t n : {150, 2500}) {
        const Everything e = everything(n);
        const std::vector<double> costs = uneven(n, 5);
        for (double budget : {4.0, 61.0, 900.0, 7000.5}) {
            SCOPED_TRACE(std::to_string(n) + " rows, " + std::to_string(budget));
            const auto picks = run(GetParam().c_str(), task_of(e, n), 2, {}, nullptr, costs, budget);
            expect_same(picks, run(GetParam().c_str(), task_of(e, n), 1, {}, nullptr, costs, budget));
            std::set<int64_t> rows;
            double left = budget;
            for (const selection_pick &p : picks) {
                ASSERT_TRUE(rows.insert(p.row).second);
                ASSERT_LE(costs[(size_t)p.row], left);
                left -= costs[(size_t)p.row];
            }
            for (int64_t i = 0; i < n; i++)
                ASSERT_TRUE(rows.count(i) || costs[(size_t)i] > left) << "row " << i << " fits into " << left;
            // Both limits: the one that is reached first ends it.
            if (picks.size() > 3 && GetParam() != "kmeans") {
                const auto fewer = run(GetParam().c_str(), task_of(e, 3), 1, {}, nullptr, costs, budget);
                ASSERT_EQ(fewer.size(), 3u);
                for (size_t t = 0; t < 3; t++)
                    EXPECT_EQ(fewer[t].row, picks[t].row);
            }
        }
    }
}

// Caps close rows at the same time.
TEST_P(EveryStrategy, CapsHoldBesideCosts)
{
    for (int64_t n : {150, 2500}) {
        const Everything e = everything(n);
        const std::vector<double> costs = uneven(n, 11);
        std::vector<int32_t> groups;
        for (int64_t i = 0; i < n; i++)
            groups.push_back(i % 11 == 0 ? -1 : (int32_t)(i % 13));
        const sc_cap cap = {nullptr, groups.data(), 13, 4};
        std::vector<int> taken(13);
        double left = 4000;
        std::set<int64_t> rows;
        for (const selection_pick &p : run(GetParam().c_str(), task_of(e, n), 2, {}, &cap, costs, left)) {
            rows.insert(p.row);
            left -= costs[(size_t)p.row];
            if (groups[(size_t)p.row] >= 0) {
                ASSERT_LE(++taken[(size_t)groups[(size_t)p.row]], 4);
            }
        }
        ASSERT_GE(left, 0);
        for (int64_t i = 0; i < n; i++) {
            const int32_t group = groups[(size_t)i];
            ASSERT_TRUE(rows.count(i) || costs[(size_t)i] > left || (group >= 0 && taken[(size_t)group] == 4))
                << "row " << i;
        }
    }
}

// Ties, duplicates, huge rows, more rows than a pool: fisher's careful picks and cut blocks among them.
TEST(Costs, OfRowsThatFisherFindsHard)
{
    for (bool many : {false, true})
        for (const Data &d : many ? many_rows() : all_data()) {
            SCOPED_TRACE(d.name);
            const std::vector<double> costs = uneven(d.n, 12);
            const double budget = many ? 12000 : 600;
            selection_task task = {};
            task.x = d.x.data(), task.n = d.n, task.dim = d.dim, task.budget = d.n, task.lambda = 0.1;
            const auto picks = run("fisher", task, 2, {}, nullptr, costs, budget);
            std::vector<uint8_t> closed((size_t)d.n);
            std::vector<int64_t> given;
            double left = budget;
            for (size_t t = 0; t < picks.size(); t++) {
                ASSERT_LE(costs[(size_t)picks[t].row], left);
                if (!many || t % 16 == 0) {
                    for (size_t i = 0; i < closed.size(); i++)
                        closed[i] = costs[i] > left;
                    task.budget = 1, task.given = given.data(), task.n_given = (int64_t)given.size();
                    const auto next = run("fisher", task, 2, closed);
                    ASSERT_EQ(next.size(), 1u);
                    ASSERT_NEAR(next[0].score, picks[t].score, 1e-7 * picks[t].score) << "pick " << t;
                }
                given.push_back(picks[t].row);
                left -= costs[(size_t)picks[t].row];
            }
            for (int64_t i = 0; i < d.n; i++)
                ASSERT_TRUE(costs[(size_t)i] > left || std::count(given.begin(), given.end(), i)) << i;
        }
}

// Costs that are all the same are a budget of rows.
TEST_P(EveryStrategy, EqualCostsAreANumberOfRows)
{
    const Everything e = everything(1300);
    const std::vector<double> costs(1300, 2.5);
    expect_same(run(GetParam().c_str(), task_of(e, 1300), 2, {}, nullptr, costs, 2.5 * 170 + 1),
                run(GetParam().c_str(), task_of(e, 170), 2));
}

// Every pick is the one that a choice among the rows that still fit makes after the same picks.
TEST_P(GreedyStrategy, EveryPickIsTheBestOfThoseThatFit)
{
    for (int64_t n : {140, 1500}) {
        const Everything e = everything(n);
        const std::vector<double> costs = uneven(n, 6);
        const auto picks = run(GetParam().c_str(), task_of(e, n), 2, {}, nullptr, costs, 3000);
        ASSERT_GT(picks.size(), 30u);
        std::vector<uint8_t> closed((size_t)n);
        std::vector<int64_t> given;
        double left = 3000;
        for (size_t t = 0; t < picks.size(); t++) {
            for (size_t i = 0; i < closed.size(); i++)
                closed[i] = costs[i] > left;
            selection_task task = task_of(e, 1);
            task.given = given.data(), task.n_given = (int64_t)given.size();
            const auto next = run(GetParam().c_str(), task, 1, closed);
            ASSERT_EQ(next.size(), 1u);
            ASSERT_EQ(next[0].row, picks[t].row) << "pick " << t;
            given.push_back(picks[t].row);
            left -= costs[(size_t)picks[t].row];
        }
    }
}

// What is chosen where `score` says how good a row is after the rows chosen before it.
std::vector<int64_t> plainly(int64_t n, const std::vector<double> &costs, double budget,
                             const std::function<double(int64_t, const std::vector<int64_t> &)> &score)
{
    std::vector<int64_t> chosen;
    for (;;) {
        int64_t best = -1;
        double most = -INFINITY;
        for (int64_t i = 0; i < n; i++) {
            if (costs[(size_t)i] > budget || std::count(chosen.begin(), chosen.end(), i))
                continue;
            const double own = score(i, chosen);
            if (best < 0 || own > most)
                best = i, most = own;
        }
        if (best < 0)
            return chosen;
        chosen.push_back(best);
        budget -= costs[(size_t)best];
    }
}

void expect_rows(const std::vector<selection_pick> &picks, const std::vector<int64_t> &want)
{
    ASSERT_EQ(picks.size(), want.size());
    for (size_t t = 0; t < want.size(); t++)
        ASSERT_EQ(picks[t].row, want[t]) << "pick " << t;
}

TEST(CostsPlainly, Random)
{
    const Everything e = everything(400);
    const std::vector<double> costs = uneven(400, 7);
    double left = 9000;
    std::vector<int64_t> want;
    for (const selection_pick &p : run("random", task_of(e, 400), 1))
        if (costs[(size_t)p.row] <= left) {
            want.push_back(p.row);
            left -= costs[(size_t)p.row];
        }
    expect_rows(run("random", task_of(e, 400), 1, {}, nullptr, costs, 9000), want);
}

TEST(CostsPlainly, Fisher)
{
    const Everything e = everything(400);
    const std::vector<double> costs = uneven(400, 8);
    const int64_t dim = e.d.dim;
    std::vector<long double> a((size_t)(dim * dim));
    size_t taken = 0;
    for (int64_t i = 0; i < dim; i++)
        a[(size_t)(i * dim + i)] = 1 / 0.5L; // task_of's lambda
    const auto product = [&](int64_t row) {
        std::vector<long double> u((size_t)dim);
        for (int64_t i = 0; i < dim; i++)
            for (int64_t j = 0; j < dim; j++)
                u[(size_t)i] += a[(size_t)(i * dim + j)] * e.d.x[(size_t)(row * dim + j)];
        return u;
    };
    const auto gain = [&](int64_t row, const std::vector<long double> &u) {
        long double sum = 0;
        for (int64_t i = 0; i < dim; i++)
            sum += u[(size_t)i] * e.d.x[(size_t)(row * dim + i)];
        return sum;
    };
    const auto want = plainly(400, costs, 9000, [&](int64_t row, const std::vector<int64_t> &chosen) {
        for (; taken < chosen.size(); taken++) {
            const auto u = product(chosen[taken]);
            const long double scale = 1 + gain(chosen[taken], u);
            for (int64_t i = 0; i < dim; i++)
                for (int64_t j = 0; j < dim; j++)
                    a[(size_t)(i * dim + j)] -= u[(size_t)i] * u[(size_t)j] / scale;
        }
        return (double)gain(row, product(row));
    });
    ASSERT_GT(want.size(), 64u); // more than a block
    expect_rows(run("fisher", task_of(e, 400), 2, {}, nullptr, costs, 9000), want);
}

TEST(CostsPlainly, Js)
{
    const Everything e = everything(400);
    const std::vector<double> costs = uneven(400, 9);
    const auto entropy = [](const std::vector<double> &p) {
        double sum = 0;
        for (double v : p)
            sum -= v > 0 ? v * std::log(v) : 0;
        return sum;
    };
    const auto want = plainly(400, costs, 9000, [&](int64_t row, const std::vector<int64_t> &chosen) {
        std::vector<double> mean(5), middle(5), own(&e.p[(size_t)row * 5], &e.p[(size_t)row * 5] + 5);
        if (chosen.empty())
            return e.entropy[(size_t)row];
        for (int64_t c : chosen)
            for (size_t j = 0; j < 5; j++)
                mean[j] += e.p[(size_t)c * 5 + j] / (double)chosen.size();
        for (size_t j = 0; j < 5; j++)
            middle[j] = 0.5 * (mean[j] + own[j]);
        return 0.4 * e.entropy[(size_t)row] +
               0.6 * (entropy(middle) - 0.5 * entropy(mean) - 0.5 * entropy(own));
    });
    expect_rows(run("js", task_of(e, 400), 2, {}, nullptr, costs, 9000), want);
}

TEST(CostsPlainly, Kcenter)
{
    const Everything e = everything(400);
    const std::vector<double> costs = uneven(400, 10);
    const int64_t dim = e.d.dim;
    std::vector<double> mean((size_t)dim);
    for (int64_t i = 0; i < 400; i++)
        for (int64_t j = 0; j < dim; j++)
            mean[(size_t)j] += (double)e.d.x[(size_t)(i * dim + j)] / 400;
    const auto want = plainly(400, costs, 9000, [&](int64_t row, const std::vector<int64_t> &chosen) {
        const auto distance2 = [&](const std::function<double(int64_t)> &other) {
            double sum = 0;
            for (int64_t j = 0; j < dim; j++)
                sum += std::pow((double)e.d.x[(size_t)(row * dim + j)] - other(j), 2);
            return sum;
        };
        if (chosen.empty())
            return -distance2([&](int64_t j) { return mean[(size_t)j]; });
        double nearest = INFINITY;
        for (int64_t c : chosen)
            nearest =
                std::min(nearest, distance2([&](int64_t j) { return (double)e.d.x[(size_t)(c * dim + j)]; }));
        return nearest;
    });
    expect_rows(run("kcenter", task_of(e, 400), 2, {}, nullptr, costs, 9000), want);
}

std::vector<sc_pick> fit(const Data &d, const sc_selector_options &o, sc_status want = SC_OK)
{
    std::vector<sc_pick> picks((size_t)d.n);
    int64_t n = -1;
    EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, picks.data(), &n), want) << sc_last_error();
    picks.resize(want == SC_OK ? (size_t)n : 0);
    return picks;
}

TEST(CostsSelector, GivenRowsAreFreeAndIncludedOnesAreNot)
{
    const Data d = normal_rows("random", 90, 5, 41);
    const std::vector<double> costs(90, 3);
    const std::vector<int64_t> given = {1, 2}, include = {50, 40};
    sc_selector_options o = sc_selector_default();
    o.costs = costs.data(), o.budget_cost = 31;
    o.given = given.data(), o.n_given = 2, o.include = include.data(), o.n_include = 2;
    const auto picks = fit(d, o);
    ASSERT_EQ(picks.size(), 10u);
    EXPECT_EQ(picks[0].row, 50);
    EXPECT_EQ(picks[1].row, 40);
    o.budget = 6;
    EXPECT_EQ(fit(d, o).size(), 6u);
    o.budget = 0, o.budget_cost = 6;
    EXPECT_EQ(fit(d, o).size(), 2u);
}

TEST(CostsSelector, RefusesWhatItCannotUse)
{
    const Data d = normal_rows("random", 20, 4, 42);
    std::vector<double> costs(20, 3);
    const std::vector<int64_t> include = {5, 6};
    const auto refuses = [&](const sc_selector_options &o, sc_status code, const std::string &said) {
        fit(d, o, code);
        EXPECT_NE(std::string(sc_last_error()).find(said), std::string::npos) << sc_last_error();
    };
    sc_selector_options o = sc_selector_default();
    refuses(o, SC_USAGE, "--budget-tokens");
    o.budget_cost = 9;
    refuses(o, SC_USAGE, "cost of every row");
    o.costs = costs.data();
    EXPECT_EQ(fit(d, o).size(), 3u);
    o.budget_cost = 2.5;
    refuses(o, SC_USAGE, "costs 3");
    o.budget_cost = 5, o.include = include.data(), o.n_include = 2;
    refuses(o, SC_USAGE, "included cost 6");
    o.n_include = 0;
    for (double wrong : {-1.0, (double)NAN, (double)INFINITY}) {
        o.budget_cost = wrong;
        refuses(o, SC_USAGE, "budget");
    }
    o.budget_cost = 9;
    for (double wrong : {0.0, -3.0, (double)NAN, (double)INFINITY}) {
        costs[7] = wrong;
        refuses(o, SC_BAD_INPUT, "row 7");
    }
    costs[7] = 3;
    const std::vector<uint8_t> all(20, 1);
    o.exclude = all.data();
    refuses(o, SC_USAGE, "no row left");
}

} // namespace
