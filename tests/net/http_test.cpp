// The engine against a server that fails in every way an endpoint can.
#include <curl/curl.h>
#include <gtest/gtest.h>

#include <map>

#include "net/chat_server.h"

extern "C" {
#include "base/log.h"
#include "net/http.h"
#include "net/retry.h"
#include "seedcorn/log.h"
}

namespace
{
struct Outcome {
    sc_status status;
    long http;
    std::string body, reason;
    int attempts;
};

struct Client {
    http_options options = http_options_default();
    std::map<long, Outcome> outcomes;
    std::string bad_body; // 2xx bodies that are to be tried again
    sc_status before = SC_OK;
    int sent = 0, abandoned = 0;
    http_engine *engine = nullptr;

    Client()
    {
        options.backoff_first = 0.005;
        options.backoff_cap = 0.02;
        options.timeout = 10;
    }
    ~Client()
    {
        http_engine_free(engine);
    }
    sc_status open()
    {
        http_callbacks c = {};
        c.context = this;
        c.judge = [](void *context, void *, const char *body, size_t n, strbuf *reason) {
            auto *self = static_cast<Client *>(context);
            if (self->bad_body.empty() || std::string(body, n) != self->bad_body)
                return HTTP_ACCEPT;
            strbuf_puts(reason, "bad body: ");
            strbuf_append(reason, body, n);
            return HTTP_RETRY;
        };
        c.before_send = [](void *context, void *) {
            auto *self = static_cast<Client *>(context);
            self->sent++;
            return self->before == SC_OK ? SC_OK : sc_fail(self->before, "enough");
        };
        c.abandoned = [](void *context, void *, bool) { static_cast<Client *>(context)->abandoned++; };
        c.done = [](void *context, void *user, const http_answer *a) {
            static_cast<Client *>(context)->outcomes[(long)user] = {
                a->status, a->http_status, std::string(a->body, a->n), a->reason, a->attempts};
            return SC_OK;
        };
        return http_engine_create(&options, &c, &engine);
    }
    sc_status go(const std::string &url, long n = 1)
    {
        sc_status status = engine ? SC_OK : open();
        for (long i = 0; i < n && status == SC_OK; i++) {
            std::string body = "{\"n\":" + std::to_string(i) + "}";
            status = http_submit(engine, url.c_str(), body.data(), body.size(), (uint64_t)i, (void *)i);
        }
        return status == SC_OK ? http_work(engine, 1) : status;
    }
};

ChatReply ok(const std::string &body = "{\"fine\":1}")
{
    ChatReply r;
    r.body = body;
    return r;
}

// A server whose first replies are these, and whose later ones are good.
ChatServer::Handler first(std::vector<ChatReply> replies)
{
    return [replies](const ChatRequest &r) { return r.number < replies.size() ? replies[r.number] : ok(); };
}

TEST(Retry, ClassOfEveryOutcome)
{
    auto http = [](long status, const std::string &body = "") {
        return retry_classify(CURLE_OK, status, body.data(), body.size());
    };
    EXPECT_EQ(http(200), RETRY_NONE);
    for (long s : {408, 409, 500, 502, 504, 520})
        EXPECT_EQ(http(s), RETRY_TRANSIENT) << s;
    for (long s : {429, 503, 529})
        EXPECT_EQ(http(s), RETRY_CAPACITY) << s;
    for (long s : {400, 404, 405, 413, 415, 422})
        EXPECT_EQ(http(s), RETRY_REJECTED) << s;
    for (long s : {401, 403})
        EXPECT_EQ(http(s), RETRY_AUTH) << s;
    for (long s : {301, 302, 307, 308})
        EXPECT_EQ(http(s), RETRY_REDIRECT) << s;
    EXPECT_EQ(http(402), RETRY_QUOTA);
    EXPECT_EQ(http(429, "{\"error\":{\"code\":\"insufficient_quota\"}}"), RETRY_QUOTA);
    EXPECT_EQ(http(429, "{\"error\":{\"code\":\"rate_limit_exceeded\"}}"), RETRY_CAPACITY);
    for (int c : {CURLE_COULDNT_CONNECT, CURLE_COULDNT_RESOLVE_HOST, CURLE_OPERATION_TIMEDOUT,
                  CURLE_SSL_CONNECT_ERROR, CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_HTTP2,
                  CURLE_HTTP2_STREAM, CURLE_PARTIAL_FILE})
        EXPECT_EQ(retry_classify(c, 0, nullptr, 0), RETRY_TRANSIENT) << c;
    for (int c : {CURLE_PEER_FAILED_VERIFICATION, CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL})
        EXPECT_EQ(retry_classify(c, 0, nullptr, 0), RETRY_FATAL) << c;
}

TEST(Retry, AfterInEveryForm)
{
    EXPECT_DOUBLE_EQ(retry_after(nullptr, "7", 0), 7);
    EXPECT_DOUBLE_EQ(retry_after(nullptr, "0.25", 0), 0.25);
    EXPECT_DOUBLE_EQ(retry_after("1500", "7", 0), 1.5); // the finer one first
    EXPECT_DOUBLE_EQ(retry_after("soon", "7", 0), 7);
    EXPECT_DOUBLE_EQ(retry_after(nullptr, "Sun, 06 Nov 1994 08:49:37 GMT", 784111767.0), 10);
    EXPECT_DOUBLE_EQ(retry_after(nullptr, "Sun, 06 Nov 1994 08:49:37 GMT", 784119999.0), 0); // past
    for (const char *bad : {"-5", "", "later", "nan", "inf", "7 or so", "0x10"})
        EXPECT_DOUBLE_EQ(retry_after(nullptr, bad, 0), -1) << bad;
    EXPECT_DOUBLE_EQ(retry_after(nullptr, nullptr, 0), -1);
}

TEST(Retry, BackoffDoublesUpToItsCapWithJitter)
{
    double last = 0;
    for (int attempt = 0; attempt < 10; attempt++) {
        double full = std::min(8.0, 0.5 * (1 << attempt)), wait = retry_backoff(0.5, 8, 1, 2, attempt);
        EXPECT_LE(wait, full);
        EXPECT_GE(wait, 0.75 * full);
        EXPECT_DOUBLE_EQ(wait, retry_backoff(0.5, 8, 1, 2, attempt)); // reproducible
        EXPECT_NE(wait, last);
        last = wait;
    }
    EXPECT_NE(retry_backoff(0.5, 8, 1, 2, 3), retry_backoff(0.5, 8, 1, 3, 3));
    EXPECT_LE(retry_backoff(0.5, 8, 1, 2, 2000000000), 8.0);
}

TEST(Http, SendsTheKeyAndTheBodyOnce)
{
    ChatServer server(first({}));
    Client c;
    c.options.key = "sk-secret";
    ASSERT_EQ(c.go(server.url()), SC_OK) << sc_last_error();
    EXPECT_EQ(c.outcomes[0].body, "{\"fine\":1}");
    ASSERT_EQ(server.count(), 1u);
    EXPECT_NE(server.requests()[0].head.find("Authorization: Bearer sk-secret"), std::string::npos);
    EXPECT_EQ(server.requests()[0].body, "{\"n\":0}");
    EXPECT_EQ(server.requests()[0].head.find("Expect:"), std::string::npos);
}

TEST(Http, RetriesWhatMayPass)
{
    ChatReply reset = ok("{\"fine\":123456789}"), silent = ok(), garbage = ok("not good");
    reset.cut = 5;
    silent.silent = true;
    std::vector<ChatReply> bad = {ChatServer::error(500),
                                  ChatServer::error(502),
                                  reset,
                                  silent,
                                  ChatServer::error(429, "rate_limit_exceeded", "Retry-After: 0\r\n"),
                                  garbage,
                                  ChatServer::error(408)};
    ChatServer server(first(bad));
    Client c;
    c.bad_body = "not good";
    ASSERT_EQ(c.go(server.url()), SC_OK) << sc_last_error();
    EXPECT_EQ(c.outcomes[0].status, SC_OK);
    EXPECT_EQ(c.outcomes[0].attempts, 8);
    EXPECT_EQ(server.count(), 8u);
    EXPECT_EQ(c.sent, 8);
    EXPECT_EQ(c.abandoned, 7);
}

TEST(Http, WaitsAsLongAsItIsAsked)
{
    ChatServer server(first({ChatServer::error(429, "x", "retry-after-ms: 400\r\nRetry-After: 60\r\n")}));
    Client c;
    auto start = std::chrono::steady_clock::now();
    ASSERT_EQ(c.go(server.url()), SC_OK) << sc_last_error();
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_GE(seconds, 0.4);
    EXPECT_LT(seconds, 20);
}

TEST(Http, HoldsEverythingBackWhenTheServerIsFull)
{
    // While one 429 asks for a pause, nothing else starts.
    std::atomic<int> early{0};
    auto start = std::chrono::steady_clock::now();
    ChatServer server([&](const ChatRequest &r) {
        double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (r.number == 0)
            return ChatServer::error(429, "x", "retry-after-ms: 500\r\n");
        early += s < 0.4;
        return ok();
    });
    Client c;
    c.options.in_flight = 1;
    ASSERT_EQ(c.go(server.url(), 4), SC_OK) << sc_last_error();
    EXPECT_EQ(early, 0);
    EXPECT_EQ(server.count(), 5u);
}

TEST(Http, GivesUpWhenAskedToWaitForHours)
{
    ChatServer server(first({ChatServer::error(429, "x", "Retry-After: 7200\r\n")}));
    Client c;
    EXPECT_EQ(c.go(server.url()), SC_NETWORK);
    EXPECT_NE(std::string(sc_last_error()).find("7200"), std::string::npos);
    EXPECT_EQ(server.count(), 1u);
}

TEST(Http, NeverRepeatsADeterministicRefusal)
{
    for (int status : {400, 404, 413, 422}) {
        ChatServer server([&](const ChatRequest &r) {
            return r.body.find(":0") != std::string::npos ? ChatServer::error(status) : ok();
        });
        Client c;
        ASSERT_EQ(c.go(server.url(), 3), SC_OK) << sc_last_error();
        EXPECT_EQ(c.outcomes[0].status, SC_BAD_INPUT);
        EXPECT_EQ(c.outcomes[0].http, status);
        EXPECT_EQ(c.outcomes[1].status, SC_OK); // the others go on
        EXPECT_EQ(c.outcomes[2].status, SC_OK);
        EXPECT_EQ(server.count(), 3u);
    }
}

TEST(Http, StopsAtOnceForKeyQuotaAndRedirect)
{
    struct Case {
        ChatReply reply;
        sc_status status;
    } cases[] = {{ChatServer::error(401), SC_AUTH},
                 {ChatServer::error(403), SC_AUTH},
                 {ChatServer::error(429, "insufficient_quota", "Retry-After: 1\r\n"), SC_QUOTA},
                 {ChatServer::error(307, "x", "Location: http://127.0.0.1:1/elsewhere\r\n"), SC_NETWORK}};
    for (const Case &x : cases) {
        ChatServer server([&](const ChatRequest &) { return x.reply; });
        Client c;
        c.options.in_flight = 1;
        EXPECT_EQ(c.go(server.url(), 5), x.status);
        EXPECT_EQ(server.count(), 1u);
    }
}

TEST(Http, TheKeyIsInNoTextItGivesBack)
{
    std::string key = "sk-very-secret-0123456789";
    for (int status : {200, 400, 401, 500, 302}) {
        ChatServer server([&](const ChatRequest &r) {
            ChatReply a;
            a.status = status;
            a.body = std::string(290, 'x') + key + "\n" + r.head; // the cut at 300 bytes falls inside the key
            return a;
        });
        Client c;
        c.options.key = key.c_str();
        c.options.max_retries = 1;
        sc_log_set(nullptr, nullptr, SC_LOG_DEBUG);
        sc_status s = c.go(server.url());
        std::string all = sc_last_error();
        for (auto &o : c.outcomes)
            all += o.second.reason + o.second.body;
        EXPECT_EQ(all.find("very-secret"), std::string::npos) << status << ' ' << s;
        EXPECT_EQ(all.find("sk-very"), std::string::npos) << status;
    }
}

TEST(Http, KeepsTheKeyOffPlainHttpToOtherMachines)
{
    Client c;
    c.options.key = "sk-secret";
    EXPECT_EQ(c.go("http://example.com/v1/chat/completions"), SC_USAGE);
    EXPECT_NE(std::string(sc_last_error()).find("https"), std::string::npos);
    Client d;
    EXPECT_EQ(d.go("ftp://example.com/x"), SC_USAGE);
    EXPECT_EQ(d.go("no address"), SC_USAGE);
    EXPECT_TRUE(http_is_loopback("http://localhost:80/x"));
    EXPECT_TRUE(http_is_loopback("http://127.0.0.1/x"));
    EXPECT_TRUE(http_is_loopback("http://[::1]:8/x"));
    EXPECT_FALSE(http_is_loopback("http://127.0.0.1.example.com/x"));
    EXPECT_FALSE(http_is_loopback("http://user@example.com/127.0.0.1"));
    Client e;
    e.options.key = "two words\r\nX: y";
    EXPECT_EQ(e.open(), SC_USAGE);
}

TEST(Http, EndsWhenNobodyAnswers)
{
    Client c; // a port that nothing listens on
    c.options.max_retries = 2;
    EXPECT_EQ(c.go("http://127.0.0.1:1/v1"), SC_NETWORK);
    EXPECT_EQ(c.sent, 3);
    // Once the endpoint has answered, one row that never passes fails alone.
    ChatServer server([](const ChatRequest &r) {
        return r.body.find(":1") != std::string::npos ? ChatServer::error(500) : ok();
    });
    Client d;
    d.options.max_retries = 3;
    d.options.in_flight = 1;
    ASSERT_EQ(d.go(server.url(), 3), SC_OK) << sc_last_error();
    EXPECT_EQ(d.outcomes[1].status, SC_NETWORK);
    EXPECT_EQ(d.outcomes[1].attempts, 4);
    EXPECT_EQ(d.outcomes[2].status, SC_OK);
}

TEST(Http, AttemptsHaveAWallClock)
{
    ChatReply slow = ok();
    slow.delay_ms = 1500;
    ChatServer server(first({slow}));
    Client c;
    c.options.timeout = 0.3;
    ASSERT_EQ(c.go(server.url()), SC_OK) << sc_last_error();
    EXPECT_EQ(c.outcomes[0].attempts, 2);
}

TEST(Http, CapsWhatIsInFlightAndHowLongAnswersAre)
{
    ChatServer server([](const ChatRequest &) {
        ChatReply r = ok();
        r.delay_ms = 20;
        return r;
    });
    Client c;
    c.options.in_flight = 3;
    ASSERT_EQ(c.go(server.url(), 20), SC_OK) << sc_last_error();
    EXPECT_EQ(server.count(), 20u);
    EXPECT_LE(server.most_at_once(), 3);
    EXPECT_GE(server.most_at_once(), 2);
    ChatServer large([](const ChatRequest &) { return ok(std::string(100000, 'x')); });
    Client d;
    d.options.max_body = 1000;
    ASSERT_EQ(d.go(large.url()), SC_OK) << sc_last_error();
    EXPECT_EQ(d.outcomes[0].status, SC_BAD_INPUT);
    EXPECT_EQ(large.count(), 1u);
}

TEST(Http, BudgetEndsARequestAndCancelEndsTheWork)
{
    ChatServer server(first({}));
    Client c;
    c.before = SC_BUDGET;
    ASSERT_EQ(c.go(server.url(), 4), SC_OK);
    EXPECT_EQ(c.outcomes.size(), 4u);
    EXPECT_EQ(c.outcomes[3].status, SC_BUDGET);
    EXPECT_EQ(server.count(), 0u);
    Client d;
    sc_cancel();
    EXPECT_EQ(d.go(server.url()), SC_INTERRUPTED);
    sc_cancel_reset();
    EXPECT_EQ(server.count(), 0u);
}
} // namespace
