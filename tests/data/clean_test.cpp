#include "support.h"

#include "data/clean.h"

namespace
{

std::string clean(const std::string &raw, clean_counts *counts = nullptr)
{
    clean_counts own = {};
    strbuf out = {};
    EXPECT_EQ(clean_text(raw.data(), raw.size(), counts ? counts : &own, &out), SC_OK);
    std::string cleaned(strbuf_text(&out), out.len);
    strbuf_free(&out);
    return cleaned;
}

TEST(Clean, DecodesEntitiesOnce)
{
    clean_counts counts = {};
    EXPECT_EQ(clean("Tom &amp; Jerry&#39;s caf&eacute; &#x201C;x&#x201d;", &counts),
              "Tom & Jerry's café “x”");
    EXPECT_EQ(counts.entities, 5);
    EXPECT_EQ(clean("&amp;lt;"), "&lt;");
    EXPECT_EQ(clean("&lt;b&gt;"), "<b>"); /* an entity never becomes a tag */
    EXPECT_EQ(clean("&thetasym;&zwnj;&AElig;&Dagger;&dagger;"), "ϑ\u200CÆ‡†");
}

TEST(Clean, KeepsWhatIsNoEntity)
{
    for (const char *raw :
         {"AT&T", "a & b", "&;", "&nosuch;", "&#;", "&#x;", "&#xZZ;", "&amp", "&#123456789;", "R&B;"})
        EXPECT_EQ(clean(raw), raw);
}

TEST(Clean, RepairsNumbersThatAreNoCharacters)
{
    EXPECT_EQ(clean("a&#0;b&#xD800;c&#x110000;d"), "a\uFFFDb\uFFFDc\uFFFDd");
    EXPECT_EQ(clean("&#150;&#133;"), "–…"); /* Windows-1252, as browsers read it */
    EXPECT_EQ(clean("a&#7;b"), "ab");
}

TEST(Clean, TurnsBreaksIntoLinesAndDropsTags)
{
    clean_counts counts = {};
    EXPECT_EQ(clean("one<br />two<BR>three<br/>\nfour<p class=\"a>b\">five</p>", &counts),
              "one\ntwo\nthree\nfour\nfive");
    EXPECT_EQ(counts.line_breaks, 5);
    EXPECT_EQ(clean("a <i>b</i> <a href='x'>c</a><!-- note -->", &counts), "a b c");
    EXPECT_EQ(counts.tags, 5);
}

TEST(Clean, KeepsWhatIsNoTag)
{
    for (const char *raw : {"I <3 it", "a < b > c", "<spoiler>he dies</spoiler>", "x <b", "<", "<>", "<b <i",
                            "<!-- open", "5<6 and 7>6", "<ben>"})
        EXPECT_EQ(clean(raw), raw);
    std::string unclosed = "<b " + std::string(5000, 'x') + ">";
    EXPECT_EQ(clean(unclosed), unclosed);
}

TEST(Clean, RepairsBytesAndControls)
{
    clean_counts counts = {};
    EXPECT_EQ(clean(std::string("a\xFF\xC3(b\0c\x07", 8), &counts), "a\uFFFD\uFFFD(bc");
    EXPECT_EQ(counts.invalid_utf8, 2);
    EXPECT_EQ(counts.control_characters, 2);
    EXPECT_EQ(clean("\xEF\xBB\xBFhe\u0085y\r\nyou\rall\tof\u00A0us \n"), "he…y\nyou\nall of us");
    EXPECT_EQ(clean("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD"); /* a surrogate */
    EXPECT_EQ(clean(" \n\t "), "");
    EXPECT_EQ(clean(""), "");
}

TEST(Clean, LineFoldsAndAppends)
{
    clean_counts counts = {};
    strbuf out = {};
    strbuf_puts(&out, "> ");
    const std::string raw = "  A<br>title \n of  two ";
    ASSERT_EQ(clean_line(raw.data(), raw.size(), &counts, &out), SC_OK);
    EXPECT_STREQ(out.data, "> A title of two");
    strbuf_free(&out);
}

TEST(Clean, EveryNamedEntityIsFound)
{
    EXPECT_EQ(clean_entity("AElig", 5), 0xC6u);
    EXPECT_EQ(clean_entity("zwnj", 4), 0x200Cu);
    EXPECT_EQ(clean_entity("quot", 4), 34u);
    EXPECT_EQ(clean_entity("apos", 4), 39u);
    EXPECT_EQ(clean_entity("sup", 3), 0x2283u);
    EXPECT_EQ(clean_entity("sup1", 4), 0xB9u);
    EXPECT_EQ(clean_entity("supe", 4), 0x2287u);
    EXPECT_EQ(clean_entity("su", 2), 0u);
    EXPECT_EQ(clean_entity("", 0), 0u);
    EXPECT_EQ(clean_entity("zwnjx", 5), 0u);
}

} // namespace
