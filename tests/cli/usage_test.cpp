// The command line: help, misspelt words, exit codes, and what goes to which stream.
#include "pipeline/tool.h"

extern "C" {
#include "pipeline/settings.h"
}

namespace
{

class Usage : public testing::Test
{
  protected:
    ToolResult run(const std::vector<std::string> &arguments)
    {
        return run_tool(folder, arguments);
    }
    // One sentence on stderr, nothing on stdout, exit code 2.
    void refuses(const std::vector<std::string> &arguments, const std::string &said)
    {
        const ToolResult r = run(arguments);
        EXPECT_EQ(r.code, 2) << r.err;
        EXPECT_TRUE(r.out.empty()) << r.out;
        EXPECT_TRUE(mentions(r.err, said)) << r.err;
        EXPECT_EQ(r.err.find("seedcorn: "), 0u) << r.err;
        EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
    }
    TempFolder folder;
};

std::vector<std::string> words_of(const std::string &text)
{
    std::stringstream s(text);
    std::vector<std::string> words;
    for (std::string word; s >> word;)
        words.push_back(word);
    return words;
}

TEST_F(Usage, HelpOfEveryVerbListsItsFlags)
{
    for (size_t i = 0; i < n_verbs; i++) {
        auto words = words_of(verbs[i]->name);
        words.push_back("--help");
        const ToolResult r = run(words);
        EXPECT_EQ(r.code, 0) << verbs[i]->name;
        EXPECT_TRUE(r.err.empty()) << r.err;
        for (size_t k = 0; k < verbs[i]->n_settings; k++)
            EXPECT_TRUE(mentions(r.out, std::string("--") + verbs[i]->settings[k].name)) << verbs[i]->name;
        EXPECT_TRUE(mentions(r.out, "--seed"));
        EXPECT_TRUE(mentions(r.out, verbs[i]->summary));
    }
    for (const auto &words : {std::vector<std::string>{}, {"--help"}, {"-h"}}) {
        const ToolResult r = run(words);
        EXPECT_EQ(r.code, 0);
        for (size_t i = 0; i < n_verbs; i++)
            EXPECT_TRUE(mentions(r.out, verbs[i]->name));
        EXPECT_TRUE(mentions(r.out, "Exit codes"));
    }
    const ToolResult group = run({"import", "--help"});
    EXPECT_EQ(group.code, 0);
    EXPECT_TRUE(mentions(group.out, "import ratings"));
    EXPECT_FALSE(mentions(group.out, "recommend"));
}

TEST_F(Usage, Version)
{
    const ToolResult r = run({"--version"});
    EXPECT_EQ(r.code, 0);
    EXPECT_EQ(r.out, std::string("seedcorn ") + sc_version() + "\n");
}

TEST_F(Usage, MisspeltWordsAreNamedWithTheNearest)
{
    refuses({"embd"}, "did you mean 'embed'?");
    refuses({"import", "revews"}, "did you mean 'import reviews'?");
    refuses({"import"}, "several verbs");
    refuses({"import", "--out", "x"}, "several verbs");
    refuses({"zzzzzzzz"}, "seedcorn --help");
    refuses({""}, "is no verb");
    refuses({"embed", "--modle", "x"}, "did you mean 'model'?");
    refuses({"embed", "--data"}, "needs a value");
    refuses({"embed", "--data", "--model", "x"}, "--data needs a value");
    refuses({"embed", "stray"}, "'stray' stands alone");
    refuses({"embed", "-q"}, "'-q' is no flag");
    refuses({"run", "-q"}, "'-q' is no flag");
    refuses({"run", "a.yaml", "b.yaml", "--run-dir", "r"}, "'b.yaml' stands alone");
    refuses({"embed"}, "--data DIR");
    refuses({"train", "--epochs", "many"}, "whole number");
    refuses({"train", "--method=half"}, "lora|full");
    refuses({"train", "--no-epochs"}, "no-epochs");
    refuses({"train", "--shuffle=maybe"}, "true or false");
    refuses({"recommend", "--model", "m"}, "--request TEXT");
    refuses({"embed", "--" + std::string(5000, 'x'), "y"}, "is no setting");
    refuses({"\x1b[31mred"}, "is no verb");
}

TEST_F(Usage, ResultsGoToStdoutAndMessagesToStderr)
{
    const std::string sample = SC_SOURCE_DIR "/data/sample/", data = folder.file("data");
    const std::vector<std::string> import = {
        "import", "reviews", "--reviews", sample + "reviews.jsonl", "--items", sample + "items.jsonl",
        "--out",  data};
    ToolResult r = run(import);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(mentions(r.out, "reviews            180")) << r.out;
    EXPECT_TRUE(mentions(r.err, "180 of 180 reviews")) << r.err;
    r = run({"embed", "--data", data, "--model", chat_model(), "--out", folder.file("e.npy"),
             "--max-tokens=16", "--json", "--dtype", "fp32"});
    EXPECT_EQ(r.code, 0) << r.err;
    json_t *json = json_loads(r.out.c_str(), 0, nullptr);
    ASSERT_NE(json, nullptr) << r.out;
    EXPECT_EQ(json_integer_value(json_object_get(json, "rows")), 180);
    EXPECT_EQ(json_integer_value(json_object_get(json, "dim")), 32);
    json_decref(json);
    r = run({"select", "--quiet", "--data", data, "--embeddings", folder.file("e.npy"), "--budget", "3",
             "--out", folder.file("s.jsonl"), "--strategy", "fisher", "--json"});
    EXPECT_EQ(r.code, 0);
    EXPECT_TRUE(r.err.empty()) << r.err;
    EXPECT_FALSE(r.out.empty());
    r = run({"doctor", "--json"});
    EXPECT_EQ(r.code, 0);
    json = json_loads(r.out.c_str(), 0, nullptr);
    EXPECT_TRUE(json_is_array(json_object_get(json, "checks"))) << r.out;
    json_decref(json);
    // Nobody reads the result.
    Tool full(folder, {"doctor"}, [] {
        const int fd = open("/dev/full", O_WRONLY);
        dup2(fd, STDOUT_FILENO);
    });
    r = full.wait();
    EXPECT_EQ(r.code, 10);
    EXPECT_TRUE(mentions(r.err, "stdout")) << r.err;
}

// Every family once, the shares those of the whole.
TEST_F(Usage, BenchSaysWhereTheTimeGoes)
{
    for (const char *what : {"train", "embed", "generate"}) {
        const ToolResult r =
            run_tool(folder, {"bench", what, "--model", chat_model(), "--rows", "4", "--tokens", "40",
                              "--profile", "--json", "--quiet", "--device", "cpu"});
        ASSERT_EQ(r.code, 0) << r.err;
        json_t *result = json_loads(r.out.c_str(), 0, nullptr);
        const json_t *list = json_object_get(result, "profile"), *f;
        std::map<std::string, double> seconds;
        size_t i;
        double sum = 0, before = 1e9;
        json_array_foreach(list, i, f)
        {
            const double one = json_number_value(json_object_get(f, "seconds"));
            seconds[json_string_value(json_object_get(f, "family"))] = one;
            sum += one;
            if (i + 1 < json_array_size(list)) {
                EXPECT_LE(one, before) << "the most time first";
                EXPECT_GT(json_number_value(json_object_get(f, "floor_seconds")), 0);
            }
            before = one;
        }
        EXPECT_EQ(seconds.size(), json_array_size(list));
        for (const char *name : {"gemm", "attention", "norm", "rope", "glu", "beside them"})
            EXPECT_EQ(seconds.count(name), 1u) << what << " " << name;
        EXPECT_EQ(seconds.count("lora"), std::string(what) == "train" ? 1u : 0u);
        EXPECT_EQ(seconds.count("sample"), std::string(what) == "generate" ? 1u : 0u);
        EXPECT_GE(seconds["beside them"], 0);
        EXPECT_GE(sum, json_number_value(json_object_get(result, "seconds")))
            << "the best repeat is no longer than the mean";
        json_decref(result);
    }
    const ToolResult table = run_tool(folder, {"bench", "embed", "--model", chat_model(), "--rows", "2",
                                               "--tokens", "20", "--profile", "--quiet", "--device", "cpu"});
    EXPECT_TRUE(mentions(table.out, "floor ms")) << table.out;
    refuses({"bench", "kmeans", "--profile", "--rows", "500"}, "--profile measures the operations of models");
}

// Without files, in the shapes of a config; the weights are those of the seed.
TEST_F(Usage, BenchOfRandomWeights)
{
    const std::string config = SC_SOURCE_DIR "/tests/fixtures/tiny_llama/llama3/config.json";
    for (const std::string what : {"train", "embed", "generate"}) {
        std::vector<std::string> words = {"bench",    what, "--random-weights", config, "--rows", "2",
                                          "--tokens", "4",  "--repeats",        "1",    "--json", "--quiet",
                                          "--device"};
        words.push_back("cpu");
        ToolResult r = run(words);
        ASSERT_EQ(r.code, 0) << r.err;
        json_t *result = json_loads(r.out.c_str(), 0, nullptr);
        EXPECT_EQ(json_number_value(json_object_get(result, "units")), 8) << what;
        EXPECT_EQ(json_integer_value(json_object_get(result, "device_bytes")), 0);
        EXPECT_EQ(std::string(json_string_value(json_object_get(result, "device"))).find("cpu ("), 0u);
        json_decref(result);
#ifdef SC_EMU_LIBRARY
        words.back() = "cuda";
        r = run_tool(folder, words, [] {
            setenv("SEEDCORN_CUDA_PLUGIN", SC_EMU_LIBRARY, 1);
            setenv("EMU_HIDE", "1", 1);
        });
        ASSERT_EQ(r.code, 0) << r.err;
        result = json_loads(r.out.c_str(), 0, nullptr);
        EXPECT_EQ(json_number_value(json_object_get(result, "units")), 8) << what;
        // Two blocks of 32 and 48 columns, and the embedding, in bf16.
        EXPECT_GT(json_integer_value(json_object_get(result, "device_bytes")), 2 * 19616) << what;
        EXPECT_EQ(std::string(json_string_value(json_object_get(result, "device"))).find("emu ("), 0u);
        json_decref(result);
#endif
    }
    refuses({"bench", "embed"}, "or --random-weights CONFIG.json");
    refuses({"bench", "kmeans", "--random-weights", config}, "--random-weights belongs to bench embed");
    refuses({"bench", "embed", "--model", chat_model(), "--random-weights", config}, "not both");
#ifdef SC_EMU_LIBRARY
    const ToolResult r =
        run_tool(folder, {"bench", "embed", "--random-weights", config, "--profile", "--device", "cuda"},
                 [] { setenv("SEEDCORN_CUDA_PLUGIN", SC_EMU_LIBRARY, 1); });
    EXPECT_EQ(r.code, 2);
    EXPECT_TRUE(mentions(r.err, "give --device cpu")) << r.err;
#endif
}

} // namespace
