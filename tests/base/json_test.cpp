#include "support.h"

#include <cmath>
#include <cstring>

#include "base/json.h"

namespace
{

struct Value {
    explicit Value(const char *text)
    {
        EXPECT_EQ(json_parse(text, strlen(text), "test", &json), SC_OK) << sc_last_error();
    }
    ~Value()
    {
        json_decref(json);
    }
    Value(const Value &) = delete;
    json_t *json = nullptr;
};

std::string canonical(const char *text)
{
    Value value(text);
    strbuf out = {};
    EXPECT_EQ(json_canonical(value.json, &out), SC_OK);
    std::string result(strbuf_text(&out), out.len);
    strbuf_free(&out);
    return result;
}

sc_status parse(const std::string &text)
{
    json_t *value = nullptr;
    sc_status status = json_parse(text.data(), text.size(), "reviews.jsonl:12", &value);
    EXPECT_EQ(status != SC_OK, value == nullptr);
    json_decref(value);
    return status;
}

} // namespace

using Json = Folder;

TEST_F(Json, RefusesWhatIsNotStrict)
{
    for (const std::string &text : {std::string(),
                                    std::string(" "),
                                    std::string("{"),
                                    std::string("{\"a\":}"),
                                    std::string("[1,]"),
                                    std::string("{'a':1}"),
                                    std::string("[NaN]"),
                                    std::string("[1e999]"),
                                    std::string("[99999999999999999999]"),
                                    std::string("\"\xFF\""),
                                    std::string("\"\xED\xA0\x80\""),
                                    std::string("\"\\ud800\""),
                                    std::string("\"a\\u0000b\""),
                                    std::string("{} {}"),
                                    std::string("{\"a\\u0000\":1}"),
                                    std::string("\"a\nb\""),
                                    std::string("[01]"),
                                    std::string("{\"a\":1}\0", 8),
                                    std::string("\xEF\xBB\xBF{}"),
                                    std::string(100000, '[')}) {
        EXPECT_EQ(parse(text), SC_BAD_INPUT) << text;
        EXPECT_TRUE(says("reviews.jsonl:12: not valid JSON at column ")) << sc_last_error();
    }
}

TEST_F(Json, RefusesDuplicateKeys)
{
    EXPECT_EQ(parse("{\"a\":1,\"b\":2,\"a\":3}"), SC_BAD_INPUT);
    EXPECT_TRUE(says("duplicate")) << sc_last_error();
    EXPECT_EQ(parse("{\"x\":{\"a\":1,\"\\u0061\":3}}"), SC_BAD_INPUT);
    EXPECT_EQ(parse("[{\"a\":1},{\"a\":1}]"), SC_OK);
}

TEST_F(Json, SaysWhere)
{
    EXPECT_EQ(parse("{\"a\": x}"), SC_BAD_INPUT);
    EXPECT_TRUE(says("reviews.jsonl:12: not valid JSON at column 7")) << sc_last_error();
    json_t *value;
    EXPECT_EQ(json_parse_file(make("c.json", "{\n  \"a\": 1,\n  \"b\"\n}\n").c_str(), &value), SC_BAD_INPUT);
    EXPECT_TRUE(says("c.json:4: not valid JSON at column 1")) << sc_last_error();
    EXPECT_EQ(json_parse_file(make("empty.json", "").c_str(), &value), SC_BAD_INPUT);
    EXPECT_TRUE(says("empty.json:")) << sc_last_error();
    EXPECT_EQ(json_parse_file(at("absent.json").c_str(), &value), SC_BAD_INPUT);
    EXPECT_EQ(value, nullptr);
    ASSERT_EQ(json_parse_file(make("bom.json", "\xEF\xBB\xBF[1]").c_str(), &value), SC_OK);
    json_decref(value);
}

TEST_F(Json, LinesAreObjects)
{
    line_reader *r = nullptr;
    ASSERT_EQ(
        line_reader_open(make("a.jsonl", "{\"n\":1}\n\n  \t\n{\"n\":2}\r\n[3]\n{\"n\":4}").c_str(), 100, &r),
        SC_OK);
    json_t *value;
    int64_t n;
    ASSERT_EQ(json_next_line(r, &value), SC_OK);
    ASSERT_EQ(json_need_int(value, "n", "x", &n), SC_OK);
    EXPECT_EQ(n, 1);
    json_decref(value);
    ASSERT_EQ(json_next_line(r, &value), SC_OK);
    EXPECT_EQ(line_reader_line(r), 4);
    json_decref(value);
    EXPECT_EQ(json_next_line(r, &value), SC_BAD_INPUT);
    EXPECT_EQ(value, nullptr);
    EXPECT_TRUE(says("a.jsonl:5: a line must hold one JSON object")) << sc_last_error();
    ASSERT_EQ(json_next_line(r, &value), SC_OK);
    json_decref(value);
    ASSERT_EQ(json_next_line(r, &value), SC_OK);
    EXPECT_EQ(value, nullptr);
    line_reader_close(r);
}

TEST_F(Json, TypedAccess)
{
    Value v("{\"s\":\"x\",\"i\":-5,\"whole\":7.0,\"r\":2.5,\"t\":true,\"f\":false,\"null\":null,\"a\":[1],"
            "\"o\":{},"
            "\"huge\":1e300}");
    const char *s;
    int64_t i;
    double d;
    bool b;
    json_t *a;
    EXPECT_EQ(json_need_string(v.json, "s", "w", &s), SC_OK);
    EXPECT_STREQ(s, "x");
    EXPECT_EQ(json_need_int(v.json, "i", "w", &i), SC_OK);
    EXPECT_EQ(i, -5);
    EXPECT_EQ(json_need_int(v.json, "whole", "w", &i), SC_OK);
    EXPECT_EQ(i, 7);
    EXPECT_EQ(json_need_number(v.json, "i", "w", &d), SC_OK);
    EXPECT_EQ(d, -5.0);
    EXPECT_EQ(json_need_number(v.json, "r", "w", &d), SC_OK);
    EXPECT_EQ(d, 2.5);
    EXPECT_EQ(json_get_bool(v.json, "t", "w", false, &b), SC_OK);
    EXPECT_TRUE(b);
    EXPECT_EQ(json_get_bool(v.json, "f", "w", true, &b), SC_OK);
    EXPECT_FALSE(b);
    EXPECT_EQ(json_need_array(v.json, "a", "w", &a), SC_OK);
    EXPECT_EQ(json_array_size(a), 1u);

    /* Missing and null: an error for need, the default for get. */
    for (const char *key : {"absent", "null"}) {
        EXPECT_EQ(json_need_string(v.json, key, "f:3", &s), SC_BAD_INPUT);
        EXPECT_TRUE(says(std::string("f:3: the key \"") + key)) << sc_last_error();
        EXPECT_EQ(json_need_int(v.json, key, "w", &i), SC_BAD_INPUT);
        EXPECT_EQ(json_need_number(v.json, key, "w", &d), SC_BAD_INPUT);
        EXPECT_EQ(json_need_array(v.json, key, "w", &a), SC_BAD_INPUT);
        EXPECT_EQ(a, nullptr);
        EXPECT_EQ(json_get_string(v.json, key, "w", nullptr, &s), SC_OK);
        EXPECT_EQ(s, nullptr);
        EXPECT_EQ(json_get_int(v.json, key, "w", 42, &i), SC_OK);
        EXPECT_EQ(i, 42);
        EXPECT_EQ(json_get_number(v.json, key, "w", 0.25, &d), SC_OK);
        EXPECT_EQ(d, 0.25);
        EXPECT_EQ(json_get_bool(v.json, key, "w", true, &b), SC_OK);
        EXPECT_TRUE(b);
    }
    /* A wrong type is an error for both. */
    EXPECT_EQ(json_need_string(v.json, "i", "w", &s), SC_BAD_INPUT);
    EXPECT_TRUE(says("must hold a string, not an integer")) << sc_last_error();
    EXPECT_EQ(json_get_string(v.json, "a", "w", "x", &s), SC_BAD_INPUT);
    EXPECT_EQ(json_need_int(v.json, "r", "w", &i), SC_BAD_INPUT);
    EXPECT_EQ(json_get_int(v.json, "s", "w", 1, &i), SC_BAD_INPUT);
    EXPECT_EQ(json_get_int(v.json, "huge", "w", 1, &i), SC_BAD_INPUT);
    EXPECT_EQ(json_get_number(v.json, "t", "w", 1, &d), SC_BAD_INPUT);
    EXPECT_EQ(json_get_bool(v.json, "i", "w", true, &b), SC_BAD_INPUT);
    EXPECT_EQ(json_need_array(v.json, "o", "w", &a), SC_BAD_INPUT);
    Value list("[1]");
    EXPECT_EQ(json_get_int(list.json, "x", "w", 1, &i), SC_BAD_INPUT);
    EXPECT_EQ(json_get_int(nullptr, "x", "w", 1, &i), SC_BAD_INPUT);
}

TEST_F(Json, CanonicalText)
{
    EXPECT_EQ(canonical("{ \"b\" : [1, 2.5, \"\\u00e9\"], \"a\": {\"z\":null, \"y\":true} }"),
              "{\"a\":{\"y\":true,\"z\":null},\"b\":[1,2.5,\"\xC3\xA9\"]}");
    EXPECT_EQ(canonical("0.1"), "0.10000000000000001");
    EXPECT_EQ(canonical("\"x\""), "\"x\"");
    EXPECT_EQ(canonical("{\"a\":1,\"b\":2}"), canonical("{\"b\":2,\"a\":1}"));
}

TEST_F(Json, SeventeenDigitsGoRound)
{
    uint64_t state = 1;
    for (int i = 0; i < 2000; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        double x;
        memcpy(&x, &state, sizeof x);
        if (!std::isfinite(x))
            continue;
        json_t *number = json_real(x);
        strbuf out = {};
        ASSERT_EQ(json_canonical(number, &out), SC_OK);
        json_t *back = nullptr;
        ASSERT_EQ(json_parse(out.data, out.len, "x", &back), SC_OK) << out.data;
        ASSERT_EQ(json_real_value(back), x);
        json_decref(back);
        json_decref(number);
        strbuf_free(&out);
    }
}

TEST_F(Json, WritesLinesAndFiles)
{
    Value v("{\"b\":1,\"a\":[\"caf\xC3\xA9\\n\",0.5]}");
    file_writer *w = nullptr;
    ASSERT_EQ(file_writer_open(at("a.jsonl").c_str(), &w), SC_OK);
    ASSERT_EQ(json_write_line(w, v.json), SC_OK);
    ASSERT_EQ(json_write_line(w, v.json), SC_OK);
    ASSERT_EQ(file_writer_commit(&w), SC_OK);
    const std::string line = "{\"b\":1,\"a\":[\"caf\xC3\xA9\\n\",0.5]}\n";
    EXPECT_EQ(bytes_of(at("a.jsonl")), line + line);
    ASSERT_EQ(json_write_file(at("a.json").c_str(), v.json), SC_OK);
    EXPECT_EQ(bytes_of(at("a.json")),
              "{\n  \"b\": 1,\n  \"a\": [\n    \"caf\xC3\xA9\\n\",\n    0.5\n  ]\n}\n");
    EXPECT_EQ(json_write_file(at("absent/a.json").c_str(), v.json), SC_IO);
    if (file_exists("/dev/full")) {
        EXPECT_EQ(json_write_file("/dev/full", v.json), SC_IO);
    }
}

TEST_F(Json, DifferencesAreNamed)
{
    const Value then(R"({"a": 1, "b": "x", "gone": 0})"), now(R"({"a": 1, "b": "y", "c": [0.5]})");
    strbuf out = {};
    json_differences(then.json, now.json, &out);
    EXPECT_STREQ(strbuf_text(&out), R"(b ("x", now "y"), c (absent, now [0.5]))");
    strbuf_clear(&out);
    json_differences(now.json, now.json, &out);
    EXPECT_EQ(out.len, 0u);
    json_differences(nullptr, now.json, &out);
    EXPECT_STREQ(strbuf_text(&out), R"(a (absent, now 1), b (absent, now "y"), c (absent, now [0.5]))");
    strbuf_free(&out);
}

TEST_F(Json, TextIsRepaired)
{
    for (auto [raw, repaired] : {std::pair{"plain", "plain"}, {"a\xFFz", "a\xEF\xBF\xBDz"}, {"", ""}}) {
        json_t *value = json_text(raw);
        ASSERT_NE(value, nullptr);
        EXPECT_STREQ(json_string_value(value), repaired);
        json_decref(value);
    }
}
