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
    EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, picks.data()), want) << sc_last_error();
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
