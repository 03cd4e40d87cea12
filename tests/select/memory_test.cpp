// Where memory is short nothing is copied that can be made again, and nothing changes.
#include <cstdlib>

#include "fixture.h"

extern "C" {
#include "seedcorn/kmeans.h"
#include "seedcorn/select.h"
}

namespace
{

// As if so many bytes were free, for as long as it lives.
class Memory
{
  public:
    explicit Memory(const char *bytes)
    {
        setenv("SEEDCORN_MEMORY", bytes, 1);
    }
    ~Memory()
    {
        unsetenv("SEEDCORN_MEMORY");
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
};

std::vector<sc_pick> fit(const Data &d, const char *strategy, int64_t budget)
{
    sc_selector_options o = sc_selector_default();
    o.strategy = strategy, o.budget = budget, o.clusters = 6, o.alpha = 0.3;
    std::vector<sc_pick> picks(budget);
    int64_t n = 0;
    EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, picks.data(), &n), SC_OK) << sc_last_error();
    picks.resize(n);
    return picks;
}

void same_both_ways(const Data &d, int64_t budget)
{
    for (const char *strategy : {"js", "entropy", "kmeans"}) {
        SCOPED_TRACE(d.name + ", " + strategy);
        const std::vector<sc_pick> copied = fit(d, strategy, budget);
        const Memory none("1");
        const std::vector<sc_pick> made = fit(d, strategy, budget);
        ASSERT_EQ(made.size(), copied.size());
        EXPECT_EQ(memcmp(made.data(), copied.data(), made.size() * sizeof made[0]), 0);
    }
}

TEST(ShortOfMemory, ChoosesTheSame)
{
    for (const Data &d : all_data())
        same_both_ways(d, d.n < 20 ? d.n : 20);
    for (const Data &d : many_rows())
        same_both_ways(d, 30);
}

// More than a block of rows.
TEST(ShortOfMemory, ClustersTheSameInBlocks)
{
    const Data d = normal_rows("groups", 9001, 600, 31, [](Data &r) {
        for (int64_t i = 0; i < r.n; i++)
            for (int64_t j = 0; j < r.dim; j++)
                r.x[i * r.dim + j] = 0.4f * r.x[i * r.dim + j] + float((i * 7 + j * (i % 13)) % 5) + 40;
    });
    struct Found {
        Floats centres, dist2;
        std::vector<int32_t> labels;
        sc_kmeans_result result;
    };
    auto cluster = [&] {
        sc_kmeans_options o = sc_kmeans_default();
        o.clusters = 16, o.tolerance = 0, o.max_iterations = 12;
        Found f{Floats(16 * d.dim), Floats(d.n), std::vector<int32_t>(d.n), {}};
        EXPECT_EQ(sc_kmeans_fit(&o, d.x.data(), d.n, d.dim, f.centres.data(), f.labels.data(), f.dist2.data(),
                                &f.result),
                  SC_OK)
            << sc_last_error();
        return f;
    };
    const Found copied = cluster();
    const Memory none("1");
    const Found made = cluster();
    EXPECT_EQ(made.labels, copied.labels);
    EXPECT_EQ(made.centres, copied.centres);
    EXPECT_EQ(made.dist2, copied.dist2);
    EXPECT_EQ(made.result.iterations, copied.result.iterations);
    EXPECT_EQ(made.result.inertia, copied.result.inertia);
}

TEST(ShortOfMemory, TheMapIsTheSame)
{
    const Data d = normal_rows("rows", 3000, 50, 32);
    std::vector<float> maps[2] = {std::vector<float>(2 * d.n), std::vector<float>(2 * d.n)};
    for (int run = 0; run < 2; run++) {
        const Memory some(run == 0 ? "1000000000" : "1");
        centred c = {};
        ASSERT_EQ(features_centre(d.x.data(), d.n, d.dim, &c), SC_OK);
        EXPECT_EQ(c.x == nullptr, run == 1);
        EXPECT_EQ(features_map(&c, 7, maps[run].data()), SC_OK);
        centred_free(&c);
    }
    EXPECT_EQ(maps[0], maps[1]);
}

} // namespace
