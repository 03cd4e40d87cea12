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
    // Groups of two rows.
    sc_status open(const char *settings = "a", size_t n_rows = 5, bool keep = true)
    {
        line_groups_close(&g);
        json_t *object = json_pack("{s:s}", "name", settings);
        const sc_status status = line_groups_open(out.c_str(), keep, object, n_rows, 2, &g);
        json_decref(object);
        return status;
    }
    sc_status finish(size_t group, const char *lines, group_totals totals = {1, 2, -3})
    {
        strbuf_puts(&g.lines[group], lines);
        return line_groups_finish(&g, group, totals);
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
    EXPECT_EQ(g.n, 3u);
    EXPECT_EQ(line_groups_rows(&g, 1), 2u);
    EXPECT_EQ(line_groups_rows(&g, 2), 1u);
    EXPECT_EQ(g.n_resumed, 0);
    ASSERT_EQ(finish(2, "5\n", {5, 7, -0.1}), SC_OK);
    strbuf_puts(&g.lines[0], "not finished\n");
    ASSERT_EQ(open(), SC_OK) << sc_last_error();
    EXPECT_EQ(g.n_resumed, 1);
    EXPECT_FALSE(g.done[0] || g.done[1]);
    ASSERT_TRUE(g.done[2]);
    EXPECT_EQ(g.totals[2].prompt_tokens, 5);
    EXPECT_EQ(g.totals[2].new_tokens, 7);
    EXPECT_EQ(g.totals[2].logprob, -0.1);
    ASSERT_EQ(finish(0, "1\n2\n"), SC_OK);
    ASSERT_EQ(finish(1, "3\n4 \xc3\xa9\n"), SC_OK);
    EXPECT_FALSE(file_exists(out.c_str()));
    ASSERT_EQ(line_groups_commit(&g), SC_OK) << sc_last_error();
    EXPECT_EQ(get(out), "1\n2\n3\n4 \xc3\xa9\n5\n");
    EXPECT_FALSE(file_exists((out + ".journal").c_str()));
}

TEST_F(Groups, ATornEndCostsOneGroup)
{
    ASSERT_EQ(open(), SC_OK);
    ASSERT_EQ(finish(0, "1\n2\n"), SC_OK);
    ASSERT_EQ(finish(1, "3\n4\n"), SC_OK);
    line_groups_close(&g);
    const std::string journal = get(out + ".journal");
    for (size_t cut = 1; cut < 40; cut += 3) {
        put("replies.jsonl.journal", journal.substr(0, journal.size() - cut));
        ASSERT_EQ(open(), SC_OK) << cut << sc_last_error();
        EXPECT_EQ(g.n_resumed, 2) << cut;
    }
}

TEST_F(Groups, AnotherWorkIsRefused)
{
    ASSERT_EQ(open("a"), SC_OK);
    ASSERT_EQ(finish(2, "x\n"), SC_OK);
    EXPECT_EQ(open("b"), SC_CONFLICT);
    EXPECT_TRUE(says("name (\"a\", now \"b\")")) << sc_last_error();
    EXPECT_EQ(open("a", 4), SC_BAD_INPUT);
    EXPECT_TRUE(says("no group of this work")) << sc_last_error();
    line_groups_close(&g);
    put("replies.jsonl.journal", "no journal at all");
    EXPECT_EQ(open("a"), SC_BAD_INPUT);
}

TEST_F(Groups, AGroupHasALineARow)
{
    for (const char *lines : {"", "1\n", "1\n2\n3\n", "1\n2"}) {
        ASSERT_EQ(open(), SC_OK) << sc_last_error();
        ASSERT_EQ(finish(0, lines), SC_OK);
        EXPECT_EQ(open(), SC_BAD_INPUT) << lines;
        EXPECT_TRUE(says("no group of this work")) << sc_last_error();
        line_groups_close(&g);
        ASSERT_EQ(remove((out + ".journal").c_str()), 0);
    }
}

TEST_F(Groups, OneProcessAtATime)
{
    ASSERT_EQ(open(), SC_OK);
    line_groups second = {};
    json_t *settings = json_pack("{s:s}", "name", "a");
    EXPECT_EQ(line_groups_open(out.c_str(), true, settings, 5, 2, &second), SC_BUSY);
    line_groups_close(&second);
    json_decref(settings);
    EXPECT_EQ(finish(0, "1\n2\n"), SC_OK);
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
