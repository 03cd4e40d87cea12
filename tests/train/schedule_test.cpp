// The learning rate over the steps, against values worked out by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

extern "C" {
#include "train/schedule.h"
}

namespace
{

TEST(Schedule, WarmsUpToTheRateAndNeverStandsStill)
{
    for (schedule_kind kind : {SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE}) {
        EXPECT_DOUBLE_EQ(schedule_rate(kind, 0.4, 0, 14, 4), 0.1);
        EXPECT_DOUBLE_EQ(schedule_rate(kind, 0.4, 1, 14, 4), 0.2);
        EXPECT_DOUBLE_EQ(schedule_rate(kind, 0.4, 3, 14, 4), 0.4);
        EXPECT_DOUBLE_EQ(schedule_rate(kind, 0.4, 4, 14, 4), 0.4);
        for (int64_t step = 0; step < 14; step++)
            EXPECT_GT(schedule_rate(kind, 0.4, step, 14, 4), 0) << kind << " " << step;
    }
}

TEST(Schedule, FallsAsItsNameSays)
{
    EXPECT_DOUBLE_EQ(schedule_rate(SCHEDULE_CONSTANT, 0.4, 13, 14, 4), 0.4);
    EXPECT_DOUBLE_EQ(schedule_rate(SCHEDULE_LINEAR, 0.4, 9, 14, 4), 0.2);
    EXPECT_DOUBLE_EQ(schedule_rate(SCHEDULE_LINEAR, 0.4, 13, 14, 4), 0.4 * (1 - 0.9));
    EXPECT_NEAR(schedule_rate(SCHEDULE_COSINE, 0.4, 9, 14, 4), 0.2, 1e-15);
    EXPECT_NEAR(schedule_rate(SCHEDULE_COSINE, 0.4, 13, 14, 4), 0.2 * (1 + std::cos(0.9 * std::acos(-1.0))),
                1e-15);
}

TEST(Schedule, WithoutWarmUpAndWithNothingElse)
{
    EXPECT_DOUBLE_EQ(schedule_rate(SCHEDULE_LINEAR, 1, 0, 4, 0), 1);
    EXPECT_DOUBLE_EQ(schedule_rate(SCHEDULE_LINEAR, 1, 3, 4, 0), 0.25);
    EXPECT_DOUBLE_EQ(schedule_rate(SCHEDULE_COSINE, 1, 0, 1, 0), 1);
    EXPECT_DOUBLE_EQ(schedule_rate(SCHEDULE_LINEAR, 1, 2, 3, 9), 3.0 / 9); // a warm-up longer than the run
}

TEST(Schedule, NamesAreThree)
{
    schedule_kind kind;
    ASSERT_EQ(schedule_parse("cosine", &kind), SC_OK);
    EXPECT_EQ(kind, SCHEDULE_COSINE);
    ASSERT_EQ(schedule_parse("constant", &kind), SC_OK);
    EXPECT_EQ(kind, SCHEDULE_CONSTANT);
    ASSERT_EQ(schedule_parse("linear", &kind), SC_OK);
    EXPECT_EQ(kind, SCHEDULE_LINEAR);
    EXPECT_EQ(schedule_parse("cosin", &kind), SC_USAGE);
    EXPECT_NE(std::string(sc_last_error()).find("'cosin'"), std::string::npos);
}

} // namespace
