// The same picks on every table: the CPU's, and the kernels', as the emulator and the card run them.
#include <cstdlib>

#include "device/tables.h"
#include "fixture.h"

extern "C" {
#include "seedcorn/kmeans.h"
}

namespace
{

sc_selector_options options_for(const char *strategy, const char *device, int64_t budget)
{
    sc_selector_options o = sc_selector_default();
    o.common.device = device;
    o.strategy = strategy;
    o.budget = budget;
    o.clusters = 7;
    return o;
}

TEST(NoTable, ADeviceThatIsNotThereIsASentence)
{
    const Data d = normal_rows("random", 40, 4, 1);
    sc_pick pick;
    int64_t n = 0;
    sc_selector_options o = options_for("fisher", "cuda", 1);
    {
        const Plugin none("/nonexistent/libseedcorn_cuda.so");
        EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, &pick, &n), SC_DEVICE);
        EXPECT_NE(std::string(sc_last_error()).find("was not found"), std::string::npos) << sc_last_error();
    }
    {
        const Plugin other("/lib/x86_64-linux-gnu/libm.so.6");
        EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, &pick, &n), SC_DEVICE);
        EXPECT_NE(std::string(sc_last_error()).find("no plug-in of Seedcorn's"), std::string::npos)
            << sc_last_error();
    }
}

// Each test runs with every plug-in that is here; with none, there is nothing to compare.
class Tables : public testing::TestWithParam<PresentPlugin>
{
    const Plugin plugin_{GetParam().path.c_str()};
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Tables);
INSTANTIATE_TEST_SUITE_P(Plugins, Tables, testing::ValuesIn(present_plugins()),
                         testing::PrintToStringParamName());

std::vector<sc_pick> picks_of(const sc_selector_options &o, const Data &d)
{
    std::vector<sc_pick> picks(o.budget);
    int64_t n = 0;
    EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, picks.data(), &n), SC_OK)
        << d.name << ": " << sc_last_error();
    picks.resize(n);
    return picks;
}

// Row for row; the scores as far as doubles that are summed in another order agree.
void expect_same_picks(sc_selector_options o, const Data &d)
{
    SCOPED_TRACE(std::string(o.strategy) + " on " + d.name);
    o.common.device = "cpu";
    const std::vector<sc_pick> cpu = picks_of(o, d);
    o.common.device = "cuda";
    const std::vector<sc_pick> kernels = picks_of(o, d);
    ASSERT_EQ(cpu.size(), kernels.size());
    for (size_t t = 0; t < cpu.size(); t++) {
        ASSERT_EQ(cpu[t].row, kernels[t].row) << "pick " << t;
        ASSERT_NEAR(cpu[t].score, kernels[t].score, 1e-9 * std::fabs(cpu[t].score)) << "pick " << t;
    }
}

TEST_P(Tables, EveryStrategyPicksTheSame)
{
    for (const char *strategy : {"fisher", "kcenter", "js", "bait", "entropy", "kmeans", "random"})
        expect_same_picks(options_for(strategy, "cuda", 40), normal_rows("random", 300, 21, 3));
}

TEST_P(Tables, FisherAndKcenterOnHardRows)
{
    for (const Data &d : all_data())
        for (const char *strategy : {"fisher", "kcenter"})
            expect_same_picks(options_for(strategy, "cuda", d.n), d);
}

// More rows than a pool holds, and more picks than a block.
TEST_P(Tables, FisherInSeveralBlocks)
{
    expect_same_picks(options_for("fisher", "cuda", 100), normal_rows("random", 1300, 20, 4));
}

// As many rows as good as equal as no list of the best holds.
TEST_P(Tables, FisherWithManyEqualRows)
{
    Data d = normal_rows("one row", 2300, 4, 7);
    for (int64_t i = 1; i < d.n; i++)
        std::copy_n(d.x.begin(), d.dim, d.x.begin() + i * d.dim);
    expect_same_picks(options_for("fisher", "cuda", 2), d);
}

TEST_P(Tables, GivenRowsAndCaps)
{
    const Data d = normal_rows("random", 200, 10, 5);
    const std::vector<int64_t> given = {3, 77, 150};
    std::vector<int32_t> groups;
    for (int32_t i = 0; i < 200; i++)
        groups.push_back(i % 9 == 8 ? -1 : i % 9);
    sc_cap cap = {};
    cap.groups = groups.data();
    cap.n_groups = 8;
    cap.most = 3;
    for (const char *strategy : {"fisher", "js", "kcenter"}) {
        sc_selector_options o = options_for(strategy, "cuda", 60);
        o.given = given.data();
        o.n_given = static_cast<int64_t>(given.size());
        o.caps = &cap;
        o.n_caps = 1;
        expect_same_picks(o, d);
    }
}

TEST_P(Tables, KmeansFindsTheSameClusters)
{
    const Data d = normal_rows("random", 500, 18, 6);
    std::vector<float> centres[2];
    std::vector<int32_t> labels[2];
    for (int run = 0; run < 2; run++) {
        sc_kmeans_options o = sc_kmeans_default();
        o.common.device = run == 0 ? "cpu" : "cuda";
        o.clusters = 9;
        centres[run].resize(9 * d.dim);
        labels[run].resize(d.n);
        ASSERT_EQ(sc_kmeans_fit(&o, d.x.data(), d.n, d.dim, centres[run].data(), labels[run].data(), nullptr,
                                nullptr),
                  SC_OK)
            << sc_last_error();
    }
    EXPECT_EQ(labels[0], labels[1]);
    EXPECT_EQ(centres[0], centres[1]);
}

TEST_P(Tables, ACardThatIsNotThereIsASentence)
{
    const Data d = normal_rows("random", 40, 4, 1);
    sc_pick pick;
    int64_t n = 0;
    const sc_selector_options o = options_for("fisher", "cuda:4096", 1);
    EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, &pick, &n), SC_DEVICE);
    EXPECT_NE(std::string(sc_last_error()).find("this machine has"), std::string::npos) << sc_last_error();
}

#ifdef SC_EMU_LIBRARY
TEST(OneCard, AProcessWorksOnOneOnly)
{
    const Plugin emulator(SC_EMU_LIBRARY);
    const Data d = normal_rows("random", 40, 4, 1);
    sc_pick pick;
    int64_t n = 0;
    setenv("EMU_DEVICES", "2", 1);
    for (const char *device : {"cuda", "cuda:0"}) {
        const sc_selector_options first = options_for("fisher", device, 1);
        EXPECT_EQ(sc_selector_fit(&first, d.x.data(), d.n, d.dim, &pick, &n), SC_OK) << sc_last_error();
    }
    const sc_selector_options second = options_for("fisher", "cuda:1", 1);
    EXPECT_EQ(sc_selector_fit(&second, d.x.data(), d.n, d.dim, &pick, &n), SC_DEVICE);
    EXPECT_NE(std::string(sc_last_error()).find("works on card 0 already"), std::string::npos)
        << sc_last_error();
    unsetenv("EMU_DEVICES");
}
#endif

} // namespace
