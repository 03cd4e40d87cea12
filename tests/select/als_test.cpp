// Factors of users and items.
#include <omp.h>

#include <numeric>

#include "device/tables.h"
#include "fixture.h"

extern "C" {
#include "select/als.h"
}

namespace
{

const als_options SETTINGS = {6, 20, 40, 0.5, 3};

struct Factors {
    Floats users = Floats(20 * 6, 9), items = Floats(16 * 6, 9);
    std::vector<uint8_t> user_seen = std::vector<uint8_t>(20, 9), item_seen = std::vector<uint8_t>(16, 9);
};

Factors fit(const std::vector<interaction> &in, const als_options &o, sc_status want = SC_OK,
            const ops *table = cpu_ops())
{
    Factors f;
    EXPECT_EQ(als_fit(table, in.data(), in.size(), 20, 16, &o, f.users.data(), f.items.data(),
                      f.user_seen.data(), f.item_seen.data()),
              want)
        << sc_last_error();
    return f;
}

TEST(Als, TheLastSideSolvesItsEquations)
{
    const std::vector<interaction> in = two_groups();
    const Factors f = fit(in, SETTINGS);
    for (int item = 1; item < 16; item++)
        for (int p = 0; p < 6; p++) {
            double residual = SETTINGS.regularisation * f.items[item * 6 + p], size = 0;
            for (int u = 0; u < 20; u++) {
                const bool met = std::any_of(in.begin(), in.end(), [&](const interaction &x) {
                    return x.user == u && x.item == item;
                });
                double dot = 0;
                for (int q = 0; q < 6; q++)
                    dot += (double)f.users[u * 6 + q] * f.items[item * 6 + q];
                const double term = (met ? 41 : 1) * (dot - met) * f.users[u * 6 + p];
                residual += term;
                size += std::fabs(term);
            }
            ASSERT_NEAR(residual, 0, 1e-5 * (size + 1)) << item;
        }
}

TEST(Als, FindsTheGroupsAndWhoIsInNone)
{
    const Factors f = fit(two_groups(), SETTINGS);
    const auto score = [&](int u, int i) {
        return std::inner_product(&f.users[u * 6], &f.users[u * 6] + 6, &f.items[i * 6], 0.0);
    };
    double own = 0, other = 0;
    for (int u = 0; u < 19; u++)
        for (int i = 1; i < 16; i++)
            (i % 2 == u % 2 ? own : other) += score(u, i);
    EXPECT_GT(own / 142, 0.45); // half of them are interactions
    EXPECT_LT(other / 143, 0.2);
    EXPECT_EQ(f.user_seen[19], 0);
    EXPECT_EQ(f.item_seen[0], 0);
    EXPECT_EQ(std::accumulate(f.user_seen.begin(), f.user_seen.end(), 0), 19);
    EXPECT_EQ(std::accumulate(f.item_seen.begin(), f.item_seen.end(), 0), 15);
    for (int p = 0; p < 6; p++)
        EXPECT_EQ(f.users[19 * 6 + p] == 0 && f.items[p] == 0, true);
}

TEST(Als, TheSameBytesForAnyThreads)
{
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    const Factors one = fit(two_groups(), SETTINGS);
    omp_set_num_threads(3);
    const Factors three = fit(two_groups(), SETTINGS);
    omp_set_num_threads(before);
    EXPECT_EQ(one.users, three.users);
    EXPECT_EQ(one.items, three.items);
}

TEST(Als, RefusesWhatIsOutside)
{
    als_options o = SETTINGS;
    fit({{0, 16, 1}}, o, SC_BAD_INPUT);
    fit({{-1, 1, 1}}, o, SC_BAD_INPUT);
    o.factors = 0;
    fit({}, o, SC_USAGE);
    o.factors = 513;
    fit({}, o, SC_USAGE);
}

TEST(Als, TheSameBytesOnEveryTable)
{
    als_options few = SETTINGS;
    few.iterations = 4;
    const Factors want = fit(two_groups(), few);
    for (const ops *table : present_tables()) {
        const Factors got = fit(two_groups(), few, SC_OK, table);
        EXPECT_EQ(got.users, want.users) << table->name;
        EXPECT_EQ(got.items, want.items) << table->name;
        EXPECT_EQ(got.user_seen, want.user_seen) << table->name;
        EXPECT_EQ(got.item_seen, want.item_seen) << table->name;
    }
}

TEST(Als, SaysThatADeviceLacksIt)
{
    ops lacking = *cpu_ops();
    lacking.name = "abacus";
    lacking.als_solve = nullptr;
    fit(two_groups(), SETTINGS, SC_DEVICE, &lacking);
    EXPECT_NE(std::string(sc_last_error()).find("\"abacus\""), std::string::npos) << sc_last_error();
}

// What a dry run says is what is held: more rows take more, and a table that lacks the operations takes no scratch.
TEST(Als, PlansItsMemory)
{
    estimate few = {}, more = {};
    als_plan(cpu_ops(), 1000, 50, 60, 8, &few);
    als_plan(cpu_ops(), 1001, 50, 60, 8, &more);
    EXPECT_EQ(estimate_bytes(&more) - estimate_bytes(&few), 8);
    const int64_t scratch = (int64_t)cpu_ops()->als_gram_workspace(60, 8);
    EXPECT_EQ(estimate_bytes(&few), 110 * 8 * 4 + 110 + 1000 * 8 + 112 * 8 + 64 * 8 + scratch);
    EXPECT_EQ(estimate_device_bytes(&few), estimate_bytes(&few) - 110);
}

} // namespace
