// Conversations in, replies out: in memory and from file to file.
#include <cstdio>
#include <numeric>

#include "train/support.h"

extern "C" {
#include "formats/records.h"
#include "model/generator.h"
#include "seedcorn/generate.h"
}

namespace
{

struct Close {
    void operator()(sc_generator *g) const
    {
        sc_generator_close(g);
    }
};

class Generator : public testing::Test
{
  protected:
    void SetUp() override
    {
        o.common.device = "cpu";
        o.common.dtype = "fp32";
        o.common.threads = 2;
        o.model = model.c_str();
        o.max_tokens = 24;
    }
    void open()
    {
        sc_generator *opened = nullptr;
        ASSERT_OK(sc_generator_open(&o, &opened));
        g.reset(opened);
    }
    struct Reply {
        std::string text;
        int64_t n_prompt, n_tokens;
        bool stopped;
        double logprob;
    };
    std::vector<Reply> reply(const std::vector<std::vector<sc_message>> &conversations) const
    {
        std::vector<sc_conversation> c;
        for (const auto &messages : conversations)
            c.push_back({messages.data(), messages.size()});
        std::vector<sc_reply> replies(c.size());
        std::vector<Reply> out;
        EXPECT_OK(sc_generator_reply(g.get(), c.data(), c.size(), replies.data()));
        for (const sc_reply &r : replies)
            out.push_back({r.text ? r.text : "", r.n_prompt, r.n_tokens, r.stopped, r.logprob});
        sc_replies_free(replies.data(), replies.size());
        return out;
    }
    sc_status refuse(const std::vector<sc_message> &messages) const
    {
        const sc_conversation c = {messages.data(), messages.size()};
        sc_reply r = {};
        const sc_status status = sc_generator_reply(g.get(), &c, 1, &r);
        EXPECT_EQ(r.text, nullptr);
        return status;
    }
    std::string model = chat_model();
    sc_generate_options o = sc_generate_default();
    std::unique_ptr<sc_generator, Close> g;
    TempFolder folder;
};

const std::vector<std::vector<sc_message>> three = {
    {{"user", "a slow film with rain"}},
    {{"system", "You are brief."}, {"user", "hello"}, {"assistant", "What do you like?"}, {"user", "noir"}},
    {{"user", "a musical that is not sweet, please, number 7"}}};

} // namespace

TEST_F(Generator, NeighboursDoNotMatter)
{
    for (double temperature : {0.0, 0.9}) {
        o.temperature = temperature;
        o.top_k = 30;
        o.min_p = 0.01;
        o.repetition_penalty = 1.2;
        open();
        const auto together = reply(three);
        ASSERT_EQ(together.size(), 3u);
        const auto first = reply({three[0]});
        EXPECT_EQ(first[0].text, together[0].text);
        for (const Reply &r : together) {
            EXPECT_GT(r.n_prompt, 5);
            EXPECT_LT(r.logprob, 0);
            EXPECT_EQ(r.stopped, r.n_tokens < 24);
        }
        EXPECT_EQ(reply(three)[2].text, together[2].text);
    }
}

// A stop text may begin within one token and end within another.
TEST_F(Generator, AStopTextEndsTheReplyWhereItBegins)
{
    open();
    const std::string whole = reply({three[0]})[0].text;
    ASSERT_GT(whole.size(), 12u);
    size_t stopped = 0;
    for (size_t at = 1; at + 4 <= whole.size(); at += 3)
        for (size_t length : {1, 2, 4}) {
            const std::string text = whole.substr(at, length);
            if (text.find('\xef') != std::string::npos || static_cast<unsigned char>(text[0]) >= 0x80)
                continue; // part of a character
            const char *stops[] = {"never to be said", text.c_str(), nullptr};
            o.stop = stops;
            open();
            const Reply r = reply({three[0]})[0];
            EXPECT_EQ(r.text, whole.substr(0, whole.find(text))) << at << " " << length;
            EXPECT_TRUE(r.stopped);
            stopped++;
        }
    EXPECT_GT(stopped, 5u);
    const char *none[] = {"never to be said", nullptr};
    o.stop = none;
    open();
    EXPECT_EQ(reply({three[0]})[0].text, whole);
}

TEST_F(Generator, ScoresAreThoseOfTheTokensSaid)
{
    open();
    const Opened m(model);
    tokenizer *t = nullptr;
    ASSERT_OK(tokenizer_open(model.c_str(), &t));
    chat_family family;
    ASSERT_OK(chat_family_of(model.c_str(), &family));
    std::vector<std::vector<sc_message>> rows;
    for (const char *answer :
         {"1. Night Ferry (2003)", "1. The Quiet Harbour (1994)\n2. A Field of Rye (2011)", "no"})
        for (const auto &c : three) {
            rows.push_back(c);
            rows.back().push_back({"assistant", answer});
        }
    std::vector<sc_conversation> conversations;
    for (const auto &row : rows)
        conversations.push_back({row.data(), row.size()});
    std::vector<double> got(rows.size());
    std::vector<int64_t> n_tokens(rows.size());
    ASSERT_OK(sc_generator_score(g.get(), conversations.data(), rows.size(), got.data(), n_tokens.data()));
    for (size_t i = 0; i < rows.size(); i++) {
        std::vector<chat_message> messages;
        for (const sc_message &one : rows[i])
            messages.push_back({one.role, one.content});
        chat_rendered prompt = {}, whole = {};
        ASSERT_OK(chat_render(t, family, messages.data(), messages.size() - 1, true, &prompt));
        ASSERT_OK(chat_render(t, family, messages.data(), messages.size(), false, &whole));
        Ints ids(whole.ids.ids, whole.ids.ids + whole.ids.n);
        while (!whole.mask[ids.size() - 1])
            ids.pop_back();
        EXPECT_EQ(n_tokens[i], static_cast<int64_t>(ids.size() - prompt.ids.n));
        const Floats all = logits_of(m, ids, {0, static_cast<int32_t>(ids.size())});
        const auto vocab = static_cast<size_t>(m->config.vocab_size);
        double want = 0;
        for (size_t at = prompt.ids.n; at < ids.size(); at++) {
            const float *x = all.data() + (at - 1) * vocab;
            double sum = 0;
            for (size_t k = 0; k < vocab; k++)
                sum += std::exp(static_cast<double>(x[k]));
            want += static_cast<double>(x[ids[at]]) - std::log(sum);
        }
        EXPECT_NEAR(got[i], want, 1e-4) << i;
        chat_rendered_free(&prompt);
        chat_rendered_free(&whole);
    }
    tokenizer_close(t);
}

TEST_F(Generator, BadConversationsAreNamed)
{
    open();
    EXPECT_EQ(refuse({}), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "conversation 1 has no messages")) << sc_last_error();
    EXPECT_EQ(refuse({{"user", "x"}, {"assistant", "y"}}), SC_BAD_INPUT);
    EXPECT_EQ(refuse({{"wizard", "x"}}), SC_BAD_INPUT);
    EXPECT_EQ(refuse({{"user", nullptr}}), SC_BAD_INPUT);
    EXPECT_EQ(refuse({{nullptr, "x"}}), SC_BAD_INPUT);
    std::string longer;
    for (int i = 0; i < 3000; i++)
        longer += "word " + std::to_string(i) + " ";
    EXPECT_EQ(refuse({{"user", longer.c_str()}}), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "positions")) << sc_last_error();
    const sc_message user = {"user", "x"};
    const sc_conversation c = {&user, 1};
    double logprob;
    EXPECT_EQ(sc_generator_score(g.get(), &c, 1, &logprob, nullptr), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "could be scored")) << sc_last_error();
    EXPECT_OK(sc_generator_score(g.get(), nullptr, 0, nullptr, nullptr));
    EXPECT_OK(sc_generator_reply(g.get(), nullptr, 0, nullptr));
}

TEST_F(Generator, BadOptionsAreNamed)
{
    const char *empty[] = {"", nullptr};
    const std::vector<std::function<void(sc_generate_options &)>> wrong = {
        [](auto &x) { x.struct_size = 3; }, [](auto &x) { x.model = nullptr; },
        [](auto &x) { x.max_tokens = 0; }, [](auto &x) { x.temperature = -1; },
        [](auto &x) { x.temperature = NAN; }, [](auto &x) { x.top_k = -1; }, [](auto &x) { x.top_p = 0; },
        [](auto &x) { x.top_p = 1.1; }, [](auto &x) { x.min_p = 1.1; },
        [](auto &x) { x.repetition_penalty = 0; }, [](auto &x) { x.batch = -1; },
        [&](auto &x) { x.stop = empty; },
        // no floats
        [](auto &x) { x.top_p = 1e-50; }, [](auto &x) { x.temperature = 1e-50; },
        [](auto &x) { x.temperature = 1e39; }, [](auto &x) { x.repetition_penalty = 1e-50; },
        [](auto &x) { x.repetition_penalty = 1e39; }};
    for (size_t i = 0; i < wrong.size(); i++) {
        sc_generate_options changed = o;
        wrong[i](changed);
        sc_generator *opened = nullptr;
        EXPECT_EQ(sc_generator_open(&changed, &opened), SC_USAGE) << i;
        EXPECT_EQ(opened, nullptr);
    }
    EXPECT_EQ(sc_generate(&o, nullptr), SC_USAGE);
    EXPECT_TRUE(mentions(sc_last_error(), "dialogues and out")) << sc_last_error();
}

// Every line is the in-memory reply; what was stopped goes on to the same bytes.
TEST_F(Generator, FilesAreResumable)
{
    write_dialogues(folder.file("all.jsonl"), 130);
    std::string prompts;
    for (const std::string &line : lines_of(folder.file("all.jsonl")))
        prompts += line.substr(0, line.find(", {\"role\": \"assistant\"")) + "]}\n";
    write_text(folder.file("prompts.jsonl"), prompts);
    const std::string dialogues = folder.file("prompts.jsonl"), scored = folder.file("all.jsonl");
    o.max_tokens = 6;
    o.temperature = 0.7;
    for (bool score : {false, true}) {
        const std::string whole = folder.file(score ? "scores" : "replies"),
                          parts = folder.file(score ? "b" : "a");
        o.dialogues = score ? scored.c_str() : dialogues.c_str();
        o.score = score;
        o.out = whole.c_str();
        sc_generate_result r = {};
        ASSERT_OK(sc_generate(&o, &r));
        EXPECT_EQ(r.n_rows, 130);
        EXPECT_EQ(r.n_resumed, 0);
        EXPECT_LT(r.logprob, 0);
        ASSERT_EQ(lines_of(whole).size(), 130u);
        double sum = 0, n = 0;
        for (const std::string &line : lines_of(whole)) {
            json_t *one = json_loads(line.c_str(), 0, nullptr);
            sum += json_number_value(json_object_get(one, "logprob"));
            n += json_number_value(json_object_get(one, "n_tokens"));
            json_decref(one);
        }
        EXPECT_EQ(static_cast<int64_t>(n), r.new_tokens);
        EXPECT_NEAR(r.logprob, sum / n, 1e-12);
        // A folder in the place of the output keeps the journal.
        o.out = parts.c_str();
        std::filesystem::create_directory(parts);
        ASSERT_NE(sc_generate(&o, nullptr), SC_OK);
        std::filesystem::remove(parts);
        o.common.seed = 5; // which no score depends on
        if (!score) {
            EXPECT_EQ(sc_generate(&o, nullptr), SC_CONFLICT) << sc_last_error();
            EXPECT_TRUE(mentions(sc_last_error(), "seed (0, now 5)")) << sc_last_error();
            o.common.seed = 0;
        }
        ASSERT_OK(sc_generate(&o, &r));
        EXPECT_EQ(r.n_resumed, 130);
        EXPECT_EQ(read_text(parts), read_text(whole));
        EXPECT_FALSE(std::filesystem::exists(parts + ".journal"));
        o.batch = 7;
        ASSERT_OK(sc_generate(&o, &r)); // other products' last bits, the same replies
        EXPECT_EQ(r.n_resumed, 0);
        const auto a = lines_of(whole), b = lines_of(parts);
        ASSERT_EQ(a.size(), b.size());
        for (size_t i = 0; i < a.size(); i++) {
            json_t *x = json_loads(a[i].c_str(), 0, nullptr), *y = json_loads(b[i].c_str(), 0, nullptr);
            EXPECT_NEAR(json_number_value(json_object_get(x, "logprob")),
                        json_number_value(json_object_get(y, "logprob")), 1e-4);
            json_object_del(x, "logprob");
            json_object_del(y, "logprob");
            EXPECT_TRUE(json_equal(x, y)) << a[i] << b[i];
            json_decref(x);
            json_decref(y);
        }
        o.batch = 0;
        o.common.seed = 0;
    }
}

// What cannot be answered is named before anything is worked off, and nothing is replaced.
TEST_F(Generator, FilesAreCheckedFirst)
{
    write_dialogues(folder.file("all.jsonl"), 70);
    const std::vector<std::string> lines = lines_of(folder.file("all.jsonl"));
    std::string last_is_wrong;
    for (size_t i = 0; i + 1 < lines.size(); i++)
        last_is_wrong += lines[i].substr(0, lines[i].find(", {\"role\": \"assistant\"")) + "]}\n";
    const std::string path = folder.file("dialogues.jsonl"), out = folder.file("out");
    write_text(path, last_is_wrong + lines.back() + "\n");
    o.dialogues = path.c_str();
    o.out = out.c_str();
    EXPECT_EQ(sc_generate(&o, nullptr), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "\"dialogue-69\" ends with a message of the assistant's"))
        << sc_last_error();
    EXPECT_LT(std::filesystem::file_size(out + ".journal"), 2000u) << "the first group was worked off";
    write_text(path, R"({"id": "x", "messages": [{"role": "wizard", "content": "y"}]})");
    std::filesystem::remove(out + ".journal");
    EXPECT_EQ(sc_generate(&o, nullptr), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "wizard")) << sc_last_error();
    o.out = o.dialogues;
    EXPECT_EQ(sc_generate(&o, nullptr), SC_USAGE);
    EXPECT_TRUE(mentions(read_text(path), "wizard"));
}

TEST_F(Generator, OneProcessWritesAFile)
{
    write_dialogues(folder.file("all.jsonl"), 3);
    const std::string path = folder.file("all.jsonl"), out = folder.file("out");
    record_log *log = nullptr;
    ASSERT_OK(record_log_open((out + ".journal").c_str(), nullptr, &log));
    o.dialogues = path.c_str();
    o.score = true;
    o.out = out.c_str();
    EXPECT_EQ(sc_generate(&o, nullptr), SC_BUSY);
    record_log_close(log);
    EXPECT_OK(sc_generate(&o, nullptr));
}

TEST_F(Generator, AModelGoneWrongIsNotScored)
{
    std::filesystem::copy(model, folder.path(), std::filesystem::copy_options::recursive);
    std::string weights = read_text(folder.file("model.safetensors"));
    std::fill(weights.end() - static_cast<std::ptrdiff_t>(weights.size() / 2), weights.end(), '\xff'); // NaN
    write_text(folder.file("model.safetensors"), weights);
    model = folder.path();
    o.model = model.c_str();
    open();
    const std::vector<sc_message> said = {{"user", "x"}, {"assistant", "y"}};
    const sc_conversation c = {said.data(), said.size()};
    double logprob;
    EXPECT_EQ(sc_generator_score(g.get(), &c, 1, &logprob, nullptr), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "damaged")) << sc_last_error();
}
