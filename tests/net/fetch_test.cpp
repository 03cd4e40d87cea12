// Downloads against a server on this machine: broken connections, resuming, changed files, refusals.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "fetch_server.h"

extern "C" {
#include "base/file.h"
#include "net/fetch.h"
#include "seedcorn/log.h"
}

namespace
{

class FetchTest : public ::testing::Test
{
  protected:
    void SetUp() override
    {
        char name[] = "/tmp/seedcorn-test-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder = name;
        path = folder + "/file.bin";
        for (int i = 0; i < 100000; i++)
            content += (char)(i * 7 + i / 251);
        sha256_hex(content.data(), content.size(), hash);
        options.size = -1;
        options.pause_ms = 1;
    }
    void TearDown() override
    {
        sc_cancel_reset();
        file_remove_tree(folder.c_str());
    }
    sc_status fetch(const FetchServer &s)
    {
        return fetch_file(s.url("/f").c_str(), path.c_str(), &options, nullptr);
    }
    std::string get(const std::string &suffix = "")
    {
        std::ifstream in(path + suffix, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    }
    bool there(const std::string &suffix)
    {
        return file_exists((path + suffix).c_str());
    }
    bool clean()
    {
        return !there(".part") && !there(".part.json");
    }

    std::string folder, path, content;
    char hash[65];
    fetch_options options = {};
};

TEST_F(FetchTest, FetchesAFile)
{
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, content, "\"1\""); });
    char hex[65];
    options.size = (int64_t)content.size();
    options.sha256 = hash;
    ASSERT_EQ(fetch_file(s.url("/f").c_str(), path.c_str(), &options, hex), SC_OK) << sc_last_error();
    EXPECT_EQ(get(), content);
    EXPECT_STREQ(hex, hash);
    EXPECT_TRUE(clean());
}

TEST_F(FetchTest, FetchesAnEmptyFile)
{
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, "", "\"1\""); });
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_TRUE(there(""));
    EXPECT_EQ(get(), "");
}

TEST_F(FetchTest, GoesOnAfterBrokenConnections)
{
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, content, "\"1\"", 30000); });
    options.sha256 = hash;
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_EQ(get(), content);
    auto all = s.requests();
    ASSERT_EQ(all.size(), 4u);
    EXPECT_EQ(all[0].header("range"), "");
    EXPECT_EQ(all[1].header("range"), "bytes=30000-");
    EXPECT_EQ(all[1].header("if-range"), "\"1\"");
    EXPECT_EQ(all[3].header("range"), "bytes=90000-");
}

TEST_F(FetchTest, GoesOnInALaterCall)
{
    bool broken = true;
    FetchServer s([&](const FetchRequest &r) {
        if (!broken)
            return FetchServer::file(r, content, "\"1\"");
        return r.header("range").empty() ? FetchServer::file(r, content, "\"1\"", 40000)
                                         : FetchServer::answer(503, "");
    });
    options.attempts = 2;
    EXPECT_EQ(fetch(s), SC_NETWORK);
    EXPECT_FALSE(there(""));
    EXPECT_EQ(get(".part").size(), 40000u);
    broken = false;
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_EQ(get(), content);
    EXPECT_EQ(s.requests().back().header("range"), "bytes=40000-");
    EXPECT_TRUE(clean());
}

TEST_F(FetchTest, StartsAnewWhenTheFileChanged)
{
    std::string etag = "\"1\"", body = std::string(60000, 'o');
    size_t most = 20000;
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, body, etag, most); });
    options.attempts = 1;
    EXPECT_EQ(fetch(s), SC_NETWORK);
    EXPECT_EQ(get(".part").size(), 20000u);
    etag = "\"2\"";
    body = content;
    most = SIZE_MAX;
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_EQ(get(), content);
}

TEST_F(FetchTest, APartWithoutValidatorOrHashIsNotTrusted)
{
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, content, ""); });
    std::ofstream(path + ".part") << "something else";
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_EQ(get(), content);
    EXPECT_EQ(s.requests()[0].header("range"), "");
}

TEST_F(FetchTest, AWrongPartIsFoundByTheHashAndFetchedAnew)
{
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, content, ""); });
    std::ofstream(path + ".part") << "something else";
    options.sha256 = hash;
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_EQ(get(), content);
    EXPECT_EQ(s.requests().size(), 2u);
}

TEST_F(FetchTest, AWholePartIsTakenAsItIs)
{
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, content, ""); });
    std::ofstream(path + ".part", std::ios::binary) << content;
    options.sha256 = hash;
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_EQ(get(), content);
}

TEST_F(FetchTest, AServerWithoutRangesStartsAnew)
{
    int n = 0;
    FetchServer s([&](const FetchRequest &) {
        return FetchServer::answer(200, content.substr(0, n++ ? SIZE_MAX : 5000), "ETag: \"1\"\r\n",
                                   content.size());
    });
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_EQ(get(), content);
    EXPECT_EQ(n, 2);
}

TEST_F(FetchTest, RefusesAWrongHashOrSize)
{
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, content, "\"1\""); });
    std::string other(64, '0');
    options.sha256 = other.c_str();
    EXPECT_EQ(fetch(s), SC_BAD_INPUT);
    EXPECT_NE(strstr(sc_last_error(), hash), nullptr) << sc_last_error();
    EXPECT_FALSE(there(""));
    EXPECT_TRUE(clean());
    options.sha256 = nullptr;
    for (int64_t size : {99999, 100001, 5}) {
        options.size = size;
        EXPECT_EQ(fetch(s), SC_BAD_INPUT) << size;
        EXPECT_FALSE(there(""));
        EXPECT_TRUE(clean());
    }
}

TEST_F(FetchTest, NamesRefusals)
{
    int code = 404;
    FetchServer s([&](const FetchRequest &) { return FetchServer::answer(code, "not this"); });
    EXPECT_EQ(fetch(s), SC_BAD_INPUT);
    EXPECT_EQ(s.requests().size(), 1u);
    code = 401;
    EXPECT_EQ(fetch(s), SC_AUTH);
    code = 403;
    EXPECT_EQ(fetch(s), SC_AUTH);
    EXPECT_EQ(s.requests().size(), 3u);
    code = 500;
    options.attempts = 3;
    EXPECT_EQ(fetch(s), SC_NETWORK);
    EXPECT_EQ(s.requests().size(), 6u);
    EXPECT_TRUE(clean());
    EXPECT_FALSE(there(""));
}

TEST_F(FetchTest, OnlyHttpAddresses)
{
    for (const char *url : {"file:///etc/passwd", "ftp://x/y", "/etc/passwd", ""})
        EXPECT_EQ(fetch_file(url, path.c_str(), &options, nullptr), SC_USAGE) << url;
    FetchServer s([&](const FetchRequest &) {
        return FetchServer::answer(302, "", "Location: file:///etc/passwd\r\n");
    });
    options.attempts = 1;
    EXPECT_EQ(fetch(s), SC_NETWORK);
    EXPECT_FALSE(there(""));
    std::string gone;
    {
        FetchServer short_lived([&](const FetchRequest &) { return FetchServer::answer(200, ""); });
        gone = short_lived.url("/f");
    }
    EXPECT_EQ(fetch_file(gone.c_str(), path.c_str(), &options, nullptr), SC_NETWORK);
}

TEST_F(FetchTest, TheTokenStaysWithItsHost)
{
    FetchServer other([&](const FetchRequest &r) { return FetchServer::file(r, content, "\"1\""); });
    FetchServer s([&](const FetchRequest &) {
        std::string away = other.url("/f");
        away.replace(away.find("127.0.0.1"), 9, "localhost");
        return FetchServer::answer(302, "", "Location: " + away + "\r\n");
    });
    options.bearer = "secret-token";
    ASSERT_EQ(fetch(s), SC_OK) << sc_last_error();
    EXPECT_EQ(s.requests()[0].header("authorization"), "Bearer secret-token");
    EXPECT_EQ(other.requests()[0].header("authorization"), "");
}

TEST_F(FetchTest, StopsOnRequest)
{
    FetchServer s([&](const FetchRequest &r) { return FetchServer::file(r, content, "\"1\"", 1000); });
    sc_cancel();
    EXPECT_EQ(fetch(s), SC_INTERRUPTED);
    EXPECT_FALSE(there(""));
}

TEST_F(FetchTest, TextIsLimited)
{
    FetchServer s([&](const FetchRequest &) { return FetchServer::answer(200, "{\"a\":1}"); });
    strbuf text = {};
    ASSERT_EQ(fetch_text(s.url("/api").c_str(), &options, 100, &text), SC_OK) << sc_last_error();
    EXPECT_STREQ(strbuf_text(&text), "{\"a\":1}");
    EXPECT_EQ(fetch_text(s.url("/api").c_str(), &options, 3, &text), SC_BAD_INPUT);
    strbuf_free(&text);
}

} // namespace
