#include "support.h"

#include <cstring>

namespace
{

std::string sanitized(const std::string &text, size_t *replaced)
{
    strbuf out = {};
    *replaced = utf8_sanitize(&out, text.data(), text.size());
    std::string result(strbuf_text(&out), out.len);
    strbuf_free(&out);
    return result;
}

std::string lowered(const std::string &text)
{
    strbuf out = {};
    utf8_lower(&out, text.data(), text.size());
    std::string result(strbuf_text(&out), out.len);
    strbuf_free(&out);
    return result;
}

std::string string_of(const std::string &text)
{
    strbuf out = {};
    utf8_sanitize_string(&out, text.data(), text.size());
    std::string result(strbuf_text(&out), out.len);
    strbuf_free(&out);
    return result;
}

const std::string FFFD = "\xEF\xBF\xBD";

} // namespace

TEST(Utf8, EveryCodePointGoesRound)
{
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char bytes[4];
        uint32_t back = 0;
        size_t n = utf8_encode(c, bytes);
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        ASSERT_EQ(utf8_decode(bytes, n, &back), n);
        ASSERT_EQ(back, surrogate ? 0xFFFDu : c);
        for (size_t cut = 1; cut < n; cut++)
            ASSERT_EQ(utf8_decode(bytes, cut, &back), 0u) << c;
    }
    char bytes[4];
    EXPECT_EQ(std::string(bytes, utf8_encode(0x110000, bytes)), FFFD);
}

TEST(Utf8, RefusesEveryIllFormedPairAndTriple)
{
    /* Two bytes are valid as one code point only for C2..DF 80..BF. */
    for (int a = 0x80; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            char s[2] = {static_cast<char>(a), static_cast<char>(b)};
            uint32_t c;
            bool valid = a >= 0xC2 && a <= 0xDF && b >= 0x80 && b <= 0xBF;
            ASSERT_EQ(utf8_decode(s, 2, &c), valid ? 2u : 0u) << a << " " << b;
        }
    struct Case {
        const char *bytes;
        const char *why;
    };
    for (const Case &bad : {Case{"\xC0\x80", "overlong zero"},
                            {"\xC1\xBF", "overlong"},
                            {"\xE0\x9F\xBF", "overlong of three"},
                            {"\xF0\x8F\xBF\xBF", "overlong of four"},
                            {"\xED\xA0\x80", "first surrogate"},
                            {"\xED\xBF\xBF", "last surrogate"},
                            {"\xF4\x90\x80\x80", "above U+10FFFF"},
                            {"\xF5\x80\x80\x80", "lead above F4"},
                            {"\xFE", "FE"},
                            {"\xFF", "FF"},
                            {"\x80", "lone continuation"},
                            {"\xE2\x82", "truncated"},
                            {"\xE2\x28\xA1", "second is no continuation"},
                            {"\xF0\x9F\x98\x28", "fourth is no continuation"}}) {
        EXPECT_FALSE(utf8_valid(bad.bytes, strlen(bad.bytes))) << bad.why;
    }
    EXPECT_TRUE(utf8_valid("", 0));
    EXPECT_TRUE(utf8_valid("a\0b", 3));
    EXPECT_TRUE(utf8_valid("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF\xF0\x90\x80\x80", 14));
}

/* The examples of the Unicode Standard, tables 3-8 to 3-11 of section 3.9. */
TEST(Utf8, RepairsMaximalSubparts)
{
    size_t n;
    EXPECT_EQ(sanitized("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", &n),
              FFFD + FFFD + FFFD + FFFD + FFFD + FFFD + FFFD + FFFD + "A");
    EXPECT_EQ(n, 8u);
    EXPECT_EQ(sanitized("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", &n),
              FFFD + FFFD + FFFD + FFFD + FFFD + FFFD + FFFD + FFFD + "A");
    EXPECT_EQ(n, 8u);
    EXPECT_EQ(sanitized("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", &n),
              FFFD + FFFD + FFFD + FFFD + FFFD + "A" + FFFD + FFFD + "B");
    EXPECT_EQ(n, 7u);
    EXPECT_EQ(sanitized("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", &n), FFFD + FFFD + FFFD + FFFD + "A");
    EXPECT_EQ(n, 4u);
    EXPECT_EQ(sanitized("caf\xC3\xA9", &n), "caf\xC3\xA9");
    EXPECT_EQ(n, 0u);
    EXPECT_EQ(sanitized(std::string("a\0b", 3), &n), std::string("a\0b", 3));
}

TEST(Utf8, RepairOfRandomBytesIsValid)
{
    unsigned state = 1;
    for (int trial = 0; trial < 2000; trial++) {
        std::string text;
        for (int i = 0; i < 40; i++) {
            state = state * 1664525u + 1013904223u;
            text += static_cast<char>(trial % 2 ? state >> 24 : 0x80 | state >> 25);
        }
        size_t n;
        std::string repaired = sanitized(text, &n);
        ASSERT_TRUE(utf8_valid(repaired.data(), repaired.size()));
        ASSERT_EQ(n == 0, utf8_valid(text.data(), text.size()));
        std::string low = lowered(text);
        ASSERT_TRUE(utf8_valid(low.data(), low.size()));
    }
}

TEST(Utf8, LowersBeyondAscii)
{
    EXPECT_EQ(lowered("AMÉLIE ΑΘΗΝΑ ЖЗ Straße 7"), "amélie αθηνα жз straße 7");
    EXPECT_EQ(lowered("A\xFF"), "a" + FFFD);
    EXPECT_EQ(lowered(""), "");
}

TEST(Utf8, AStringHasNoZeroByte)
{
    const std::string zero(1, '\0');
    EXPECT_EQ(string_of(""), "");
    EXPECT_EQ(string_of("caf\xC3\xA9"), "caf\xC3\xA9");
    EXPECT_EQ(string_of(zero), FFFD);
    EXPECT_EQ(string_of(zero + "a" + zero + zero + "\xFF" + "b" + zero),
              FFFD + "a" + FFFD + FFFD + FFFD + "b" + FFFD);
}
