// Results that are worked off in groups: kept, found again, and refused where they are another work's.
#include "fixture.h"

extern "C" {
#include "formats/groups.h"
#include "formats/records.h"
}

namespace
{

class Groups : public FolderTest
{
  protected:
    void TearDown() override
    {
        line_groups_close(&g);
        FolderTest::TearDown();
    }
    sc_status open(const char *settings = "a", size_t n = 3, bool keep = true)
    {
        line_groups_close(&g);
        return line_groups_open(out.c_str(), keep, settings, n, &g);
    }
    sc_status finish(size_t group, const char *lines, token_counts counts = {1, 2})
    {
        strbuf_puts(&g.lines[group], lines);
        return line_groups_finish(&g, group, counts);
    }
    bool says(const char *part) const
    {
        return std::string(sc_last_error()).find(part) != std::string::npos;
    }
    void SetUp() override
    {
        FolderTest::SetUp();
        out = at("replies.jsonl");
    }
    std::string out;
    line_groups g = {};
};

TEST_F(Groups, WhatWasFinishedIsFoundAgain)
{
    ASSERT_EQ(open(), SC_OK) << sc_last_error();
    EXPECT_EQ(g.n_found, 0u);
    ASSERT_EQ(finish(2, "third\n", {5, 7}), SC_OK);
    strbuf_puts(&g.lines[0], "not finished\n");
    ASSERT_EQ(open(), SC_OK) << sc_last_error();
    EXPECT_EQ(g.n_found, 1u);
    EXPECT_FALSE(g.done[0] || g.done[1]);
    ASSERT_TRUE(g.done[2]);
    EXPECT_EQ(g.counts[2].prompt_tokens, 5);
    EXPECT_EQ(g.counts[2].new_tokens, 7);
    ASSERT_EQ(finish(0, "first\n"), SC_OK);
    ASSERT_EQ(finish(1, "second \xc3\xa9\n"), SC_OK);
    EXPECT_FALSE(file_exists(out.c_str()));
    ASSERT_EQ(line_groups_commit(&g), SC_OK) << sc_last_error();
    EXPECT_EQ(get(out), "first\nsecond \xc3\xa9\nthird\n");
    EXPECT_FALSE(file_exists((out + ".journal").c_str()));
}

TEST_F(Groups, ATornEndCostsOneGroup)
{
    ASSERT_EQ(open(), SC_OK);
    ASSERT_EQ(finish(0, "first\n"), SC_OK);
    ASSERT_EQ(finish(1, "second\n"), SC_OK);
    line_groups_close(&g);
    const std::string journal = get(out + ".journal");
    for (size_t cut = 1; cut < 40; cut += 3) {
        put("replies.jsonl.journal", journal.substr(0, journal.size() - cut));
        ASSERT_EQ(open(), SC_OK) << cut << sc_last_error();
        EXPECT_EQ(g.n_found, 1u) << cut;
    }
}

TEST_F(Groups, AnotherWorkIsRefused)
{
    ASSERT_EQ(open("a"), SC_OK);
    ASSERT_EQ(finish(2, "x\n"), SC_OK);
    EXPECT_EQ(open("b"), SC_CONFLICT);
    EXPECT_TRUE(says("other settings (a)")) << sc_last_error();
    EXPECT_EQ(open("a", 2), SC_BAD_INPUT);
    EXPECT_TRUE(says("no group of this work")) << sc_last_error();
    put("replies.jsonl.journal", "no journal at all");
    EXPECT_EQ(open("a"), SC_BAD_INPUT);
}

TEST_F(Groups, NothingIsKeptUnlessAsked)
{
    ASSERT_EQ(open("a", 1, false), SC_OK);
    ASSERT_EQ(finish(0, "one\n"), SC_OK);
    EXPECT_FALSE(file_exists((out + ".journal").c_str()));
    ASSERT_EQ(line_groups_commit(&g), SC_OK);
    EXPECT_EQ(get(out), "one\n");
    ASSERT_EQ(open("a", 0, false), SC_OK);
    ASSERT_EQ(line_groups_commit(&g), SC_OK);
    EXPECT_EQ(get(out), "");
}

} // namespace
