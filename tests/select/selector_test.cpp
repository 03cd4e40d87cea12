// The public functions on rows in memory: the same picks and clusters as inside, and what they refuse.
#include "fixture.h"

extern "C" {
#include "seedcorn/kmeans.h"
}

namespace
{

std::vector<sc_pick> fit(const Data &d, const sc_selector_options &o, sc_status want = SC_OK)
{
    std::vector<sc_pick> picks(static_cast<size_t>(std::max<int64_t>(o.budget, 0)));
    int64_t n = -1;
    EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, picks.data(), &n), want) << sc_last_error();
    if (want == SC_OK)
        picks.resize(static_cast<size_t>(n));
    return picks;
}

TEST(Selector, PicksAsTheStrategyDoes)
{
    const Data d = normal_rows("random", 200, 6, 31);
    for (const char *name : {"fisher", "kcenter", "kmeans", "random"}) {
        sc_selector_options o = sc_selector_default();
        o.strategy = name;
        o.budget = 40;
        o.lambda = 2;
        o.common.seed = 9;
        selection_task task = {};
        task.x = d.x.data(), task.n = d.n, task.dim = d.dim, task.budget = 40, task.lambda = 2, task.seed = 9;
        expect_same(fit(d, o), run(name, task, 1));
    }
}

TEST(Selector, OverClusters)
{
    const Data d = normal_rows("random", 200, 6, 32);
    for (const char *name : {"js", "entropy"}) {
        sc_selector_options o = sc_selector_default();
        o.strategy = name;
        o.budget = 200;
        o.clusters = 5;
        const std::vector<sc_pick> own = fit(d, o);
        o.centres = d.x.data();
        o.n_centres = 9;
        const std::vector<sc_pick> given = fit(d, o);
        for (const sc_pick &p : own) {
            EXPECT_LE(p.entropy, std::log(5) + 1e-12);
            EXPECT_LT(p.cluster, 5);
        }
        std::set<int64_t> labels;
        for (const sc_pick &p : given)
            labels.insert(p.cluster);
        EXPECT_EQ(labels.size(), 9u); // each of the nine given rows is the nearest centre of itself at least
    }
}

TEST(Selector, IncludedRowsComeFirstAndCount)
{
    const Data d = normal_rows("random", 80, 5, 35);
    const std::vector<int64_t> given = {3, 9}, include = {70, 2, 41};
    std::vector<uint8_t> exclude(80);
    exclude[11] = exclude[12] = 1;
    for (const char *name :
         {"fisher", "js", "bait", "facility", "kcenter", "kmeans", "entropy", "popularity", "random"}) {
        SCOPED_TRACE(name);
        std::vector<int32_t> items;
        for (int i = 0; i < 80; i++)
            items.push_back(i % 9);
        sc_selector_options o = sc_selector_default();
        o.strategy = name, o.budget = 75, o.clusters = 6, o.items = items.data();
        o.given = given.data(), o.n_given = 2, o.include = include.data(), o.n_include = 3;
        o.exclude = exclude.data();
        std::set<int64_t> rows;
        const std::vector<sc_pick> picks = fit(d, o);
        for (const sc_pick &p : picks)
            EXPECT_TRUE(rows.insert(p.row).second && !exclude[(size_t)p.row] && p.row != 3 && p.row != 9);
        ASSERT_EQ(picks.size(), 75u);
        for (size_t i = 0; i < 3; i++)
            EXPECT_EQ(picks[i].row, include[i]);
        o.budget = 77; // 76 are open
        fit(d, o, SC_USAGE);
        EXPECT_NE(std::string(sc_last_error()).find("give 76 or less"), std::string::npos);
        o.budget = 2;
        fit(d, o, SC_USAGE);
        o.budget = 3;
        EXPECT_EQ(fit(d, o).size(), 3u);
    }
}

TEST(Selector, RefusesConstraintsThatContradict)
{
    const Data d = normal_rows("random", 20, 3, 36);
    const auto with = [&](std::vector<int64_t> given, std::vector<int64_t> include,
                          std::vector<int64_t> exclude) {
        sc_selector_options o = sc_selector_default();
        std::vector<uint8_t> mask(20);
        for (int64_t row : exclude)
            mask[(size_t)row] = 1;
        o.budget = 5, o.given = given.data(), o.n_given = (int64_t)given.size();
        o.include = include.data(), o.n_include = (int64_t)include.size(), o.exclude = mask.data();
        fit(d, o, SC_BAD_INPUT);
        return std::string(sc_last_error());
    };
    EXPECT_NE(with({1, 20}, {}, {}).find("row 20"), std::string::npos);
    EXPECT_NE(with({}, {-1}, {}).find("row -1"), std::string::npos);
    EXPECT_NE(with({4, 4}, {}, {}).find("row 4"), std::string::npos);
    EXPECT_NE(with({4}, {4}, {}).find("row 4"), std::string::npos);
    EXPECT_NE(with({}, {7}, {7}).find("both"), std::string::npos);
    const std::vector<int32_t> groups(20, 2);
    sc_cap cap = {nullptr, groups.data(), 2, 1};
    sc_selector_options o = sc_selector_default();
    o.budget = 5, o.caps = &cap, o.n_caps = 1;
    fit(d, o, SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("group 2"), std::string::npos);
    cap.n_groups = 3, cap.most = 0;
    fit(d, o, SC_USAGE);
    const std::vector<int64_t> offsets(21, 1);
    cap.most = 1, cap.offsets = offsets.data();
    fit(d, o, SC_BAD_INPUT);
}

TEST(Selector, RefusesWhatItCannotUse)
{
    Data d = normal_rows("random", 50, 4, 33);
    sc_selector_options o = sc_selector_default();
    o.budget = 51;
    fit(d, o, SC_USAGE);
    EXPECT_NE(std::string(sc_last_error()).find("only 50 rows"), std::string::npos);
    o.budget = 5;
    o.struct_size = 8;
    fit(d, o, SC_USAGE);
    o = sc_selector_default();
    o.budget = 5;
    o.strategy = "popularity";
    fit(d, o, SC_USAGE);
    o.strategy = "nll";
    fit(d, o, SC_USAGE);
    std::vector<double> surprise(50, 1.0);
    surprise[3] = NAN;
    o.surprise = surprise.data();
    fit(d, o, SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("row 3"), std::string::npos);
    surprise[3] = 2;
    EXPECT_EQ(fit(d, o)[0].row, 3);
    o.strategy = "js";
    o.centres = d.x.data();
    fit(d, o, SC_USAGE); // none of them
    o.centres = nullptr;
    d.x[17] = std::nanf("");
    fit(d, o, SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("row 4"), std::string::npos);
    d.n = 0;
    fit(d, o, SC_BAD_INPUT);
}

TEST(KmeansFit, GivesCentresWhereTheRowsAre)
{
    Data d = normal_rows("groups far away", 300, 5, 34, [](Data &g) {
        for (int64_t i = 0; i < g.n; i++)
            for (int64_t j = 0; j < g.dim; j++)
                g.x[i * g.dim + j] += 500 + (j == i % 5 ? 50 : 0);
    });
    sc_kmeans_options o = sc_kmeans_default();
    o.clusters = 5;
    std::vector<float> centres(25), dist2(300);
    std::vector<int32_t> labels(300), again(300);
    sc_kmeans_result r;
    ASSERT_EQ(sc_kmeans_fit(&o, d.x.data(), d.n, d.dim, centres.data(), labels.data(), dist2.data(), &r),
              SC_OK);
    EXPECT_EQ(r.clusters, 5);
    EXPECT_EQ(r.converged, 1);
    double total = 0;
    for (int64_t i = 0; i < d.n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < d.dim; j++)
            sum += std::pow((double)d.x[i * 5 + j] - centres[labels[i] * 5 + j], 2);
        EXPECT_NEAR(dist2[i], sum, 1e-2);
        EXPECT_EQ(labels[i], labels[i % 5]);
        total += dist2[i];
    }
    EXPECT_NEAR(r.inertia, total, 1e-3 * total);
    o.centres = centres.data();
    ASSERT_EQ(sc_kmeans_predict(&o, d.x.data(), d.n, d.dim, again.data(), nullptr), SC_OK);
    EXPECT_EQ(again, labels);
    ASSERT_EQ(sc_kmeans_fit(&o, d.x.data(), d.n, d.dim, centres.data(), nullptr, nullptr, nullptr), SC_OK);
    o.centres = nullptr;
    EXPECT_EQ(sc_kmeans_predict(&o, d.x.data(), d.n, d.dim, again.data(), nullptr), SC_USAGE);
    o.struct_size++;
    EXPECT_EQ(sc_kmeans_fit(&o, d.x.data(), d.n, d.dim, centres.data(), nullptr, nullptr, nullptr), SC_USAGE);
    o = sc_kmeans_default();
    centres[3] = INFINITY;
    o.clusters = 5;
    o.centres = centres.data();
    EXPECT_EQ(sc_kmeans_predict(&o, d.x.data(), d.n, d.dim, again.data(), nullptr), SC_BAD_INPUT);
}

} // namespace
