// What may be chosen: rows chosen before, excluded rows, caps; alone and in every strategy.
#include "everything.h"

namespace
{

TEST(Limits, ClosesRowsAndFullGroups)
{
    const std::vector<int64_t> offsets = {0, 1, 3, 3, 4, 6};
    const std::vector<int32_t> groups = {0, 0, 1, 1, 1, 2}; // row 1 and row 4 are in two
    const std::vector<int32_t> single = {0, 1, -1, 0, 1};
    const sc_cap caps[] = {{offsets.data(), groups.data(), 3, 2}, {nullptr, single.data(), 2, 1}};
    const uint8_t excluded[] = {0, 0, 1, 0, 0};
    limits l = {};
    ASSERT_EQ(limits_open(&l, 5, excluded, caps, 2), SC_OK);
    EXPECT_EQ(l.n_open, 4);
    EXPECT_EQ(limits_reach(&l, 2), 5);
    limits_take(&l, 1); // the second cap's group 1 is full: row 4 goes, too
    EXPECT_EQ(l.n_open, 2);
    ASSERT_EQ(l.n_just_closed, 2);
    EXPECT_EQ(l.just_closed[0], 1);
    EXPECT_EQ(l.just_closed[1], 4);
    limits_take(&l, 0); // both caps' groups of row 0 are full: row 3 goes
    EXPECT_EQ(l.n_open, 0);
    EXPECT_TRUE(l.closed[3]);
    limits_close(&l);
    ASSERT_EQ(limits_open(&l, 5, excluded, nullptr, 0), SC_OK);
    EXPECT_EQ(limits_reach(&l, 2), 3);
    EXPECT_EQ(limits_reach(&l, 5), 5);
    limits_close(&l);
}

const char *const all[] = {"fisher", "js",      "bait",       "facility", "kcenter",
                           "kmeans", "entropy", "popularity", "random"};

// A round of 30 and then one of 50 choose what a round of 80 does.
TEST(Limits, TheChoiceGoesOnFromAnEarlierOne)
{
    for (int64_t n : {200, 5000}) {
        const Everything e = everything(n);
        for (const std::string name : all) {
            SCOPED_TRACE(name);
            if (name == "kmeans")
                continue; // not greedy
            const std::vector<selection_pick> whole = run(name.c_str(), task_of(e, 160), 2);
            for (int64_t first : {1, 30, 90}) { // 90: more than a block of picks
                std::vector<int64_t> given;
                for (int64_t t = 0; t < first; t++)
                    given.push_back(whole[t].row);
                selection_task task = task_of(e, 160 - first);
                task.given = given.data(), task.n_given = first;
                const std::vector<selection_pick> rest = run(name.c_str(), task, 2);
                ASSERT_EQ((int64_t)rest.size(), 160 - first);
                for (int64_t t = first; t < 160; t++) {
                    ASSERT_EQ(rest[t - first].row, whole[t].row) << "pick " << t << " after " << first;
                    ASSERT_NEAR(rest[t - first].score, whole[t].score, 1e-9 * whole[t].score);
                }
            }
        }
    }
}

// Excluded rows are as good as not there, where nothing is computed over all rows.
TEST(Limits, ExcludedRowsAreNotThere)
{
    const Everything e = everything(300);
    std::vector<uint8_t> excluded(300);
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < 300; i++)
        if (!(excluded[i] = i % 3 == 0))
            kept.push_back(i);
    for (const std::string name : all) {
        SCOPED_TRACE(name);
        const std::vector<selection_pick> picks = run(name.c_str(), task_of(e, 200), 1, excluded);
        std::set<int64_t> rows;
        for (const selection_pick &p : picks)
            EXPECT_TRUE(!excluded[p.row] && rows.insert(p.row).second);
        EXPECT_EQ(rows.size(), 200u);
        if (name != "fisher" && name != "js" && name != "entropy")
            continue;
        Everything fewer{{"fewer", 200, 6, {}}, {}, {}, {}, {}, {}};
        for (int64_t i : kept) {
            fewer.d.x.insert(fewer.d.x.end(), &e.d.x[i * 6], &e.d.x[i * 6] + 6);
            fewer.p.insert(fewer.p.end(), &e.p[i * 5], &e.p[i * 5] + 5);
            fewer.entropy.push_back(e.entropy[i]);
            fewer.labels.push_back(0);
        }
        const std::vector<selection_pick> want = run(name.c_str(), task_of(fewer, 200), 1);
        for (int64_t t = 0; t < 200; t++)
            ASSERT_EQ(picks[t].row, kept[want[t].row]) << "pick " << t;
    }
}

// Under a cap, every pick is the one that a choice among the rows still open makes after the same picks.
TEST(Limits, CapsHoldAtEveryPick)
{
    for (int64_t n : {120, 1500}) {
        const Everything e = everything(n);
        std::vector<int32_t> groups;
        for (int64_t i = 0; i < n; i++)
            groups.push_back(i % 11 == 0 ? -1 : (int32_t)(i % 13));
        const sc_cap cap = {nullptr, groups.data(), 13, 3};
        for (const std::string name : all) {
            SCOPED_TRACE(name);
            const std::vector<selection_pick> picks = run(name.c_str(), task_of(e, 70), 2, {}, &cap);
            std::vector<int> taken(13);
            for (const selection_pick &p : picks) {
                if (groups[p.row] >= 0) {
                    ASSERT_LE(++taken[groups[p.row]], 3);
                }
            }
            // 39 from the groups, and the rows that are in none
            ASSERT_EQ((int64_t)picks.size(), std::min<int64_t>(70, 39 + (n + 10) / 11));
            if (name == "kmeans" || name == "popularity" || name == "random")
                continue;
            std::vector<uint8_t> closed(n);
            std::vector<int64_t> given;
            std::fill(taken.begin(), taken.end(), 0);
            for (size_t t = 0; t < picks.size(); t++) {
                selection_task task = task_of(e, 1);
                task.given = given.data(), task.n_given = (int64_t)given.size();
                const std::vector<selection_pick> next = run(name.c_str(), task, 1, closed);
                ASSERT_EQ(next.size(), 1u);
                ASSERT_EQ(next[0].row, picks[t].row) << "pick " << t;
                given.push_back(picks[t].row);
                const int32_t group = groups[picks[t].row];
                if (group >= 0 && ++taken[group] == 3)
                    for (int64_t i = 0; i < n; i++)
                        closed[i] |= groups[i] == group;
            }
        }
    }
}

TEST(Limits, NothingIsLeft)
{
    const Everything e = everything(40);
    const std::vector<int32_t> groups(40, 0);
    const sc_cap cap = {nullptr, groups.data(), 1, 2};
    for (const char *name : all) {
        SCOPED_TRACE(name);
        EXPECT_EQ(run(name, task_of(e, 10), 1, {}, &cap).size(), 2u);
    }
}

} // namespace
