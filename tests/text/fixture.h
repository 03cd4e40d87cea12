// What the tests of text share: the fixtures, ids as vectors, and the real vocabularies where they are.
#ifndef SC_TESTS_TEXT_FIXTURE_H
#define SC_TESTS_TEXT_FIXTURE_H

#include <gtest/gtest.h>
#include <jansson.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

using Ids = std::vector<int32_t>;

struct JsonFree {
    void operator()(json_t *value) const
    {
        json_decref(value);
    }
};
using Json = std::unique_ptr<json_t, JsonFree>;

inline std::string fixture_path(const std::string &name)
{
    return std::string(SC_SOURCE_DIR) + "/tests/fixtures/tokenizer/" + name;
}

inline Json load_json(const std::string &path)
{
    json_error_t error;
    Json value(json_load_file(path.c_str(), 0, &error));
    EXPECT_TRUE(value) << path << ": " << error.text;
    return value;
}

struct TokenizerClose {
    void operator()(tokenizer *t) const
    {
        tokenizer_close(t);
    }
};
using Tokenizer = std::unique_ptr<tokenizer, TokenizerClose>;

inline Tokenizer open_tokenizer(const std::string &path)
{
    tokenizer *t = nullptr;
    EXPECT_EQ(tokenizer_open(path.c_str(), &t), SC_OK) << sc_last_error();
    return Tokenizer(t);
}

inline Ids encode(const tokenizer *t, const std::string &text, bool parse_special = true)
{
    token_ids ids = {nullptr, 0, 0};
    EXPECT_EQ(tokenizer_encode(t, text.data(), text.size(), parse_special, &ids), SC_OK) << sc_last_error();
    Ids result(ids.ids, ids.ids + ids.n);
    token_ids_free(&ids);
    return result;
}

inline std::string decode(const tokenizer *t, const Ids &ids, bool keep_special = true)
{
    strbuf text = {};
    EXPECT_EQ(tokenizer_decode(t, ids.data(), ids.size(), keep_special, &text), SC_OK) << sc_last_error();
    std::string result(strbuf_text(&text), text.len);
    strbuf_free(&text);
    return result;
}

// The parts of a tokenizer as a GGUF file holds them.
struct GgufParts {
    std::vector<std::string> tokens, merges;
    std::vector<int32_t> types;

    Tokenizer open(const char *pre) const
    {
        std::vector<const char *> t, m;
        for (const auto &token : tokens)
            t.push_back(token.c_str());
        for (const auto &merge : merges)
            m.push_back(merge.c_str());
        tokenizer *result = nullptr;
        EXPECT_EQ(tokenizer_from_gguf(t.data(), types.data(), t.size(), m.data(), m.size(), pre, &result),
                  SC_OK)
            << sc_last_error();
        return Tokenizer(result);
    }
};

// SmolLM2's folder: SEEDCORN_TEST_MODEL, or where `seedcorn pull smollm2-135m-instruct` puts it.
inline std::string smollm2_folder()
{
    if (const char *folder = std::getenv("SEEDCORN_TEST_MODEL"))
        return folder;
    const char *home = std::getenv("HOME");
    return std::string(home ? home : "") + "/.cache/seedcorn/smollm2-135m-instruct";
}

// "" if it is there and spells numbers digit by digit, as SmolLM2 was published; else why not.
inline std::string smollm2_missing()
{
    std::string path = smollm2_folder() + "/tokenizer.json";
    if (!file_exists(path.c_str()))
        return "no SmolLM2 at " + path +
               ": run `seedcorn pull smollm2-135m-instruct` or set SEEDCORN_TEST_MODEL";
    Json doc = load_json(path);
    json_t *list = json_object_get(json_object_get(doc.get(), "pre_tokenizer"), "pretokenizers");
    if (json_array_size(list) != 2)
        return path + " was written by transformers from a GGUF file and lacks the published Digits step";
    return "";
}

inline std::string shared_path(const std::string &name)
{
    return std::string(SC_SOURCE_DIR) + "/../shared/" + name;
}

#endif
