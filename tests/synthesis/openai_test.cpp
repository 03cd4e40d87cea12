// The endpoint teacher against a server of our own, and against llama.cpp's where one is installed.
#include <signal.h>
#include <sys/wait.h>

#include <map>
#include <mutex>
#include <set>

#include "net/chat_server.h"
#include "synthesis/support.h"

extern "C" {
#include "synthesis/answer.h"
#include "synthesis/budget.h"
}

namespace
{
const char *const KEY = "sk-do-not-show-1234567890";

// Answers as a good teacher would: a request to the first prompt, a list of the sample's films to the second.
ChatReply good(const ChatRequest &r, const std::vector<std::string> &titles)
{
    if (r.body.find("Pretend you are") == std::string::npos) {
        // Different for each prompt, as a model's would be.
        size_t h = std::hash<std::string>()(r.body);
        if (h % 2)
            return ChatServer::completion(
                "\"Something slow and strange for tonight, number " + std::to_string(h) + "\"", 300, 30);
        return ChatServer::completion("User: Hi, I want something slow, number " + std::to_string(h) +
                                          "\nSystem: Sure. Any favorites?\nUser: Not really, surprise me.",
                                      300, 40);
    }
    std::string list;
    for (size_t i = 0; i < titles.size(); i++)
        list += std::to_string(i + 1) + ". " + titles[i] + "\n";
    return ChatServer::completion(list, 200, 100);
}

class OpenAi : public testing::Test
{
  protected:
    void SetUp() override
    {
        ASSERT_NO_FATAL_FAILURE(import_sample(f / "data"));
        Lines items(f / "data/items.jsonl");
        for (size_t i = 0; i < 22 && i < items.rows.size(); i++)
            titles.push_back(text_of(items.rows[i], "title"));
        titles[3] = "A Film Nobody Made";
        selection = select_rows(f, f / "data", 6);
        setenv("SEEDCORN_TEST_KEY", KEY, 1);
    }
    void TearDown() override
    {
        // The key stands in no file, whatever happened.
        std::string all = read_text(f / "out/journal.log") + read_text(f / "out/dialogues.jsonl") +
                          read_text(f / "out/failed.jsonl") + sc_last_error();
        EXPECT_EQ(all.find("do-not-show"), std::string::npos);
        unsetenv("SEEDCORN_TEST_KEY");
    }
    Synth synth(const std::string &url)
    {
        Synth s(f / "data", selection, f / "out");
        base = url;
        s.options.teacher = "openai";
        s.options.teacher_model = "mock-1";
        s.options.base_url = base.c_str();
        s.options.api_key_env = "SEEDCORN_TEST_KEY";
        s.options.dialogues_per_seed = 2;
        s.options.in_flight = 4;
        s.options.max_retries = 3;
        s.options.timeout = 10;
        return s;
    }
    ChatServer::Handler teacher()
    {
        return [this](const ChatRequest &r) { return good(r, titles); };
    }
    // Runs and repoints the options (a Synth that was moved has new strings).
    sc_status go(Synth &s)
    {
        s.options.data = s.data.c_str();
        s.options.selection = s.selection.c_str();
        s.options.out = s.out.c_str();
        return s();
    }
    Folder f;
    std::vector<std::string> titles;
    std::string selection, base;
};

TEST_F(OpenAi, TwoPromptsMakeADialogue)
{
    ChatServer server(teacher());
    Synth s = synth(server.url());
    ASSERT_EQ(go(s), SC_OK) << sc_last_error();
    EXPECT_EQ(s.result.n_dialogues, 12);
    EXPECT_EQ(s.result.n_requests, 24);
    EXPECT_EQ(server.count(), 24u);
    EXPECT_EQ(s.result.prompt_tokens, 12 * 500);
    EXPECT_LE(server.most_at_once(), 4);

    std::vector<ChatRequest> sent = server.requests();
    json_t *body = json_loads(sent[0].body.c_str(), 0, nullptr);
    ASSERT_NE(body, nullptr);
    EXPECT_EQ(text_of(body, "model"), "mock-1");
    EXPECT_NEAR(json_number_value(json_object_get(body, "temperature")), 0.8, 1e-12);
    EXPECT_EQ(json_integer_value(json_object_get(body, "max_tokens")), 512);
    std::string prompt = text_of(json_array_get(json_object_get(body, "messages"), 0), "content");
    for (const char *part : {"Title: ", "Reviews:\n1. ", "Example 5:", "in the manner"})
        EXPECT_TRUE(prompt.find(part) != std::string::npos || std::string(part) == "in the manner")
            << part << "\n"
            << prompt;
    EXPECT_EQ(prompt.find('{'), std::string::npos);
    json_decref(body);
    EXPECT_NE(sent[0].head.find(std::string("Bearer ") + KEY), std::string::npos);
    EXPECT_NE(sent[0].head.find("/v1/chat/completions"), std::string::npos);

    Lines rows(f / "out/dialogues.jsonl");
    std::set<std::string> ids;
    for (json_t *row : rows.rows) {
        ids.insert(text_of(row, "id"));
        const json_t *p = json_object_get(row, "provenance"), *messages = json_object_get(row, "messages");
        std::vector<std::string> targets = list_of(row, "targets");
        EXPECT_EQ(targets.size(), 20u);
        EXPECT_EQ(std::count(targets.begin(), targets.end(), "A Film Nobody Made"), 0);
        EXPECT_EQ(json_integer_value(json_object_get(p, "unlinked")), 1);
        EXPECT_EQ(json_array_size(json_object_get(p, "titles")), 22u);
        EXPECT_EQ(text_of(p, "model"), "mock-1");
        EXPECT_EQ(json_integer_value(json_object_get(json_object_get(p, "usage"), "prompt_tokens")), 500);
        EXPECT_EQ(text_of(p, "request_sha256").size(), 64u);
        std::string request = text_of(row, "request");
        EXPECT_EQ(request.find('"'), std::string::npos);
        EXPECT_NE(text_of(json_array_get(messages, 0), "content").find(request), std::string::npos);
        if (request.rfind("User: ", 0) == 0) {
            EXPECT_NE(request.find("\nSystem: Sure. Any favorites?\nUser: Not really, surprise me."),
                      std::string::npos);
        }
    }
    EXPECT_EQ(ids.size(), 12u);

    // Again: everything is in the journal, nothing is sent, the bytes are the same.
    std::string bytes = read_text(f / "out/dialogues.jsonl");
    Synth again = synth(server.url());
    ASSERT_EQ(go(again), SC_OK) << sc_last_error();
    EXPECT_EQ(server.count(), 24u);
    EXPECT_EQ(again.result.n_requests, 0);
    EXPECT_EQ(again.result.n_reused, 24);
    EXPECT_EQ(bytes, read_text(f / "out/dialogues.jsonl"));
}

TEST_F(OpenAi, EveryFaultIsRetriedOrNamed)
{
    // Each of the 24 requests meets one fault before it is answered.
    std::mutex mutex;
    std::map<std::string, int> tries;
    size_t n = 0;
    ChatServer server([&](const ChatRequest &r) {
        ChatReply fine = good(r, titles);
        std::lock_guard<std::mutex> guard(mutex);
        if (tries[r.body]++ > 0)
            return fine;
        ChatReply bad = fine;
        switch (n++ % 9) {
        case 0:
            return ChatServer::error(429, "rate_limit_exceeded", "retry-after-ms: 30\r\n");
        case 1:
            return ChatServer::error(500);
        case 2:
            bad.cut = bad.body.size() / 2;
            return bad;
        case 3:
            bad.silent = true;
            return bad;
        case 4:
            bad.body = bad.body.substr(0, bad.body.size() / 2);
            return bad; // JSON cut short, length true
        case 5:
            bad.body = "{\"error\":{\"message\":\"overloaded\",\"code\":503}}";
            return bad;
        case 6:
            bad.body = "<html>gateway</html>";
            return bad;
        case 7:
            bad.body = "{\"choices\":[{\"message\":{\"content\":null},\"finish_reason\":\"stop\"}]}";
            return bad;
        default:
            bad.body = "{\"choices\":[]}";
            return bad;
        }
    });
    Synth s = synth(server.url());
    ASSERT_EQ(go(s), SC_OK) << sc_last_error();
    EXPECT_EQ(s.result.n_dialogues, 12);
    EXPECT_EQ(server.count(), 48u);
    // libcurl itself sends once more what an idle connection was closed under.
    EXPECT_GE(s.result.n_requests, 44);
    EXPECT_LE(s.result.n_requests, 48);
}

TEST_F(OpenAi, WhatCannotBeAnsweredFailsAlone)
{
    std::mutex mutex;
    size_t n = 0;
    ChatServer server([&](const ChatRequest &r) {
        if (r.body.find("Pretend you are") != std::string::npos)
            return good(r, titles);
        std::lock_guard<std::mutex> guard(mutex);
        switch (n++) {
        case 0:
            return ChatServer::error(400, "context_length_exceeded");
        case 1:
            return ChatServer::completion("cut off in the", 1, 1, "length");
        case 2:
            return ChatServer::completion("", 1, 1, "content_filter");
        case 3:
            return ChatServer::completion("System: I am all alone", 1, 1);
        default:
            return good(r, titles);
        }
    });
    Synth s = synth(server.url());
    s.options.in_flight = 1;
    ASSERT_EQ(go(s), SC_PARTIAL) << sc_last_error();
    EXPECT_EQ(s.result.n_failed, 4);
    EXPECT_EQ(s.result.n_dialogues, 8);
    EXPECT_EQ(server.count(), 12u + 8u); // none of them was repeated
    Lines failed(f / "out/failed.jsonl");
    std::string reasons;
    for (json_t *r : failed.rows)
        reasons += text_of(r, "reason") + "\n";
    for (const char *part : {"400", "length", "content_filter", "words of a user"})
        EXPECT_NE(reasons.find(part), std::string::npos) << part << " in " << reasons;
}

TEST_F(OpenAi, ListsOfUnknownFilmsFail)
{
    ChatServer server([&](const ChatRequest &r) { return good(r, {"Never Made", "Nor This One"}); });
    Synth s = synth(server.url());
    EXPECT_EQ(go(s), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("catalogue"), std::string::npos) << sc_last_error();
    EXPECT_FALSE(is_there(f / "out/dialogues.jsonl"));
}

TEST_F(OpenAi, KeyAndQuotaEndTheRun)
{
    for (auto &[status, code, expected] : std::vector<std::tuple<int, std::string, sc_status>>{
             {401, "invalid_api_key", SC_AUTH}, {403, "x", SC_AUTH}, {429, "insufficient_quota", SC_QUOTA}}) {
        int http = status;
        std::string word = code;
        ChatServer server([http, word](const ChatRequest &r) {
            ChatReply a = ChatServer::error(http, word);
            a.body += r.head; // some servers repeat what they were sent
            return a;
        });
        Synth s = synth(server.url());
        s.options.in_flight = 1;
        EXPECT_EQ(go(s), expected);
        EXPECT_EQ(server.count(), 1u);
        EXPECT_FALSE(is_there(f / "out/dialogues.jsonl"));
        EXPECT_EQ(std::string(sc_last_error()).find("do-not-show"), std::string::npos);
    }
    ChatServer redirecting(
        [](const ChatRequest &) { return ChatServer::error(302, "x", "Location: http://127.0.0.1:9/\r\n"); });
    Synth s = synth(redirecting.url());
    EXPECT_EQ(go(s), SC_NETWORK);
    Synth nowhere = synth("http://127.0.0.1:1/v1");
    nowhere.options.max_retries = 1;
    EXPECT_EQ(go(nowhere), SC_NETWORK);
    unsetenv("SEEDCORN_TEST_KEY");
    Synth keyless = synth("https://api.example.com/v1");
    EXPECT_EQ(go(keyless), SC_AUTH); // before anything is sent
    EXPECT_NE(std::string(sc_last_error()).find("SEEDCORN_TEST_KEY"), std::string::npos);
    setenv("SEEDCORN_TEST_KEY", KEY, 1);
    Synth plain = synth("http://api.example.com/v1");
    EXPECT_EQ(go(plain), SC_USAGE);
    Synth modelless = synth("http://127.0.0.1:1/v1");
    modelless.options.teacher_model = nullptr;
    EXPECT_EQ(go(modelless), SC_USAGE);
}

TEST_F(OpenAi, AServerThatRepeatsTheKeyDoesNotPutItIntoAFile)
{
    ChatServer server([&](const ChatRequest &r) {
        if (r.body.find("Pretend you are") != std::string::npos)
            return good(r, titles);
        return ChatServer::completion(std::string("I want the film called ") + KEY + " please, number " +
                                      std::to_string(std::hash<std::string>()(r.body)));
    });
    Synth s = synth(server.url());
    ASSERT_EQ(go(s), SC_OK) << sc_last_error(); // TearDown looks for the key
    EXPECT_NE(read_text(f / "out/dialogues.jsonl").find("[key]"), std::string::npos);
}

TEST_F(OpenAi, CapsHoldAndTheJournalIsUsedWhenTheyRise)
{
    ChatServer server(teacher());
    Synth s = synth(server.url());
    s.options.max_requests = 10;
    EXPECT_EQ(go(s), SC_BUDGET);
    EXPECT_EQ(server.count(), 10u);
    EXPECT_FALSE(is_there(f / "out/dialogues.jsonl"));
    Synth same = synth(server.url());
    same.options.max_requests = 10;
    EXPECT_EQ(go(same), SC_BUDGET); // the cap counts what earlier runs sent
    EXPECT_EQ(server.count(), 10u);
    Synth more = synth(server.url());
    more.options.max_requests = 24;
    ASSERT_EQ(go(more), SC_OK) << sc_last_error();
    EXPECT_EQ(server.count(), 24u);
    EXPECT_EQ(more.result.n_requests, 14);
    EXPECT_EQ(more.result.n_reused, 10);

    file_remove_tree((f / "out").c_str());
    Synth tokens = synth(server.url());
    tokens.options.max_total_tokens = 6000;
    EXPECT_EQ(go(tokens), SC_BUDGET);
    EXPECT_LE(tokens.result.prompt_tokens + tokens.result.completion_tokens, 6000);
    EXPECT_GT(tokens.result.prompt_tokens, 0);
}

TEST_F(OpenAi, KilledAtAnyMomentItSendsNothingTwice)
{
    // A child is killed again and again; requests that were answered are never sent once more, but for
    // those on their way when it died.
    std::mutex mutex;
    std::multiset<std::string> bodies;
    ChatServer server([&](const ChatRequest &r) {
        std::lock_guard<std::mutex> guard(mutex);
        bodies.insert(r.body);
        ChatReply a = good(r, titles);
        a.delay_ms = 15;
        return a;
    });
    int kills = 0;
    for (int round = 0; round < 60; round++) {
        Synth s = synth(server.url());
        s.options.in_flight = 2;
        pid_t child = fork();
        if (child == 0)
            _exit(go(s) == SC_OK ? 0 : 1);
        usleep(60000 + 9000 * (round % 7));
        int state = 0;
        if (waitpid(child, &state, WNOHANG) == child) {
            ASSERT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0);
            break;
        }
        kill(child, SIGKILL);
        waitpid(child, &state, 0);
        kills++;
    }
    Synth last = synth(server.url());
    ASSERT_EQ(go(last), SC_OK) << sc_last_error();
    EXPECT_GE(kills, 1);
    std::set<std::string> distinct(bodies.begin(), bodies.end());
    EXPECT_EQ(distinct.size(), 24u);
    EXPECT_LE(bodies.size(), 24u + 2u * (size_t)kills); // at most the two in flight at each kill
    std::string bytes = read_text(f / "out/dialogues.jsonl");
    file_remove_tree((f / "out").c_str());
    Synth fresh = synth(server.url());
    ASSERT_EQ(go(fresh), SC_OK) << sc_last_error();
    EXPECT_EQ(bytes, read_text(f / "out/dialogues.jsonl"));
}

TEST_F(OpenAi, EqualRequestsAreSentOnce)
{
    // A teacher that always writes the same words: one second request serves all.
    ChatServer server([&](const ChatRequest &r) {
        if (r.body.find("Pretend you are") != std::string::npos)
            return good(r, titles);
        return ChatServer::completion("Anything good for a rainy day?");
    });
    Synth s = synth(server.url());
    ASSERT_EQ(go(s), SC_OK) << sc_last_error();
    EXPECT_EQ(server.count(), 13u);
    EXPECT_EQ(s.result.n_dialogues, 12);
}

// SEEDCORN_TEST_LLAMA_SERVER=http://127.0.0.1:8123/v1 points at a running `python3 -m llama_cpp.server`.
TEST_F(OpenAi, WorksWithLlamaCpp)
{
    const char *url = getenv("SEEDCORN_TEST_LLAMA_SERVER");
    if (url == nullptr)
        GTEST_SKIP() << "no llama.cpp server: start one and name its address in SEEDCORN_TEST_LLAMA_SERVER";
    Synth s = synth(url);
    selection = s.selection = select_rows(f, f / "data", 2);
    s.options.dialogues_per_seed = 1;
    s.options.in_flight = 1;
    s.options.timeout = 300;
    s.options.answer_tokens = 300;
    sc_status status = go(s);
    // A tiny model need not name films of the catalogue; what matters is that its answers are read.
    EXPECT_TRUE(status == SC_OK || status == SC_PARTIAL || status == SC_BAD_INPUT) << sc_last_error();
    EXPECT_GE(s.result.n_requests, 2);
    EXPECT_GT(s.result.prompt_tokens, 0);
}

TEST(Answer, ReadsEveryDialect)
{
    auto read = [](const std::string &body, bool *again) {
        chat_answer a = {};
        sc_status status = chat_answer_read(body.data(), body.size(), &a, again);
        std::string content = status == SC_OK ? a.content : "";
        chat_answer_free(&a);
        return std::make_pair(status, content);
    };
    bool again = false;
    EXPECT_EQ(read("\n\n  {\"choices\":[{\"message\":{\"content\":\"x\"}}]}", &again).second,
              "x"); // keep-alive lines, no usage
    EXPECT_EQ(read("{\"choices\":[{\"message\":{\"content\":\"x\",\"refusal\":null},\"finish_reason\":"
                   "\"stop\"}],\"usage\":null}",
                   &again)
                  .second,
              "x");
    struct Case {
        const char *body;
        bool again;
    } bad[] = {
        {"", true},
        {"[]", true},
        {"7", true},
        {"{\"object\":\"error\",\"message\":\"m\",\"code\":400}", true},
        {"{\"error\":\"text\"}", true},
        {"{\"choices\":{}}", true},
        {"{\"choices\":[{\"message\":{\"content\":\"  \"},\"finish_reason\":\"stop\"}]}", true},
        {"{\"choices\":[{\"message\":{\"content\":7}}]}", true},
        {"{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":\"length\"}]}", false},
        {"{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":\"tool_calls\"}]}", false},
        {"{\"choices\":[{\"message\":{\"content\":null,\"refusal\":\"no\"},\"finish_reason\":\"stop\"}]}",
         false}};
    for (const Case &c : bad) {
        EXPECT_EQ(read(c.body, &again).first, SC_BAD_INPUT) << c.body;
        EXPECT_EQ(again, c.again) << c.body;
    }
}

TEST(Budget, ReservesBeforeAndSettlesAfter)
{
    budget b = {};
    b.max_requests = 3;
    b.max_tokens = 1000;
    EXPECT_EQ(budget_reserve(&b, 600), SC_OK);
    EXPECT_EQ(budget_reserve(&b, 600), SC_BUDGET); // could pass the cap
    budget_settle(&b, 600, 100);
    EXPECT_EQ(budget_reserve(&b, 600), SC_OK);
    budget_settle(&b, 600, -1); // unknown: all of it
    EXPECT_EQ(b.spent, 700);
    EXPECT_EQ(budget_reserve(&b, 300), SC_OK);
    budget_settle(&b, 300, 0);
    EXPECT_EQ(budget_reserve(&b, 1), SC_BUDGET);
    EXPECT_NE(std::string(sc_last_error()).find("--max-requests"), std::string::npos);
}
} // namespace
