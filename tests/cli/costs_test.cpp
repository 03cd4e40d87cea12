// select under a budget of costs, and its dry run, through the real tool.
#include "pipeline/tool.h"

extern "C" {
#include "formats/npy.h"
}

namespace
{

class Costs : public testing::Test
{
  protected:
    // Reviews of one word and their embeddings.
    void make(int64_t n, int64_t dim)
    {
        std::filesystem::create_directories(folder.file("data"));
        std::ofstream reviews(folder.file("data/reviews.jsonl"));
        for (int64_t i = 0; i < n; i++)
            reviews << "{\"review_id\":\"r" << i << "\",\"user_id\":\"u\",\"parent_asin\":\"a" << i % 9
                    << "\",\"title\":\"t\",\"text\":\"word\",\"rating\":5,\"timestamp\":1}\n";
        std::vector<float> x((size_t)(n * dim));
        uint32_t state = 1;
        for (float &v : x)
            v = (float)((state = state * 1664525u + 1013904223u) >> 8) / (float)(1 << 24) - 0.5f;
        const int64_t shape[2] = {n, dim};
        ASSERT_EQ(npy_write(folder.file("e.npy").c_str(), NPY_F4, 2, shape, x.data()), SC_OK);
    }
    std::vector<std::string> select(std::vector<std::string> more, const std::string &out = "s.jsonl")
    {
        std::vector<std::string> words = {
            "select", "--data",         folder.file("data"), "--embeddings", folder.file("e.npy"),
            "--out",  folder.file(out), "--quiet",           "--device",     "cpu"};
        words.insert(words.end(), more.begin(), more.end());
        return words;
    }
    void refuses(const std::vector<std::string> &more, int code, const std::string &said)
    {
        const ToolResult r = run_tool(folder, select(more));
        EXPECT_EQ(r.code, code) << r.err;
        EXPECT_TRUE(r.out.empty()) << r.out;
        EXPECT_TRUE(mentions(r.err, said)) << r.err;
        EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
        EXPECT_FALSE(std::filesystem::exists(folder.file("s.jsonl")));
    }
    static json_t *parse(const std::string &text)
    {
        json_t *json = json_loads(text.c_str(), 0, nullptr);
        EXPECT_NE(json, nullptr) << text;
        return json;
    }
    TempFolder folder;
};

TEST_F(Costs, ABudgetOfTokens)
{
    make(50, 6);
    // "1. t: word" has ten bytes: three tokens by their length
    ToolResult r = run_tool(folder, select({"--strategy", "fisher", "--budget-tokens", "22", "--json"}));
    ASSERT_EQ(r.code, 0) << r.err;
    json_t *json = parse(r.out);
    EXPECT_EQ(json_integer_value(json_object_get(json, "selected")), 7);
    EXPECT_EQ(json_number_value(json_object_get(json, "cost")), 21);
    json_decref(json);
    EXPECT_TRUE(mentions(read_text(folder.file("s.jsonl")), "\"cost\":3}"));
    r = run_tool(folder,
                 select({"--strategy", "fisher", "--budget-tokens", "22", "--budget", "4", "--json"}));
    ASSERT_EQ(r.code, 0) << r.err;
    json = parse(r.out);
    EXPECT_EQ(json_integer_value(json_object_get(json, "selected")), 4);
    json_decref(json);
    std::filesystem::remove(folder.file("s.jsonl"));
    refuses({}, 2, "--budget-tokens N");
    refuses({"--budget-tokens", "many"}, 2, "number");
    refuses({"--budget-tokens", "-5"}, 2, "budget");
    refuses({"--budget-tokens", "2.5"}, 2, "costs 3; give that or more");
    refuses({"--budget-tokens", "50", "--costs", folder.file("absent.npy")}, 3, "absent.npy");
    write_text(folder.file("text.npy"), "1\n2\n");
    refuses({"--budget-tokens", "50", "--costs", folder.file("text.npy")}, 3, "text.npy");
}

// `costs` of a run: a word, or a path beside the file; a dry run is no stage.
TEST_F(Costs, InTheYamlOfARun)
{
    const std::string config = tiny_config();
    const std::string plain = "select: {strategy: fisher, budget: 12}\n";
    std::string said = config;
    said.replace(said.find(plain), plain.size(), "select: {strategy: fisher, costs: tokens}\n");
    write_text(folder.file("run.yaml"), said);
    ToolResult r = run_tool(folder, {"run", folder.file("run.yaml"), "--run-dir", folder.file("run")});
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_TRUE(mentions(r.err, "budget-tokens")) << r.err;
    said = config;
    said.replace(said.find(plain), plain.size(), "select: {strategy: fisher, budget: 12, dry_run: true}\n");
    write_text(folder.file("run.yaml"), said);
    r = run_tool(folder, {"run", folder.file("run.yaml"), "--run-dir", folder.file("run")});
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_TRUE(mentions(r.err, "dry_run")) << r.err;
    said = config;
    said.replace(said.find(plain), said.size() - said.find(plain),
                 "select:\n  - {name: words, strategy: fisher, budget_tokens: 300, costs: tokens}\n"
                 "  - {name: file, strategy: fisher, budget_tokens: 10, costs: costs.npy}\n");
    write_text(folder.file("run.yaml"), said);
    const std::vector<int32_t> costs(180, 2);
    const int64_t shape[1] = {180};
    ASSERT_EQ(npy_write(folder.file("costs.npy").c_str(), NPY_I4, 1, shape, costs.data()), SC_OK);
    const std::vector<std::string> again = {"run", folder.file("run.yaml"), "--run-dir", folder.file("run")};
    r = run_tool(folder, again);
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(lines_of(folder.file("run/select/file/selection.jsonl")).size(), 5u);
    EXPECT_GT(lines_of(folder.file("run/select/words/selection.jsonl")).size(), 1u);
    r = run_tool(folder, again); // nothing has changed
    EXPECT_TRUE(mentions(r.err, "done before")) << r.err;
    EXPECT_EQ(r.code, 0);
}

TEST_F(Costs, ADryRunForPeopleAndForMachines)
{
    make(300, 6);
    const std::vector<std::string> flags = {
        "--strategy", "js", "--clusters", "5", "--budget-tokens", "60", "--dry-run", "--max-per-item", "2"};
    ToolResult r = run_tool(folder, select(flags));
    ASSERT_EQ(r.code, 0) << r.err;
    for (const char *word : {"rows", "300 of 6 columns", "js", "clusters 5", "memory", "mapped",
                             "centred rows", "time", "k-means", "would write", "s_map.npy"})
        EXPECT_TRUE(mentions(r.out, word)) << word << "\n" << r.out;
    auto machine = flags;
    machine.push_back("--json");
    r = run_tool(folder, select(machine));
    ASSERT_EQ(r.code, 0) << r.err;
    json_t *json = parse(r.out);
    EXPECT_TRUE(json_is_true(json_object_get(json, "dry_run")));
    EXPECT_EQ(json_integer_value(json_object_get(json_object_get(json, "budget"), "rows_expected")), 20);
    EXPECT_EQ(json_number_value(json_object_get(json_object_get(json, "budget"), "cost_of_all")), 900);
    json_decref(json);
    EXPECT_FALSE(std::filesystem::exists(folder.file("s.jsonl")));
    EXPECT_FALSE(std::filesystem::exists(folder.file("s_map.npy")));
    refuses({"--budget", "301", "--dry-run"}, 2, "300");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) // their memory is not the selection's
// The memory that is said, against what the process takes more than one that has next to nothing to do.
TEST_F(Costs, TheMemoryOfADryRunIsThatOfTheRun)
{
    make(20, 4);
    const int64_t idle = run_tool(folder, select({"--strategy", "fisher", "--budget", "3"})).peak_bytes;
    make(60000, 128);
    for (const char *strategy : {"fisher", "js", "kcenter"}) {
        SCOPED_TRACE(strategy);
        std::vector<std::string> flags = {"--strategy", strategy, "--budget", "300",
                                          "--clusters", "8",      "--json"};
        const ToolResult real = run_tool(folder, select(flags));
        ASSERT_EQ(real.code, 0) << real.err;
        flags.push_back("--dry-run");
        const ToolResult dry = run_tool(folder, select(flags));
        ASSERT_EQ(dry.code, 0) << dry.err;
        json_t *json = parse(dry.out);
        const json_t *memory = json_object_get(json, "memory");
        const double said = json_number_value(json_object_get(memory, "mapped_bytes")) +
                            json_number_value(json_object_get(memory, "bytes"));
        json_decref(json);
        const double taken = (double)(real.peak_bytes - idle);
        RecordProperty(std::string(strategy) + "_ratio", std::to_string(said / taken));
        EXPECT_LT(said, 1.3 * taken) << taken;
        EXPECT_GT(said, taken / 1.3) << taken;
    }
}

#endif

} // namespace
