// design: which rows have the highest bounds, against a plain look at all of them.
#include "fixture.h"

namespace
{

struct Bounds {
    std::vector<double> gains, slack;
    double of(int64_t i) const
    {
        return gains[i] == -INFINITY ? -INFINITY : gains[i] + slack[i];
    }
};

// Every ninth row is closed, some have a slack that counts, and one closed row's says nothing.
Bounds some_bounds(int64_t n, unsigned seed)
{
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    Bounds b;
    for (int64_t i = 0; i < n; i++) {
        b.gains.push_back(i % 9 == 4 ? -INFINITY : normal(random));
        b.slack.push_back(i % 5 == 0 ? std::fabs(normal(random)) : 1e-9);
    }
    if (n > 4)
        b.slack[4] = INFINITY;
    return b;
}

const int64_t sizes[] = {1, 2, 31, 256, 257, 1023, 1024, 1025, 5000, 300000};

TEST(DesignBounds, PeaksOfSegments)
{
    for (const ops *table : present_tables()) {
        if (!table->design_peaks)
            continue;
        for (int64_t n : sizes)
            for (int64_t segment : {int64_t(1), int64_t(7), int64_t(32), int64_t(100), n, n + 3}) {
                if (n / segment > 40000)
                    continue;
                const Bounds b = some_bounds(n, static_cast<unsigned>(n));
                std::vector<double> want((n + segment - 1) / segment, -INFINITY);
                for (int64_t i = 0; i < n; i++)
                    want[i / segment] = std::max(want[i / segment], b.of(i));
                Buffer gains = upload_array(table, b.gains), slack = upload_array(table, b.slack);
                Buffer peaks(table, want.size() * sizeof(double));
                ASSERT_OK(table->design_peaks(nullptr, peaks.as<double>(), gains.as<double>(),
                                              slack.as<double>(), n, segment));
                ASSERT_EQ(peaks.array<double>(), want) << n << " " << segment;
            }
        EXPECT_EQ(table->design_peaks(nullptr, nullptr, nullptr, nullptr, 1, 0), SC_INTERNAL);
    }
}

TEST(DesignBounds, RowsAboveAFloorInOrder)
{
    for (const ops *table : present_tables()) {
        if (!table->design_above)
            continue;
        for (int64_t n : sizes)
            for (double floor : {-HUGE_VAL, -0.5, 0.0, 1.0, 2.5, 100.0}) {
                if (n > 10000 && floor != 1.0)
                    continue;
                const Bounds b = some_bounds(n, static_cast<unsigned>(n + 1));
                std::vector<int32_t> want;
                for (int64_t i = 0; i < n; i++)
                    if (b.gains[i] != -INFINITY && b.of(i) >= floor)
                        want.push_back(static_cast<int32_t>(i));
                Buffer gains = upload_array(table, b.gains), slack = upload_array(table, b.slack);
                Buffer work(table, table->design_above_workspace(n));
                const int64_t all = static_cast<int64_t>(want.size());
                for (int64_t most : {all, all / 2, int64_t(0)}) {
                    Buffer rows(table, most * sizeof(int32_t)), g(table, most * sizeof(double)),
                        s(table, most * sizeof(double));
                    int64_t n_above = -1;
                    ASSERT_OK(table->design_above(nullptr, &n_above, rows.as<int32_t>(), g.as<double>(),
                                                  s.as<double>(), gains.as<double>(), slack.as<double>(), n,
                                                  floor, most, work.get()));
                    ASSERT_EQ(n_above, all) << n << " " << floor;
                    const std::vector<int32_t> got = rows.array<int32_t>();
                    ASSERT_EQ(got, std::vector<int32_t>(want.begin(), want.begin() + most));
                    const std::vector<double> got_gains = g.array<double>(), got_slack = s.array<double>();
                    for (int64_t q = 0; q < most; q++) {
                        ASSERT_EQ(got_gains[q], b.gains[got[q]]);
                        ASSERT_EQ(got_slack[q], b.slack[got[q]]);
                    }
                }
            }
        EXPECT_EQ(table->design_above(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, -1, 0, 0,
                                      nullptr),
                  SC_INTERNAL);
        EXPECT_EQ(table->design_above_workspace(-1), 0u);
    }
}

// A floor that is some row's bound takes that row.
TEST(DesignBounds, ARowAtTheFloorIsAbove)
{
    for (const ops *table : present_tables()) {
        if (!table->design_above)
            continue;
        const int64_t n = 700;
        Bounds b;
        for (int64_t i = 0; i < n; i++) {
            b.gains.push_back(1.5);
            b.slack.push_back(i % 2 == 0 ? 0.5 : 0.25);
        }
        Buffer gains = upload_array(table, b.gains), slack = upload_array(table, b.slack);
        Buffer work(table, table->design_above_workspace(n)), rows(table, n * sizeof(int32_t)),
            g(table, n * sizeof(double)), s(table, n * sizeof(double));
        int64_t n_above = 0;
        ASSERT_OK(table->design_above(nullptr, &n_above, rows.as<int32_t>(), g.as<double>(), s.as<double>(),
                                      gains.as<double>(), slack.as<double>(), n, 2.0, n, work.get()));
        EXPECT_EQ(n_above, n / 2);
    }
}

TEST(DesignBounds, PutChangesTheNamedRowsOnly)
{
    for (const ops *table : present_tables()) {
        if (!table->design_put)
            continue;
        for (int64_t m : {0, 1, 255, 256, 257, 900}) {
            const int64_t n = 2000;
            Bounds b = some_bounds(n, 3);
            Buffer gains = upload_array(table, b.gains), slack = upload_array(table, b.slack);
            std::vector<int32_t> rows;
            std::vector<double> new_gains, new_slack;
            for (int64_t q = 0; q < m; q++) {
                rows.push_back(static_cast<int32_t>((q * 7 + 3) % n));
                new_gains.push_back(q % 3 == 0 ? -INFINITY : static_cast<double>(q));
                new_slack.push_back(0.125 * static_cast<double>(q));
                b.gains[rows.back()] = new_gains.back();
                b.slack[rows.back()] = new_slack.back();
            }
            Buffer r = upload_array(table, rows), g = upload_array(table, new_gains),
                   s = upload_array(table, new_slack);
            ASSERT_OK(table->design_put(nullptr, gains.as<double>(), slack.as<double>(), r.as<int32_t>(),
                                        g.as<double>(), s.as<double>(), m));
            EXPECT_EQ(gains.array<double>(), b.gains) << m;
            EXPECT_EQ(slack.array<double>(), b.slack) << m;
        }
        EXPECT_EQ(table->design_put(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, -1), SC_INTERNAL);
    }
}

} // namespace
