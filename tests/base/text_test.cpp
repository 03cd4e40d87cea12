#include "support.h"

#include <algorithm>
#include <random>

namespace
{

/* The textbook's full table, over bytes. */
int64_t distance_by_table(const std::string &a, const std::string &b)
{
    std::vector<std::vector<int64_t>> t(a.size() + 1, std::vector<int64_t>(b.size() + 1));
    for (size_t i = 0; i <= a.size(); i++)
        for (size_t j = 0; j <= b.size(); j++) {
            if (i == 0 || j == 0)
                t[i][j] = static_cast<int64_t>(i + j);
            else
                t[i][j] =
                    std::min({t[i - 1][j] + 1, t[i][j - 1] + 1, t[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
        }
    return t[a.size()][b.size()];
}

std::string folded(const std::string &text)
{
    strbuf out = {};
    text_fold_spaces(&out, text.data(), text.size());
    std::string result(strbuf_text(&out), out.len);
    strbuf_free(&out);
    return result;
}

sc_status expand(const char *pattern, std::string *result)
{
    static const char *const names[] = {"title", "n_titles", "request", nullptr};
    static const char *const values[] = {"Heat {1995}", "20", nullptr};
    strbuf out = {};
    strbuf_puts(&out, "> ");
    sc_status status = text_expand(&out, pattern, "prompt.txt", names, values);
    *result = strbuf_text(&out);
    strbuf_free(&out);
    return status;
}

} // namespace

TEST(Strbuf, GrowsAndIsTerminated)
{
    strbuf s = {};
    EXPECT_STREQ(strbuf_text(&s), "");
    std::string expected;
    for (int i = 0; i < 5000; i++) {
        strbuf_printf(&s, "%d,", i);
        strbuf_putc(&s, '\0');
        expected += std::to_string(i) + "," + std::string(1, '\0');
    }
    EXPECT_EQ(std::string(s.data, s.len), expected);
    EXPECT_EQ(s.data[s.len], '\0');
    EXPECT_EQ(strbuf_status(&s), SC_OK);
    strbuf_clear(&s);
    EXPECT_STREQ(strbuf_text(&s), "");
    strbuf_free(&s);
}

TEST(Strbuf, TakeGivesAStringInEveryCase)
{
    strbuf s = {};
    char *empty = strbuf_take(&s);
    EXPECT_STREQ(empty, "");
    free(empty);
    strbuf_puts(&s, "x");
    char *one = strbuf_take(&s);
    EXPECT_STREQ(one, "x");
    free(one);
    EXPECT_EQ(s.data, nullptr);
    EXPECT_EQ(s.len, 0u);
}

TEST(Strbuf, FailureIsRemembered)
{
    strbuf s = {};
    strbuf_puts(&s, "kept");
    strbuf_append(&s, "x", SIZE_MAX - 2);
    EXPECT_TRUE(s.failed);
    strbuf_puts(&s, "dropped");
    EXPECT_STREQ(strbuf_text(&s), "kept");
    EXPECT_EQ(strbuf_status(&s), SC_MEMORY);
    EXPECT_EQ(strbuf_take(&s), nullptr);
    EXPECT_EQ(strbuf_status(&s), SC_OK);
}

TEST(Distance, KnownPairs)
{
    EXPECT_EQ(text_distance("", "", -1), 0);
    EXPECT_EQ(text_distance("kitten", "sitting", -1), 3);
    EXPECT_EQ(text_distance("", "abc", -1), 3);
    EXPECT_EQ(text_distance("abc", "", -1), 3);
    EXPECT_EQ(text_distance("caf\xC3\xA9", "cafe", -1), 1); /* one code point, two bytes */
    EXPECT_EQ(text_distance("\xFF", "\xFE", -1), 1);
    EXPECT_EQ(text_distance("same", "same", 0), 0);
    EXPECT_EQ(text_distance("same", "sane", 0), 1);
}

TEST(Distance, EqualsTheTableWithAndWithoutALimit)
{
    std::mt19937 rng(1);
    for (int trial = 0; trial < 3000; trial++) {
        std::string a, b;
        for (size_t n = rng() % 14; n > 0; n--)
            a += static_cast<char>('a' + rng() % 3);
        for (size_t n = rng() % 14; n > 0; n--)
            b += static_cast<char>('a' + rng() % 3);
        int64_t expected = distance_by_table(a, b);
        ASSERT_EQ(text_distance(a.c_str(), b.c_str(), -1), expected) << a << " " << b;
        for (int64_t limit = 0; limit < 8; limit++)
            ASSERT_EQ(text_distance(a.c_str(), b.c_str(), limit), std::min(expected, limit + 1))
                << a << " " << b << " " << limit;
    }
}

TEST(Distance, LongTexts)
{
    std::string a(3000, 'a'), b(3000, 'a');
    b[10] = 'b';
    b[2990] = 'c';
    b += "dd";
    EXPECT_EQ(text_distance(a.c_str(), b.c_str(), -1), 4);
    EXPECT_EQ(text_distance(a.c_str(), b.c_str(), 3), 4);
    EXPECT_EQ(text_distance(a.c_str(), b.c_str(), INT64_MAX), 4);
}

TEST(Nearest, SuggestsWhatIsNear)
{
    const char *const flags[] = {"--budget", "--batch-size", "--clusters", "--seed", nullptr};
    EXPECT_STREQ(text_nearest("--bugdet", flags), "--budget");
    EXPECT_STREQ(text_nearest("--cluster", flags), "--clusters");
    EXPECT_STREQ(text_nearest("--batch", flags), "--batch-size");
    EXPECT_EQ(text_nearest("--temperature", flags), nullptr);
    EXPECT_EQ(text_nearest("x", flags), nullptr);
    const char *const none[] = {nullptr};
    EXPECT_EQ(text_nearest("x", none), nullptr);
}

TEST(Text, StartsAndEnds)
{
    EXPECT_TRUE(text_starts("https://x", "https://"));
    EXPECT_FALSE(text_starts("http", "https://"));
    EXPECT_TRUE(text_ends("a.jsonl.gz", ".gz"));
    EXPECT_FALSE(text_ends("gz", ".gz"));
    EXPECT_TRUE(text_ends("x", ""));
}

TEST(Text, FoldsSpaces)
{
    EXPECT_EQ(folded("  a \t\r\n b\xC2\xA0\xE3\x80\x80"
                     "c  "),
              "a b c");
    EXPECT_EQ(folded(" \n "), "");
    EXPECT_EQ(folded(""), "");
    EXPECT_EQ(folded("a\xFF \xC2"), "a\xFF \xC2");
    EXPECT_EQ(folded("caf\xC3\xA9"), "caf\xC3\xA9");
}

TEST(Text, ExpandsNames)
{
    std::string result;
    EXPECT_EQ(expand("{title}: {n_titles}{request} {{x}} 100%", &result), SC_OK);
    EXPECT_EQ(result, "> Heat {1995}: 20 {x} 100%"); /* a value's braces are its own */
    EXPECT_EQ(expand("", &result), SC_OK);
    EXPECT_EQ(result, "> ");
}

TEST(Text, ExpandRefusesWhatItDoesNotKnow)
{
    std::string result;
    EXPECT_EQ(expand("a\nb {tilte}", &result), SC_BAD_INPUT);
    EXPECT_TRUE(says("prompt.txt:2:")) << sc_last_error();
    EXPECT_TRUE(says("did you mean {title}")) << sc_last_error();
    EXPECT_EQ(result, "> ");
    EXPECT_EQ(expand("{zzzzzzzz}", &result), SC_BAD_INPUT);
    EXPECT_TRUE(says("{title}, {n_titles}, {request}")) << sc_last_error();
    EXPECT_EQ(expand("{title", &result), SC_BAD_INPUT);
    EXPECT_TRUE(says("no closing")) << sc_last_error();
    EXPECT_EQ(expand("x } y", &result), SC_BAD_INPUT);
    EXPECT_EQ(expand("{}", &result), SC_BAD_INPUT);
    EXPECT_EQ(expand("{title\n}", &result), SC_BAD_INPUT);
    EXPECT_EQ(result, "> ");
}
