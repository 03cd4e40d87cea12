// Ids against those of the `tokenizers` library (tests/fixtures/tokenizer/make_fixtures.py).
#include <filesystem>
#include <functional>
#include <thread>

#include "fixture.h"

namespace
{

std::string from_hex(const std::string &hex)
{
    std::string bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    return bytes;
}

struct HardString {
    std::string text;
    json_t *row;
};

class Fixtures
{
  public:
    Fixtures() : doc_(load_json(fixture_path("hard.json")))
    {
        size_t i;
        json_t *row;
        json_array_foreach(doc_.get(), i, row)
        {
            std::string text;
            if (const char *plain = json_string_value(json_object_get(row, "text")))
                text = plain;
            else if (const char *hex = json_string_value(json_object_get(row, "hex")))
                text = from_hex(hex);
            else
                for (json_int_t k = 0; k < json_integer_value(json_object_get(row, "times")); k++)
                    text += json_string_value(json_object_get(row, "repeat"));
            rows.push_back({text, row});
        }
    }
    std::vector<HardString> rows;

  private:
    Json doc_;
};

std::string digest(const Ids &ids)
{
    char hex[65];
    sha256_hex(ids.data(), ids.size() * sizeof(int32_t), hex);
    return hex;
}

void expect_ids(const json_t *expected, const Ids &ids, const std::string &text)
{
    if (json_is_object(expected)) {
        EXPECT_EQ(ids.size(), static_cast<size_t>(json_integer_value(json_object_get(expected, "n"))));
        EXPECT_EQ(digest(ids), json_string_value(json_object_get(expected, "sha256"))) << text.substr(0, 40);
        return;
    }
    Ids wanted;
    size_t i;
    json_t *id;
    json_array_foreach(expected, i, id) wanted.push_back(static_cast<int32_t>(json_integer_value(id)));
    EXPECT_EQ(ids, wanted) << testing::PrintToString(text);
}

void expect_hard_strings(const tokenizer *t, const std::string &name)
{
    Fixtures fixtures;
    ASSERT_GT(fixtures.rows.size(), 150u);
    for (const auto &hard : fixtures.rows) {
        json_t *with_special = json_object_get(hard.row, name.c_str());
        json_t *plain = json_object_get(hard.row, (name + "_plain").c_str());
        ASSERT_TRUE(with_special);
        expect_ids(with_special, encode(t, hard.text, true), hard.text);
        expect_ids(plain ? plain : with_special, encode(t, hard.text, false), hard.text);
    }
}

GgufParts gguf_parts(const json_t *doc)
{
    GgufParts parts;
    const char *token;
    size_t i;
    json_t *value, *model = json_object_get(doc, "model");
    json_object_foreach(json_object_get(model, "vocab"), token, value)
    {
        size_t id = static_cast<size_t>(json_integer_value(value));
        if (parts.tokens.size() <= id)
            parts.tokens.resize(id + 1);
        parts.tokens[id] = token;
    }
    parts.types.assign(parts.tokens.size(), 1);
    json_array_foreach(json_object_get(doc, "added_tokens"), i, value)
        parts.types[static_cast<size_t>(json_integer_value(json_object_get(value, "id")))] = 3;
    json_array_foreach(json_object_get(model, "merges"), i, value)
    {
        if (json_is_string(value))
            parts.merges.push_back(json_string_value(value));
        else
            parts.merges.push_back(json_string_value(json_array_get(value, 0)) + std::string(" ") +
                                   json_string_value(json_array_get(value, 1)));
    }
    return parts;
}

// The base vocabulary of Llama-3.2 beside the repository, as a GGUF file would hold it.
GgufParts llama3_parts()
{
    GgufParts parts;
    Json vocab;
    for (const char *name : {"encoder.json.gz", "vocab.bpe.gz"}) {
        line_reader *reader = nullptr;
        const char *line;
        size_t length;
        EXPECT_EQ(line_reader_open(shared_path(std::string("data/llama32_tokenizer/") + name).c_str(),
                                   64u << 20, &reader),
                  SC_OK)
            << sc_last_error();
        std::string all;
        while (line_reader_next(reader, &line, &length) == SC_OK && line) {
            if (std::strcmp(name, "encoder.json.gz") == 0)
                all.append(line, length);
            else if (length > 0 && !text_starts(line, "#version"))
                parts.merges.emplace_back(line, length);
        }
        line_reader_close(reader);
        if (!all.empty())
            vocab.reset(json_loadb(all.data(), all.size(), 0, nullptr));
    }
    const char *token;
    json_t *id;
    parts.tokens.resize(json_object_size(vocab.get()));
    json_object_foreach(vocab.get(), token, id) parts.tokens[static_cast<size_t>(json_integer_value(id))] =
        token;
    parts.types.assign(parts.tokens.size(), 1);
    return parts;
}

bool llama3_present()
{
    return file_exists(shared_path("data/llama32_tokenizer/encoder.json.gz").c_str());
}

std::string reviews_path()
{
    return shared_path("data/imdb_seed/imdb_2k_reviews.jsonl.gz");
}

std::vector<std::string> read_reviews()
{
    std::vector<std::string> texts;
    line_reader *reader = nullptr;
    EXPECT_EQ(line_reader_open(reviews_path().c_str(), 16u << 20, &reader), SC_OK) << sc_last_error();
    json_t *review = nullptr;
    while (json_next_line(reader, &review) == SC_OK && review) {
        texts.push_back(json_string_value(json_object_get(review, "text")));
        json_decref(review);
    }
    line_reader_close(reader);
    return texts;
}

std::vector<Ids> encode_all(const tokenizer *t, const std::vector<std::string> &texts)
{
    std::vector<const char *> pointers;
    for (const auto &text : texts)
        pointers.push_back(text.c_str());
    std::vector<token_ids> out(texts.size(), token_ids{nullptr, 0, 0});
    EXPECT_EQ(tokenizer_encode_batch(t, pointers.data(), pointers.size(), true, out.data()), SC_OK)
        << sc_last_error();
    std::vector<Ids> result;
    for (auto &ids : out) {
        result.emplace_back(ids.ids, ids.ids + ids.n);
        token_ids_free(&ids);
    }
    return result;
}

// One SHA-256 over every review's count and ids, in the order of the file.
void expect_reviews(const tokenizer *t, const std::string &name)
{
    Json expected = load_json(fixture_path("reviews.json"));
    json_t *row = json_object_get(expected.get(), name.c_str());
    auto texts = read_reviews();
    EXPECT_EQ(texts.size(), static_cast<size_t>(json_integer_value(json_object_get(row, "texts"))));
    Ids all;
    for (const auto &ids : encode_all(t, texts)) {
        all.push_back(static_cast<int32_t>(ids.size()));
        all.insert(all.end(), ids.begin(), ids.end());
    }
    EXPECT_EQ(all.size() - texts.size(),
              static_cast<size_t>(json_integer_value(json_object_get(row, "ids"))));
    EXPECT_EQ(digest(all), json_string_value(json_object_get(row, "sha256")));
}

class Folder
{
  public:
    Folder()
    {
        std::string pattern = (std::filesystem::temp_directory_path() / "seedcorn-text-XXXXXX").string();
        path = mkdtemp(pattern.data());
    }
    ~Folder()
    {
        std::filesystem::remove_all(path);
    }
    std::string path;
};

std::string read_file(const std::string &path)
{
    strbuf bytes = {};
    EXPECT_EQ(file_read_all(path.c_str(), &bytes), SC_OK) << sc_last_error();
    std::string result(strbuf_text(&bytes), bytes.len);
    strbuf_free(&bytes);
    return result;
}

class Tiny : public testing::TestWithParam<const char *>
{
  protected:
    std::string name = GetParam();
    Tokenizer t = open_tokenizer(fixture_path(name + ".json"));
};

TEST_P(Tiny, GivesTheLibrarysIdsForHardStrings)
{
    expect_hard_strings(t.get(), name);
}

TEST_P(Tiny, GivesTheLibrarysIdsForEveryReview)
{
    if (!file_exists(reviews_path().c_str()))
        GTEST_SKIP() << "the reviews of imdb_2k are not beside the repository";
    expect_reviews(t.get(), name);
}

TEST_P(Tiny, SavedAndOpenedAgainGivesTheSameIdsAndTheSameBytes)
{
    Folder folder;
    std::string first = folder.path + "/tokenizer.json", second = folder.path + "/again.json";
    ASSERT_EQ(tokenizer_save(t.get(), first.c_str()), SC_OK) << sc_last_error();
    Tokenizer again = open_tokenizer(folder.path); // a folder that holds one
    expect_hard_strings(again.get(), name);
    ASSERT_EQ(tokenizer_save(again.get(), second.c_str()), SC_OK) << sc_last_error();
    EXPECT_EQ(read_file(first), read_file(second));
    EXPECT_EQ(tokenizer_vocab_size(again.get()), tokenizer_vocab_size(t.get()));
}

TEST_P(Tiny, EveryPrefixOfTheFileIsRefused)
{
    Folder folder;
    std::string whole = read_file(fixture_path(name + ".json")), path = folder.path + "/t.json";
    for (size_t n = 0; n + 2 < whole.size(); n += 97) {
        ASSERT_EQ(file_write_all(path.c_str(), whole.data(), n), SC_OK);
        tokenizer *bad = nullptr;
        EXPECT_EQ(tokenizer_open(path.c_str(), &bad), SC_BAD_INPUT) << n;
        EXPECT_EQ(bad, nullptr);
    }
}

TEST_P(Tiny, ThreadsDoNotChangeIds)
{
    Fixtures fixtures;
    std::vector<std::string> texts;
    for (int round = 0; round < 20; round++)
        for (const auto &hard : fixtures.rows)
            if (hard.text.size() < 5000 && hard.text.find('\0') == std::string::npos)
                texts.push_back(hard.text + std::to_string(round));
    auto batch = encode_all(t.get(), texts);
    std::vector<std::vector<Ids>> by_thread(4);
    std::vector<std::thread> threads;
    for (auto &mine : by_thread)
        threads.emplace_back([&] {
            for (const auto &text : texts)
                mine.push_back(encode(t.get(), text));
        });
    for (auto &thread : threads)
        thread.join();
    for (const auto &mine : by_thread)
        EXPECT_EQ(mine, batch);
}

INSTANTIATE_TEST_SUITE_P(Text, Tiny, testing::Values("tiny_smollm2", "tiny_qwen2"),
                         [](const auto &test) { return std::string(test.param); });

TEST(Gguf, PartsGiveTheIdsOfTheFile)
{
    Json doc = load_json(fixture_path("tiny_smollm2.json"));
    Tokenizer t = gguf_parts(doc.get()).open("smollm");
    expect_hard_strings(t.get(), "tiny_smollm2");
    EXPECT_TRUE(tokenizer_is_special(t.get(), tokenizer_token_id(t.get(), "<|im_end|>")));
}

TEST(Gguf, WhatDoesNotFitIsNamed)
{
    const char *tokens[] = {"a", "b", "ab"}, *twice[] = {"a", "a"}, *merges[] = {"a b"}, *unknown[] = {"a c"},
               *raw[] = {"a", "\xff"};
    tokenizer *t = nullptr;
    EXPECT_EQ(tokenizer_from_gguf(tokens, nullptr, 3, merges, 1, "gpt-2", &t), SC_OK) << sc_last_error();
    EXPECT_EQ(encode(t, "abc"), (Ids{2})); // a byte without a token is left out
    tokenizer_close(t);
    struct {
        const char *const *tokens;
        size_t n;
        const char *const *merges;
        const char *pre, *words;
    } bad[] = {{tokens, 3, merges, "gemma", "\"gemma\" is not supported"},
               {twice, 2, merges, "gpt-2", "token 1 is there twice"},
               {tokens, 3, unknown, "gpt-2", "merge 0"},
               {raw, 2, merges, "gpt-2", "token 1 is not UTF-8"},
               {tokens, 0, merges, "gpt-2", "\"vocab\""}};
    for (const auto &b : bad) {
        EXPECT_EQ(tokenizer_from_gguf(b.tokens, nullptr, b.n, b.merges, 1, b.pre, &t), SC_BAD_INPUT);
        EXPECT_NE(std::string(sc_last_error()).find(b.words), std::string::npos) << sc_last_error();
        EXPECT_EQ(t, nullptr);
    }
}

TEST(Llama3, GivesTheLibrarysIds)
{
    if (!llama3_present())
        GTEST_SKIP() << "the vocabulary of Llama-3.2 is not beside the repository";
    Tokenizer t = llama3_parts().open("llama-bpe");
    expect_hard_strings(t.get(), "llama3");
    if (file_exists(reviews_path().c_str()))
        expect_reviews(t.get(), "llama3");
}

TEST(SmolLM2, GivesTheLibrarysIdsForHardStrings)
{
    std::string missing = smollm2_missing();
    if (!missing.empty())
        GTEST_SKIP() << missing;
    Tokenizer t = open_tokenizer(smollm2_folder());
    expect_hard_strings(t.get(), "smollm2");
    EXPECT_EQ(tokenizer_vocab_size(t.get()), 49152);
}

TEST(SmolLM2, GivesTheLibrarysIdsForEveryReview)
{
    std::string missing = smollm2_missing();
    if (!missing.empty())
        GTEST_SKIP() << missing;
    if (!file_exists(reviews_path().c_str()))
        GTEST_SKIP() << "the reviews of imdb_2k are not beside the repository";
    expect_reviews(open_tokenizer(smollm2_folder()).get(), "smollm2");
}

TEST(Decode, GivesTheTextBack)
{
    Tokenizer t = open_tokenizer(fixture_path("tiny_qwen2.json"));
    for (const std::string text : {"", "Hello, world!", "  two  blanks\n\n",
                                   "caf\u00e9 \U0001f44d\U0001f3fd \u65e5\u672c", "a <lef> b<|im_end|>"})
        EXPECT_EQ(decode(t.get(), encode(t.get(), text, false)), text);
    std::string nul("a\0b", 3);
    EXPECT_EQ(decode(t.get(), encode(t.get(), nul)), nul);
    EXPECT_EQ(decode(t.get(), encode(t.get(), "a\xff")), "a\ufffd");
}

TEST(Decode, LeavesSpecialTokensOutUnlessAsked)
{
    Tokenizer t = open_tokenizer(fixture_path("tiny_smollm2.json"));
    Ids ids = encode(t.get(), "a<|im_end|>b");
    EXPECT_EQ(decode(t.get(), ids, false), "ab");
    EXPECT_EQ(decode(t.get(), ids, true), "a<|im_end|>b");
    EXPECT_EQ(decode(t.get(), {1 << 20, ids[0]}), "a"); // a row of the model beyond the vocabulary
    strbuf out = {};
    int32_t negative = -1;
    EXPECT_EQ(tokenizer_decode(t.get(), &negative, 1, true, &out), SC_BAD_INPUT);
    strbuf_free(&out);
}

TEST(Decode, MayEndInsideACharacter)
{
    Tokenizer t = open_tokenizer(fixture_path("tiny_qwen2.json"));
    Ids ids = encode(t.get(), "\U0001f600");
    ASSERT_GT(ids.size(), 1u);
    ids.pop_back();
    std::string part = decode(t.get(), ids);
    EXPECT_EQ(part, std::string("\U0001f600").substr(0, part.size()));
    EXPECT_LT(part.size(), 4u);
}

TEST(Encode, AppendsToWhatIsThere)
{
    Tokenizer t = open_tokenizer(fixture_path("tiny_smollm2.json"));
    token_ids ids = {nullptr, 0, 0};
    ASSERT_EQ(token_ids_push(&ids, 7), SC_OK);
    ASSERT_EQ(tokenizer_encode(t.get(), "a", 1, true, &ids), SC_OK);
    ASSERT_EQ(ids.n, 2u);
    EXPECT_EQ(ids.ids[0], 7);
    token_ids_free(&ids);
    EXPECT_EQ(tokenizer_token_id(t.get(), "no such token"), -1);
    EXPECT_FALSE(tokenizer_is_special(t.get(), -1));
    EXPECT_FALSE(tokenizer_is_special(t.get(), 1 << 30));
}

// ---- files that are refused ----

const char *const GOOD = R"({"added_tokens":[{"id":3,"content":"<end>","special":true}],"normalizer":null,
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";

struct Bad {
    const char *from, *to; // replaced in GOOD
    const char *words;     // in the sentence
};

class BadFile : public testing::TestWithParam<Bad>
{
};

sc_status open_text(const std::string &text, tokenizer **t)
{
    Folder folder;
    std::string path = folder.path + "/tokenizer.json";
    EXPECT_EQ(file_write_all(path.c_str(), text.data(), text.size()), SC_OK);
    return tokenizer_open(path.c_str(), t);
}

TEST(File, TheGoodOneIsRead)
{
    tokenizer *t = nullptr;
    ASSERT_EQ(open_text(GOOD, &t), SC_OK) << sc_last_error();
    EXPECT_EQ(encode(t, "abba<end>"), (Ids{2, 1, 0, 3}));
    EXPECT_EQ(encode(t, "ab<end>", false), (Ids{2}));
    tokenizer_close(t);
}

TEST_P(BadFile, IsNamed)
{
    std::string text = GOOD;
    size_t at = text.find(GetParam().from);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, std::strlen(GetParam().from), GetParam().to);
    tokenizer *t = nullptr;
    EXPECT_EQ(open_text(text, &t), SC_BAD_INPUT);
    EXPECT_EQ(t, nullptr);
    std::string sentence = sc_last_error();
    EXPECT_NE(sentence.find(GetParam().words), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("tokenizer.json"), std::string::npos) << sentence;
}

#define MODEL "\"type\":\"BPE\""
#define PRE "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
INSTANTIATE_TEST_SUITE_P(
    Text, BadFile,
    testing::Values(
        Bad{MODEL, "\"type\":\"WordPiece\"", "WordPiece"},
        Bad{MODEL, "\"type\":\"BPE\",\"dropout\":0.1", "dropout"},
        Bad{MODEL, "\"type\":\"BPE\",\"byte_fallback\":true", "byte_fallback"},
        Bad{MODEL, "\"type\":\"BPE\",\"fuse_unk\":3", "fuse_unk"},
        Bad{MODEL, "\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"", "end_of_word_suffix"},
        Bad{MODEL, "\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\"", "continuing_subword_prefix"},
        Bad{MODEL, "\"type\":\"BPE\",\"unk_token\":\"<unk>\"", "<unk>"},
        Bad{MODEL, "\"type\":\"BPE\",\"new_idea\":1", "new_idea"}, Bad{"\"model\"", "\"models\"", "only BPE"},
        Bad{"\"vocab\":{", "\"vocab\":{\"c\":-1,", "\"c\""},
        Bad{"\"vocab\":{", "\"vocab\":{\"c\":4294967296,", "\"c\""},
        Bad{"\"vocab\":{", "\"vocab\":{\"c\":\"7\",", "\"c\""},
        Bad{"\"vocab\":{", "\"vocab\":{\"c\":1,", "same id"},
        Bad{"\"vocab\":{", "\"vocab\":{\"\":9,", "empty"}, Bad{"{\"a\":0,\"b\":1,\"ab\":2}", "{}", "vocab"},
        Bad{"[\"a b\"]", "7", "merges"}, Bad{"[\"a b\"]", "[\"a\"]", "merge 0"},
        Bad{"[\"a b\"]", "[\"a b c\"]", "merge 0"}, Bad{"[\"a b\"]", "[[\"a\"]]", "merge 0"},
        Bad{"[\"a b\"]", "[[\"a\",2]]", "merge 0"}, Bad{"[\"a b\"]", "[\"a b\",\"b a\"]", "merge 1"},
        Bad{"\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}", "Lowercase"},
        Bad{"\"normalizer\":null",
            "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Strip\"}]"
            "}",
            "Strip"},
        Bad{PRE, "null", "pre_tokenizer"}, Bad{PRE, "{\"type\":\"Whitespace\"}", "Whitespace"},
        Bad{PRE, "{\"type\":\"ByteLevel\"}", "add_prefix_space"},
        Bad{PRE, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":1}", "use_regex"},
        Bad{PRE, "{\"type\":\"Digits\",\"individual_digits\":true}", "no ByteLevel"},
        Bad{PRE, "{\"type\":\"Sequence\",\"pretokenizers\":[" PRE ",{\"type\":\"Digits\"}]}",
            "Digits after ByteLevel"},
        Bad{PRE, "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Isolated\"}", "Split"},
        Bad{PRE, "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Removed\"}", "Removed"},
        Bad{PRE,
            "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Isolated\",\"invert\":true}",
            "invert"},
        Bad{PRE, "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?<=a)b\"},\"behavior\":\"Isolated\"}",
            "(?<="},
        Bad{PRE, "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a*\"},\"behavior\":\"Isolated\"}",
            "empty text"},
        Bad{PRE, "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a)\"},\"behavior\":\"Isolated\"}",
            "does not compile"},
        Bad{"\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":{\"type\":\"WordPiece\"}", "WordPiece"},
        Bad{"\"id\":3", "\"id\":1", "<end>"}, Bad{"\"id\":3", "\"id\":\"3\"", "<end>"},
        Bad{"\"content\":\"<end>\"", "\"x\":1", "added token 0"},
        Bad{"\"content\":\"<end>\"", "\"content\":\"a\"", "does not fit"},
        Bad{"\"special\":true", "\"special\":true,\"single_word\":true", "single_word"},
        Bad{"\"special\":true", "\"special\":\"yes\"", "special"},
        Bad{"[{\"id\":3,\"content\":\"<end>\",\"special\":true}]", "{}", "added_tokens"}));

TEST(File, AbsentOrEmptyIsNamed)
{
    Folder folder;
    tokenizer *t = nullptr;
    EXPECT_EQ(tokenizer_open(folder.path.c_str(), &t), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("tokenizer.json"), std::string::npos);
    EXPECT_EQ(tokenizer_open((folder.path + "/none.json").c_str(), &t), SC_BAD_INPUT);
    EXPECT_EQ(open_text("", &t), SC_BAD_INPUT);
    EXPECT_EQ(open_text("[]", &t), SC_BAD_INPUT);
    EXPECT_EQ(t, nullptr);
}

TEST(File, SavingWhereNothingCanBeWrittenFails)
{
    Tokenizer t = open_tokenizer(fixture_path("tiny_smollm2.json"));
    EXPECT_NE(tokenizer_save(t.get(), "/proc/no/such/folder/tokenizer.json"), SC_OK);
}

} // namespace
