#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "base/random.h"

/* The known answers of Random123 (tests/kat_vectors of its distribution, lines "philox4x32 10"). */
TEST(Random, PhiloxKnownAnswers)
{
    struct Known {
        uint32_t counter[4], key[2], answer[4];
    };
    const Known known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (const Known &k : known) {
        uint32_t out[4];
        philox4x32(k.counter, k.key, out);
        for (int i = 0; i < 4; i++)
            EXPECT_EQ(out[i], k.answer[i]) << i;
    }
}

/* The layout is part of the reproducible output, and kernels draw by it. */
TEST(Random, StreamLayout)
{
    random_stream r = random_at(0x1122334455667788, RANDOM_DROPOUT, 0x99aabbccddeeff00, 0x12345678);
    const uint32_t key[2] = {0x55667788, 0x11223344u ^ (static_cast<uint32_t>(RANDOM_DROPOUT) << 24)};
    for (uint32_t block = 0; block < 3; block++) {
        const uint32_t counter[4] = {block, 0x12345678, 0xddeeff00, 0x99aabbcc};
        uint32_t out[4];
        philox4x32(counter, key, out);
        for (uint32_t expected : out)
            EXPECT_EQ(random_u32(&r), expected);
    }
    random_stream a = random_at(7, RANDOM_TEST, 1, 2), b = a;
    uint64_t high = random_u32(&a), low = random_u32(&a);
    EXPECT_EQ(random_u64(&b), high << 32 | low);
}

TEST(Random, StagesKeepTheirNumbers)
{
    EXPECT_EQ(RANDOM_IMPORT, 1);
    EXPECT_EQ(RANDOM_KMEANS, 2);
    EXPECT_EQ(RANDOM_SELECT, 3);
    EXPECT_EQ(RANDOM_SYNTH, 4);
    EXPECT_EQ(RANDOM_LORA_INIT, 5);
    EXPECT_EQ(RANDOM_SHUFFLE, 6);
    EXPECT_EQ(RANDOM_DROPOUT, 7);
    EXPECT_EQ(RANDOM_SAMPLE, 8);
}

TEST(Random, SameNumbersInAnyOrder)
{
    std::vector<uint64_t> forward(1000), backward(1000);
    for (uint64_t row = 0; row < 1000; row++) {
        random_stream r = random_at(5, RANDOM_TEST, row, 3);
        forward[row] = random_u64(&r);
    }
    for (uint64_t row = 1000; row-- > 0;) {
        random_stream other = random_at(5, RANDOM_TEST, row ^ 1, 3);
        (void)random_u64(&other);
        random_stream r = random_at(5, RANDOM_TEST, row, 3);
        backward[row] = random_u64(&r);
    }
    EXPECT_EQ(forward, backward);
    EXPECT_EQ(std::set<uint64_t>(forward.begin(), forward.end()).size(), 1000u);
}

TEST(Random, EveryCoordinateMatters)
{
    std::set<uint64_t> seen;
    size_t n = 0;
    for (uint64_t seed : {0ull, 1ull, 1ull << 32, ~0ull})
        for (random_stage stage : {RANDOM_IMPORT, RANDOM_KMEANS, RANDOM_TEST})
            for (uint64_t row : {0ull, 1ull, 1ull << 32, ~0ull})
                for (uint32_t step : {0u, 1u, ~0u}) {
                    random_stream r = random_at(seed, stage, row, step);
                    seen.insert(random_u64(&r));
                    n++;
                }
    EXPECT_EQ(seen.size(), n);
}

TEST(Random, UniformHasTheRightMomentsAndRange)
{
    random_stream r = random_at(0, RANDOM_TEST, 0, 0);
    const int n = 400000;
    double sum = 0, squares = 0;
    std::array<int, 100> bins{};
    for (int i = 0; i < n; i++) {
        double x = random_uniform(&r);
        ASSERT_GE(x, 0.0);
        ASSERT_LT(x, 1.0);
        sum += x;
        squares += x * x;
        bins[static_cast<size_t>(x * 100)]++;
    }
    /* Five standard deviations. */
    EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
    EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
    double chi2 = 0;
    for (int count : bins)
        chi2 += std::pow(count - n / 100.0, 2) / (n / 100.0);
    EXPECT_LT(chi2, 170); /* 99 degrees of freedom: p < 1e-5 above */
    EXPECT_GT(chi2, 45);
}

TEST(Random, NormalHasTheRightMoments)
{
    random_stream r = random_at(1, RANDOM_TEST, 0, 0);
    const int n = 400000;
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    int beyond_two = 0;
    for (int i = 0; i < n; i++) {
        double x = random_normal(&r);
        ASSERT_TRUE(std::isfinite(x));
        m1 += x;
        m2 += x * x;
        m3 += x * x * x;
        m4 += x * x * x * x;
        beyond_two += std::fabs(x) > 2;
    }
    EXPECT_NEAR(m1 / n, 0, 5 * std::sqrt(1.0 / n));
    EXPECT_NEAR(m2 / n, 1, 5 * std::sqrt(2.0 / n));
    EXPECT_NEAR(m3 / n, 0, 5 * std::sqrt(15.0 / n));
    EXPECT_NEAR(m4 / n, 3, 5 * std::sqrt(96.0 / n));
    EXPECT_NEAR(beyond_two / static_cast<double>(n), 0.0455, 5 * std::sqrt(0.0455 / n));
}

TEST(Random, BelowIsInRangeAndEven)
{
    random_stream r = random_at(2, RANDOM_TEST, 0, 0);
    EXPECT_EQ(random_below(&r, 1), 0u);
    std::array<int, 7> bins{};
    for (int i = 0; i < 70000; i++)
        bins[random_below(&r, 7)]++;
    for (int count : bins)
        EXPECT_NEAR(count, 10000, 5 * std::sqrt(10000.0 * 6 / 7));
    /* A modulus or a plain product would favour the lower third here: P = 1/2 instead of 1/3. */
    const uint64_t n = 3ull << 62;
    int lower = 0;
    for (int i = 0; i < 30000; i++) {
        uint64_t x = random_below(&r, n);
        ASSERT_LT(x, n);
        lower += x < n / 3;
    }
    EXPECT_NEAR(lower, 10000, 5 * std::sqrt(10000.0 * 2 / 3));
}

TEST(Random, ShuffleIsAPermutationAndEven)
{
    std::array<std::array<int, 5>, 5> at{};
    for (uint32_t step = 0; step < 20000; step++) {
        random_stream r = random_at(3, RANDOM_SHUFFLE, 0, step);
        std::array<int64_t, 5> values{0, 1, 2, 3, 4};
        random_shuffle(&r, values.data(), values.size());
        for (size_t i = 0; i < 5; i++)
            at[i][static_cast<size_t>(values[i])]++;
    }
    for (const auto &row : at) {
        EXPECT_EQ(std::accumulate(row.begin(), row.end(), 0), 20000);
        for (int count : row)
            EXPECT_NEAR(count, 4000, 5 * std::sqrt(4000 * 0.8));
    }
    std::vector<int64_t> large(10000);
    std::iota(large.begin(), large.end(), 0);
    random_stream r = random_at(4, RANDOM_SHUFFLE, 0, 0);
    random_shuffle(&r, large.data(), large.size());
    EXPECT_FALSE(std::is_sorted(large.begin(), large.end()));
    std::sort(large.begin(), large.end());
    for (int64_t i = 0; i < 10000; i++)
        ASSERT_EQ(large[static_cast<size_t>(i)], i);
    random_shuffle(&r, nullptr, 0);
}
