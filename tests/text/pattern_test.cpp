// Patterns are translated if they mean the same in Oniguruma, and refused, by name, if they may not.
#include <gtest/gtest.h>

#include <string>

#include "text/pattern.h"
#include "text/unicode_class.h"

namespace
{

std::string translate(const char *pattern)
{
    strbuf out = {};
    sc_status status = pattern_translate(pattern, "here", &out);
    std::string text = status == SC_OK ? strbuf_text(&out) : std::string("refused: ") + sc_last_error();
    strbuf_free(&out);
    return text;
}

TEST(Pattern, ClassesBecomeBytes)
{
    EXPECT_EQ(translate("\\p{N}{1,3}"), "[0-9\\x83]{1,3}");
    EXPECT_EQ(translate(" ?[^\\s\\p{L}]+"), " ?[^\\x09-\\x0d\\x20\\x85A-Za-z\\x81\\x82]+");
    EXPECT_EQ(translate("\\s+(?!\\S)"), "[\\x09-\\x0d\\x20\\x85]+(?![^\\x09-\\x0d\\x20\\x85])");
    EXPECT_EQ(translate("a|[b-d\\r\\n]*\\."), "a|[b-d\\r\\n]*\\.");
}

TEST(Pattern, KnownOnesAreTranslated)
{
    for (const char *pattern : {PATTERN_GPT2, PATTERN_LLAMA3, PATTERN_QWEN2})
        EXPECT_EQ(translate(pattern).find("refused"), std::string::npos) << translate(pattern);
}

TEST(Pattern, WhatMayMeanSomethingElseIsNamed)
{
    const char *const bad[][2] = {
        {"a.b", "\".\""},        {"^a", "\"^\""},
        {"a$", "\"$\""},         {"\\p{Lu}+", "\"\\p{Lu}\""},
        {"\\d", "\"\\d\""},      {"\\w+", "\"\\w\""},
        {"[\\S]", "\"\\S\""},    {"[a[bc]]", "\"[a[\""},
        {"[a&&b]", "\"[a&\""},   {"[]", "\"[\""},
        {"[abc", "\"[abc\""},    {"(?i:a)", "\"(?i:\""},
        {"(?<=a)b", "\"(?<=\""}, {"(?>a)", "\"(?>a\""},
        {"a{,3}", "\"{,3}\""},   {"a{2}+", "\"{2}\""},
        {"a{2", "\"{2\""},       {"\xe4\xb8\x80", "\"\xe4"},
        {"a\\", "\"\\\""},       {"\\p{L", "\"\\p{L"},
    };
    for (const auto &b : bad) {
        std::string said = translate(b[0]);
        EXPECT_EQ(said.rfind("refused: here", 0), 0u) << b[0] << ": " << said;
        EXPECT_NE(said.find(b[1]), std::string::npos) << b[0] << ": " << said;
    }
}

TEST(UnicodeClass, FollowsTheLibrary)
{
    struct {
        uint32_t code_point;
        unicode_class_id id;
    } known[] = {{0, UNICODE_OTHER},         {'a', UNICODE_LETTER},      {'7', UNICODE_NUMBER},
                 {' ', UNICODE_SPACE},       {0x85, UNICODE_SPACE},      {0xa0, UNICODE_SPACE},
                 {0x180e, UNICODE_OTHER},    {0x200b, UNICODE_OTHER},    {0x3000, UNICODE_SPACE},
                 {0xbd, UNICODE_NUMBER},     {0x4e00, UNICODE_LETTER},   {0x301, UNICODE_OTHER},
                 {0x11de0, UNICODE_NUMERIC}, {0x16ff6, UNICODE_NUMERIC}, {0x1f600, UNICODE_OTHER},
                 {0x10ffff, UNICODE_OTHER}};
    for (const auto &k : known)
        EXPECT_EQ(unicode_class(k.code_point), k.id) << std::hex << k.code_point;
}

TEST(UnicodeClass, LateMarksAreThoseTheLibraryDoesNotKnow)
{
    for (uint32_t late : {0x7fdu, 0x899u, 0x1df9u, 0x11a34u, 0x1e6f5u})
        EXPECT_TRUE(unicode_is_late_mark(late)) << std::hex << late;
    for (uint32_t known : {0u, 0x301u, 0x307u, 0x345u, 0x7fcu, 0x1e6f6u, 0x10ffffu})
        EXPECT_FALSE(unicode_is_late_mark(known)) << std::hex << known;
}

} // namespace
