#include "support.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <thread>

#include "seedcorn/common.h"

TEST(Status, NamesEveryCode)
{
    EXPECT_STREQ(sc_status_name(SC_OK), "SC_OK");
    EXPECT_STREQ(sc_status_name(SC_BAD_INPUT), "SC_BAD_INPUT");
    EXPECT_STREQ(sc_status_name(SC_INTERRUPTED), "SC_INTERRUPTED");
    EXPECT_STREQ(sc_status_name(static_cast<sc_status>(69)), "SC_UNKNOWN");
    for (int code = 0; code <= 12; code++)
        EXPECT_STRNE(sc_status_name(static_cast<sc_status>(code)), "SC_UNKNOWN") << code;
}

TEST(Status, VersionIsThreeNumbers)
{
    int a, b, c, n = 0;
    EXPECT_EQ(sscanf(sc_version(), "%d.%d.%d%n", &a, &b, &c, &n), 3);
    EXPECT_EQ(sc_version()[n], '\0');
}

TEST(Status, SentenceIsKeptPerThread)
{
    EXPECT_EQ(sc_fail(SC_USAGE, "here %d", 1), SC_USAGE);
    std::string there, at_first;
    std::thread([&] {
        at_first = sc_last_error();
        (void)sc_fail(SC_IO, "there");
        there = sc_last_error();
    }).join();
    EXPECT_EQ(at_first, "");
    EXPECT_EQ(there, "there");
    EXPECT_STREQ(sc_last_error(), "here 1");
}

TEST(Status, SentenceMayQuoteItself)
{
    (void)sc_fail(SC_BAD_INPUT, "inner");
    (void)sc_fail(SC_BAD_INPUT, "outer: %s", sc_last_error());
    EXPECT_STREQ(sc_last_error(), "outer: inner");
}

TEST(Status, HostileTextIsMadeVisible)
{
    (void)sc_fail(SC_BAD_INPUT, "%s", "a\nb\x1b[31m\x7f \xC2\x9B \xE2\x80\xAE \xFFz caf\xC3\xA9");
    EXPECT_STREQ(sc_last_error(), "a\\nb\\x1B[31m\\x7F \\u{9B} \\u{202E} \\xFFz caf\xC3\xA9");
}

TEST(Status, LongSentenceIsCutBetweenCharacters)
{
    for (int shift = 0; shift < 4; shift++) {
        std::string text(static_cast<size_t>(shift), 'x');
        for (int i = 0; i < 3000; i++)
            text += "\xE2\x82\xAC";
        (void)sc_fail(SC_BAD_INPUT, "%s", text.c_str());
        std::string kept = sc_last_error();
        EXPECT_GT(kept.size(), 1900u);
        EXPECT_LT(kept.size(), 2048u);
        /* The last code point may be cut by the first formatting; then its bytes are shown. */
        EXPECT_TRUE(utf8_valid(kept.c_str(), kept.size()));
    }
}

TEST(Status, ErrnoChoosesTheCodeAndTheWayOut)
{
    errno = ENOSPC;
    EXPECT_EQ(sc_fail_errno(SC_BAD_INPUT, "Cannot write %s", "x"), SC_IO);
    EXPECT_TRUE(says("Cannot write x: No space left on device; free some space")) << sc_last_error();
    errno = EROFS;
    EXPECT_EQ(sc_fail_errno(SC_BAD_INPUT, "x"), SC_IO);
    errno = EACCES;
    EXPECT_EQ(sc_fail_errno(SC_BAD_INPUT, "x"), SC_IO);
    errno = ENOMEM;
    EXPECT_EQ(sc_fail_errno(SC_BAD_INPUT, "x"), SC_MEMORY);
    errno = ENOENT;
    EXPECT_EQ(sc_fail_errno(SC_BAD_INPUT, "x"), SC_BAD_INPUT);
    EXPECT_STREQ(sc_last_error(), "x: No such file or directory");
    errno = EMFILE;
    EXPECT_EQ(sc_fail_errno(SC_BAD_INPUT, "x"), SC_BAD_INPUT);
    EXPECT_TRUE(says("ulimit -n"));
}

TEST(Status, AllocationIsZeroedAndCheckedForOverflow)
{
    int32_t *values = nullptr;
    ASSERT_EQ(sc_alloc(&values, 1000, sizeof *values), SC_OK);
    for (int i = 0; i < 1000; i++)
        ASSERT_EQ(values[i], 0);
    free(values);
    ASSERT_EQ(sc_alloc(&values, 0, 8), SC_OK);
    EXPECT_NE(values, nullptr);
    free(values);
    EXPECT_EQ(sc_alloc(&values, SIZE_MAX / 2, 4), SC_MEMORY);
    EXPECT_EQ(values, nullptr);
    EXPECT_TRUE(says("items of 4 bytes"));
    EXPECT_EQ(sc_alloc(&values, SIZE_MAX, 1), SC_MEMORY);
    EXPECT_EQ(values, nullptr);
}

TEST(Status, GrowingDoublesAndKeeps)
{
    int64_t *values = nullptr;
    size_t capacity = 0, reallocations = 0;
    for (size_t i = 0; i < 10000; i++) {
        size_t before = capacity;
        ASSERT_EQ(sc_grow(&values, &capacity, i + 1, sizeof *values), SC_OK);
        reallocations += capacity != before;
        values[i] = static_cast<int64_t>(i);
    }
    EXPECT_LT(reallocations, 15u);
    for (size_t i = 0; i < 10000; i++)
        ASSERT_EQ(values[i], static_cast<int64_t>(i));
    /* A failure leaves everything as it was. */
    size_t before = capacity;
    EXPECT_EQ(sc_grow(&values, &capacity, SIZE_MAX / 4, sizeof *values), SC_MEMORY);
    EXPECT_EQ(capacity, before);
    EXPECT_EQ(values[9999], 9999);
    free(values);
}

TEST(Status, CommonDefaults)
{
    sc_common common = sc_common_default();
    EXPECT_EQ(common.struct_size, sizeof(sc_common));
    EXPECT_STREQ(common.device, "auto");
    EXPECT_STREQ(common.dtype, "auto");
    EXPECT_EQ(common.threads, 0);
    EXPECT_EQ(common.seed, 0);
}
