// Rows that a card has no room for: they pass through it in chunks, and the picks are the same bytes.
#include <cstdlib>
#include <cstring>

#include "device/tables.h"
#include "fixture.h"

extern "C" {
#include "seedcorn/kmeans.h"
#include "select/clustering.h"
#include "select/rows.h"
}

namespace
{

// The emulator's card has only so much memory, for as long as it lives.
class Memory
{
  public:
    explicit Memory(size_t bytes)
    {
        setenv("EMU_MEMORY", std::to_string(bytes).c_str(), 1);
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    ~Memory()
    {
        unsetenv("EMU_MEMORY");
    }
};

// So much that `beside` and a third of the rows fit.
size_t a_third(size_t beside, int64_t n, int64_t dim)
{
    return (beside + static_cast<size_t>(n * dim) * sizeof(float) / 3) * 16 / 15;
}

const ops *emulated()
{
    for (const PresentPlugin &plugin : present_plugins())
        if (plugin.name == "emu")
            return plugin.table;
    return nullptr;
}

// The emulator's order of threads and copies, for as long as it lives.
class Seed
{
  public:
    explicit Seed(uint64_t seed)
    {
        void *library = dlopen(std::getenv("SEEDCORN_CUDA_PLUGIN"), RTLD_NOW | RTLD_LOCAL);
        set_ = library ? reinterpret_cast<void (*)(uint64_t)>(dlsym(library, "_ZN3emu8set_seedEm")) : nullptr;
        EXPECT_NE(set_, nullptr);
        if (set_)
            set_(seed);
    }
    ~Seed()
    {
        const char *before = std::getenv("EMU_SEED");
        if (set_)
            set_(before ? std::strtoull(before, nullptr, 10) : 0);
    }
    Seed(const Seed &) = delete;
    Seed &operator=(const Seed &) = delete;

  private:
    void (*set_)(uint64_t);
};

class Streamed : public testing::Test
{
  protected:
    void SetUp() override
    {
        if (!emulated())
            GTEST_SKIP() << "no emulated card here";
        for (const PresentPlugin &plugin : present_plugins())
            if (plugin.name == "emu")
                setenv("SEEDCORN_CUDA_PLUGIN", plugin.path.c_str(), 1);
    }
    void TearDown() override
    {
        unsetenv("SEEDCORN_CUDA_PLUGIN");
    }
};

struct Seen {
    const ops *table;
    int64_t dim, next = 0;
    std::vector<int64_t> chunks;
    Floats rows;
};

sc_status look(void *context, const float *x, int64_t first, int64_t n)
{
    Seen *s = static_cast<Seen *>(context);
    EXPECT_EQ(first, s->next);
    s->next += n;
    s->chunks.push_back(n);
    s->rows.resize(static_cast<size_t>(s->next * s->dim));
    EXPECT_EQ(s->table->download(nullptr, &s->rows[first * s->dim], x,
                                 static_cast<size_t>(n * s->dim) * sizeof(float)),
              SC_OK);
    return s->table->synchronise(nullptr);
}

Seen passed(const ops *table, const Data &d, size_t beside, int passes = 1)
{
    device_rows rows;
    EXPECT_EQ(rows_open(table, d.x.data(), d.n, d.dim, beside, &rows), SC_OK) << sc_last_error();
    Seen seen{table, d.dim, 0, {}, {}};
    for (int pass = 0; pass < passes; pass++) {
        seen = Seen{table, d.dim, 0, {}, {}};
        EXPECT_EQ(rows_pass(&rows, look, &seen), SC_OK) << sc_last_error();
    }
    rows_close(&rows);
    return seen;
}

TEST(Rows, TheCpuSeesThemWhereTheyLie)
{
    const Data d = normal_rows("random", 70, 5, 1);
    device_rows rows;
    ASSERT_EQ(rows_open(cpu_ops(), d.x.data(), d.n, d.dim, 0, &rows), SC_OK);
    EXPECT_EQ(rows.all, d.x.data());
    EXPECT_FALSE(rows_streamed(&rows));
    rows_close(&rows);
    EXPECT_EQ(passed(cpu_ops(), d, 0).chunks, std::vector<int64_t>{70});
}

TEST_F(Streamed, RowsThatFitAreUploadedOnce)
{
    const Data d = normal_rows("random", 300, 7, 2);
    const Seen seen = passed(emulated(), d, 0, 2);
    EXPECT_EQ(seen.chunks, std::vector<int64_t>{300});
    EXPECT_EQ(seen.rows, d.x);
}

TEST_F(Streamed, OthersPassInChunksInOrder)
{
    const Data d = normal_rows("random", 300, 7, 3);
    const size_t row = 7 * sizeof(float), beside = 5000;
    for (int64_t chunk : {1, 2, 40, 99, 100, 149}) {
        const Memory card((beside + 2 * static_cast<size_t>(chunk) * row) * 16 / 15 + 16);
        const Seen seen = passed(emulated(), d, beside, 3);
        EXPECT_EQ(seen.chunks.front(), chunk);
        EXPECT_EQ(seen.next, d.n);
        EXPECT_EQ(seen.rows, d.x);
        for (size_t c = 0; c + 1 < seen.chunks.size(); c++)
            EXPECT_EQ(seen.chunks[c], chunk);
    }
}

TEST_F(Streamed, NoRoomAtAllIsASentence)
{
    const Data d = normal_rows("random", 300, 7, 3);
    const Memory card(40);
    device_rows rows;
    EXPECT_EQ(rows_open(emulated(), d.x.data(), d.n, d.dim, 0, &rows), SC_MEMORY);
    EXPECT_NE(std::string(sc_last_error()).find("no room"), std::string::npos) << sc_last_error();
    rows_close(&rows);
}

// Visits that only put work into the default stream: what the conveyor does not wait for shows under some seed, when
// kernels and copies come late.
struct Measuring {
    const ops *table;
    int64_t dim;
    int32_t *labels;
    float *dist2, *centre;
    void *work;
};

sc_status measure(void *context, const float *x, int64_t first, int64_t n)
{
    const Measuring *m = static_cast<Measuring *>(context);
    return m->table->cluster_assign(nullptr, m->labels + first, m->dist2 + first, x, m->centre, n, 1, m->dim,
                                    m->work);
}

Floats measured(const ops *table, const Data &d)
{
    device_rows rows;
    Measuring m = {table, d.dim, nullptr, nullptr, nullptr, nullptr};
    Floats zeros(d.dim), out(d.n);
    EXPECT_EQ(table->alloc(reinterpret_cast<void **>(&m.labels), d.n * sizeof(int32_t)), SC_OK);
    EXPECT_EQ(table->alloc(reinterpret_cast<void **>(&m.dist2), d.n * sizeof(float)), SC_OK);
    EXPECT_EQ(table->alloc(reinterpret_cast<void **>(&m.centre), d.dim * sizeof(float)), SC_OK);
    EXPECT_EQ(table->alloc(&m.work, table->cluster_assign_workspace(d.n, 1, d.dim)), SC_OK);
    EXPECT_EQ(table->upload(nullptr, m.centre, zeros.data(), d.dim * sizeof(float)), SC_OK);
    EXPECT_EQ(rows_open(table, d.x.data(), d.n, d.dim, 0, &rows), SC_OK) << sc_last_error();
    for (int pass = 0; pass < 2; pass++)
        EXPECT_EQ(rows_pass(&rows, measure, &m), SC_OK) << sc_last_error();
    EXPECT_EQ(table->download(nullptr, out.data(), m.dist2, d.n * sizeof(float)), SC_OK);
    EXPECT_EQ(table->synchronise(nullptr), SC_OK);
    rows_close(&rows);
    for (void *memory : {(void *)m.labels, (void *)m.dist2, (void *)m.centre, m.work})
        table->release(memory);
    return out;
}

TEST_F(Streamed, PassesWaitForAllThatTheyNeed)
{
    const Data d = normal_rows("random", 203, 9, 8);
    const Floats want = measured(cpu_ops(), d);
    for (uint64_t seed = 0; seed < 12; seed++) {
        const Seed order(seed);
        EXPECT_EQ(measured(emulated(), d), want) << "all at once, seed " << seed;
        const Memory card(6000); // what is measured takes a third of it
        EXPECT_EQ(measured(emulated(), d), want) << "in chunks, seed " << seed;
    }
}

// A visit that fails ends the pass, and nothing is left under way.
TEST_F(Streamed, AVisitThatFailsEndsThePass)
{
    const Data d = normal_rows("random", 300, 7, 3);
    const Memory card(6000);
    device_rows rows;
    ASSERT_EQ(rows_open(emulated(), d.x.data(), d.n, d.dim, 0, &rows), SC_OK);
    int visits = 0;
    const auto fails = [](void *context, const float *, int64_t, int64_t) {
        return ++*static_cast<int *>(context) < 2 ? SC_OK : sc_fail(SC_INTERNAL, "enough");
    };
    EXPECT_EQ(rows_pass(&rows, fails, &visits), SC_INTERNAL);
    EXPECT_EQ(visits, 2);
    rows_close(&rows);
}

// --- strategies ----------------------------------------------------------------------------------------------------

size_t beside_rows(const sc_selector_options &o, const Data &d)
{
    device *dev = nullptr;
    limits open = {};
    const strategy *chosen = nullptr;
    estimate e = {};
    EXPECT_EQ(device_open(&o.common, &dev), SC_OK) << sc_last_error();
    EXPECT_EQ(strategy_find(o.strategy, &chosen), SC_OK);
    EXPECT_EQ(limits_open(&open, d.n, nullptr, nullptr, 0), SC_OK);
    selection_task task = {};
    task.device = dev, task.x = d.x.data(), task.n = d.n, task.dim = d.dim, task.budget = o.budget;
    task.k = o.clusters, task.limits = &open, task.neighbours = o.neighbours;
    if (chosen->needs & NEEDS_CLUSTERS)
        clustering_plan(d.n, d.dim, o.clusters, false, dev->ops, &e);
    else
        chosen->plan(&task, &e);
    EXPECT_EQ(e.n_rows, d.n);
    const size_t bytes = static_cast<size_t>(estimate_device_bytes(&e));
    rows_plan plan;
    const Memory card(a_third(bytes, d.n, d.dim));
    EXPECT_EQ(rows_plan_make(dev->ops, d.n, d.dim, bytes, &plan), SC_OK);
    EXPECT_LE(3 * plan.rows, d.n) << o.strategy;
    EXPECT_NE(d.n % plan.rows, 0) << o.strategy;
    limits_close(&open);
    device_close(dev);
    return bytes;
}

std::vector<sc_pick> picks_of(const sc_selector_options &o, const Data &d)
{
    std::vector<sc_pick> picks(o.budget);
    int64_t n = 0;
    EXPECT_EQ(sc_selector_fit(&o, d.x.data(), d.n, d.dim, picks.data(), &n), SC_OK)
        << o.strategy << ": " << sc_last_error();
    picks.resize(n);
    return picks;
}

void expect_same_bytes(const sc_selector_options &o, const Data &d)
{
    SCOPED_TRACE(std::string(o.strategy) + " on " + d.name);
    const std::vector<sc_pick> all_at_once = picks_of(o, d);
    const Memory card(a_third(beside_rows(o, d), d.n, d.dim));
    const std::vector<sc_pick> in_chunks = picks_of(o, d);
    ASSERT_EQ(all_at_once.size(), in_chunks.size());
    for (size_t t = 0; t < in_chunks.size(); t++)
        ASSERT_EQ(std::memcmp(&all_at_once[t], &in_chunks[t], sizeof(sc_pick)), 0) << "pick " << t;
}

sc_selector_options options_for(const char *strategy, int64_t budget)
{
    sc_selector_options o = sc_selector_default();
    o.common.device = "cuda";
    o.strategy = strategy;
    o.budget = budget;
    o.clusters = 7;
    o.neighbours = 10;
    return o;
}

TEST_F(Streamed, EveryStrategyPicksTheSameBytes)
{
    for (const char *strategy : {"fisher", "js", "entropy", "bait", "kmeans", "facility"})
        expect_same_bytes(options_for(strategy, 25), normal_rows("random", 611, 60, 3));
}

// Several pools and blocks; and bounds that have become loose, which are made anew.
TEST_F(Streamed, FisherInManyBlocks)
{
    expect_same_bytes(options_for("fisher", 300), normal_rows("random", 1499, 40, 4));
}

// Its pools are gathered on the host; only the first look at all rows passes through the card.
TEST_F(Streamed, KcenterLooksAtAllRowsInBlocks)
{
    const Data d = normal_rows("random", 1301, 12, 9);
    for (int64_t n_given : {0, 3}) {
        const std::vector<int64_t> given = {700, 5, 1300};
        sc_selector_options o = options_for("kcenter", 8);
        o.given = given.data();
        o.n_given = n_given;
        const std::vector<sc_pick> at_once = picks_of(o, d);
        device *dev = nullptr;
        limits open = {};
        estimate e = {};
        ASSERT_EQ(device_open(&o.common, &dev), SC_OK);
        ASSERT_EQ(limits_open(&open, d.n, nullptr, nullptr, 0), SC_OK);
        selection_task task = {};
        task.device = dev, task.n = d.n, task.dim = d.dim, task.budget = o.budget, task.limits = &open;
        task.n_given = n_given;
        kcenter_plan(&task, &e);
        size_t beside = 0;
        for (int i = 0; i < e.n_arrays; i++)
            beside += e.arrays[i].phase == 0 ? static_cast<size_t>(e.arrays[i].device_bytes) : 0;
        limits_close(&open);
        device_close(dev);
        const Memory card(beside + static_cast<size_t>(d.n * d.dim) * sizeof(float));
        const std::vector<sc_pick> in_blocks = picks_of(o, d);
        ASSERT_EQ(at_once.size(), in_blocks.size());
        for (size_t t = 0; t < at_once.size(); t++)
            EXPECT_EQ(std::memcmp(&at_once[t], &in_blocks[t], sizeof(sc_pick)), 0) << t;
    }
}

TEST_F(Streamed, GivenRowsAndCaps)
{
    const Data d = normal_rows("random", 700, 40, 5);
    const std::vector<int64_t> given = {3, 77, 150};
    std::vector<int32_t> groups;
    for (int32_t i = 0; i < d.n; i++)
        groups.push_back(i % 9 == 8 ? -1 : i % 9);
    sc_cap cap = {};
    cap.groups = groups.data();
    cap.n_groups = 8;
    cap.most = 3;
    for (const char *strategy : {"fisher", "js"}) {
        sc_selector_options o = options_for(strategy, 60);
        o.given = given.data();
        o.n_given = static_cast<int64_t>(given.size());
        o.caps = &cap;
        o.n_caps = 1;
        expect_same_bytes(o, d);
    }
}

// More than a block of rows chosen before: their sum goes up a block at a time, from one pinned buffer.
TEST_F(Streamed, GivenRowsInManyBlocks)
{
    const Data d = normal_rows("random", 700, 20, 6);
    std::vector<int64_t> given;
    for (int64_t i = 0; i < 200; i++)
        given.push_back(3 * i + 1);
    sc_selector_options o = options_for("fisher", 40);
    o.given = given.data();
    o.n_given = static_cast<int64_t>(given.size());
    const std::vector<sc_pick> want = picks_of(o, d);
    for (uint64_t seed = 1; seed < 8; seed++) {
        const Seed order(seed);
        const std::vector<sc_pick> got = picks_of(o, d);
        ASSERT_EQ(got.size(), want.size());
        EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(sc_pick)), 0) << "seed " << seed;
    }
}

// More clusters than there are distinct rows, so that empty ones are repaired and summed again.
TEST_F(Streamed, KmeansFindsTheSameBytes)
{
    Data d = normal_rows("random", 601, 30, 6);
    for (int64_t i = 0; i < 200; i++)
        std::copy_n(d.x.begin(), d.dim, d.x.begin() + i * d.dim);
    Floats centres[2], dist2[2], start(9 * d.dim);
    std::vector<int32_t> labels[2];
    for (int64_t j = 0; j < 9; j++) // three of them far from all rows
        for (int64_t c = 0; c < d.dim; c++)
            start[j * d.dim + c] = d.x[(60 * j + 70) * d.dim + c] + (j % 3 == 1 ? 1000.0f : 0.0f);
    for (int run = 0; run < 2; run++) {
        sc_kmeans_options o = sc_kmeans_default();
        o.common.device = "cuda";
        o.clusters = 9;
        o.centres = start.data();
        estimate e = {};
        kmeans_fit_plan(d.n, d.dim, 9, false, emulated(), &e);
        const size_t beside = static_cast<size_t>(estimate_device_bytes(&e));
        const Memory card(run == 0 ? size_t(1) << 30 : a_third(beside, d.n, d.dim));
        centres[run].resize(9 * d.dim), dist2[run].resize(d.n), labels[run].resize(d.n);
        sc_kmeans_result result;
        ASSERT_EQ(sc_kmeans_fit(&o, d.x.data(), d.n, d.dim, centres[run].data(), labels[run].data(),
                                dist2[run].data(), &result),
                  SC_OK)
            << sc_last_error();
        EXPECT_GT(result.repaired, 0);
        EXPECT_GT(result.iterations, 2);
    }
    EXPECT_EQ(labels[0], labels[1]);
    EXPECT_EQ(centres[0], centres[1]);
    EXPECT_EQ(dist2[0], dist2[1]);
}

} // namespace
