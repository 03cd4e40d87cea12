// sc_select from files to files.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

extern "C" {
#include "base/json.h"
#include "formats/npy.h"
#include "seedcorn/select.h"
#include "select/strategy.h"
#include "text/tokenizer.h"
}

namespace
{

namespace fs = std::filesystem;

class Select : public testing::Test
{
  protected:
    static constexpr int N = 60, DIM = 7;
    void SetUp() override
    {
        char name[] = "/tmp/seedcorn-select-XXXXXX";
        folder_ = mkdtemp(name);
        std::ofstream reviews(path("reviews.jsonl"));
        for (int i = 0; i < N; i++)
            reviews << "{\"review_id\":\"r" << i << "\",\"user_id\":\"u\",\"parent_asin\":\"a" << i % 9
                    << "\",\"text\":\"t\",\"rating\":5,\"timestamp\":1}\n";
        std::mt19937 random(2);
        std::normal_distribution<float> normal;
        x_.resize(N * DIM);
        for (float &v : x_)
            v = normal(random);
        write_embeddings();
    }
    void TearDown() override
    {
        fs::remove_all(folder_);
    }
    std::string path(const std::string &name) const
    {
        return folder_ + "/" + name;
    }
    void write_embeddings(int64_t n = N)
    {
        const int64_t shape[2] = {n, DIM};
        ASSERT_EQ(npy_write(path("e.npy").c_str(), NPY_F4, 2, shape, x_.data()), SC_OK);
    }
    std::string read(const std::string &name)
    {
        std::ostringstream out;
        out << std::ifstream(path(name), std::ios::binary).rdbuf();
        return out.str();
    }
    sc_select_options options(const char *strategy)
    {
        sc_select_options o = sc_select_default();
        embeddings_ = path("e.npy"), out_ = path("s.jsonl");
        o.common.device = "cpu";
        o.data = folder_.c_str(), o.embeddings = embeddings_.c_str(), o.out = out_.c_str();
        o.strategy = strategy, o.budget = 12, o.clusters = 5;
        return o;
    }
    void fails(const sc_select_options &o, sc_status want, const std::string &part)
    {
        EXPECT_EQ(sc_select(&o, nullptr), want);
        EXPECT_NE(std::string(sc_last_error()).find(part), std::string::npos) << sc_last_error();
        EXPECT_FALSE(fs::exists(out_));
    }
    std::string folder_, embeddings_, out_;
    std::vector<float> x_;
};

TEST_F(Select, WritesTheSelectionTheSummaryAndTheMap)
{
    for (const char *strategy : {"js", "fisher", "random"}) {
        sc_select_options o = options(strategy);
        sc_select_result r;
        std::string lines[2], map[2];
        for (int threads : {1, 2}) {
            o.common.threads = threads;
            ASSERT_EQ(sc_select(&o, &r), SC_OK) << sc_last_error();
            lines[threads - 1] = read("s.jsonl");
            map[threads - 1] = read("s_map.npy");
        }
        EXPECT_EQ(lines[0], lines[1]);
        EXPECT_EQ(map[0], map[1]);
        EXPECT_EQ(r.n_selected, 12);
        EXPECT_EQ(r.n_rows, N);
        std::istringstream in(lines[0]);
        std::string text;
        for (int rank = 1; std::getline(in, text); rank++) {
            json_t *line = nullptr;
            ASSERT_EQ(json_parse(text.data(), text.size(), "line", &line), SC_OK);
            const int64_t row = json_integer_value(json_object_get(line, "row"));
            EXPECT_EQ(json_integer_value(json_object_get(line, "rank")), rank);
            EXPECT_EQ(json_string_value(json_object_get(line, "review_id")), "r" + std::to_string(row));
            EXPECT_EQ(json_object_get(line, "cluster") != nullptr, std::string(strategy) == "js");
            EXPECT_EQ(json_object_get(line, "score") != nullptr, std::string(strategy) != "random");
            json_decref(line);
        }
        npy_file file;
        ASSERT_EQ(npy_open_as(path("s_map.npy").c_str(), NPY_F4, 2, &file), SC_OK);
        EXPECT_EQ(file.shape[0], N);
        EXPECT_EQ(file.shape[1], 2);
        npy_close(&file);
        json_t *summary = nullptr;
        ASSERT_EQ(json_parse_file(path("s.json").c_str(), &summary), SC_OK);
        EXPECT_EQ(json_real_value(json_object_get(summary, "objective")), r.objective);
        EXPECT_STREQ(json_string_value(json_object_get(json_object_get(summary, "settings"), "strategy")),
                     strategy);
        json_decref(summary);
    }
}

TEST_F(Select, GivenCentresAreUsedAsTheyAre)
{
    const int64_t shape[2] = {3, DIM};
    const std::string centres = path("c.npy");
    ASSERT_EQ(npy_write(centres.c_str(), NPY_F4, 2, shape, x_.data()), SC_OK); // rows 0, 1 and 2
    sc_select_options o = options("js");
    o.centres = centres.c_str(), o.budget = N;
    ASSERT_EQ(sc_select(&o, nullptr), SC_OK) << sc_last_error();
    const std::string lines = read("s.jsonl");
    for (int row = 0; row < 3; row++) {
        const size_t at = lines.find("\"row\":" + std::to_string(row) + ",");
        const std::string line = lines.substr(at, lines.find('\n', at) - at);
        EXPECT_NE(line.find("\"cluster\":" + std::to_string(row)), std::string::npos) << line;
    }
}

TEST_F(Select, KeepsToFilesAndCaps)
{
    const std::string first = path("first.jsonl"), ids = path("ids.txt"), excluded = path("excluded.txt");
    sc_select_options o = options("fisher");
    o.out = first.c_str();
    ASSERT_EQ(sc_select(&o, nullptr), SC_OK) << sc_last_error();
    const std::string whole = read("first.jsonl");
    o = options("fisher");
    std::ofstream(excluded) << "r50\r\nr51\n\nr52\n";
    std::ofstream(ids) << "r3\n{\"review_id\":\"r9\"}\n";
    o.given = first.c_str(), o.exclude = excluded.c_str(), o.budget = N - 12 - 3;
    ASSERT_EQ(sc_select(&o, nullptr), SC_OK) << sc_last_error();
    const std::string rest = read("s.jsonl");
    for (int i = 0; i < N; i++) {
        const std::string id = "\"review_id\":\"r" + std::to_string(i) + "\"";
        const bool in_whole = whole.find(id) != std::string::npos,
                   in_rest = rest.find(id) != std::string::npos;
        EXPECT_FALSE(in_rest && (in_whole || (i >= 50 && i <= 52))) << i;
    }
    o = options("kcenter");
    o.include = ids.c_str(), o.max_per_item = 1;
    sc_select_result r;
    ASSERT_EQ(sc_select(&o, &r), SC_OK) << sc_last_error();
    EXPECT_EQ(r.n_selected, 9); // r3 and r9 are of the items 3 and 0
    const std::string lines = read("s.jsonl");
    EXPECT_EQ(lines.find("{\"rank\":1,\"row\":3,"), 0u) << lines;
    for (int item = 0; item < 9; item++) {
        const std::string text = "\"parent_asin\":\"a" + std::to_string(item) + "\"";
        const size_t at = lines.find(text);
        ASSERT_NE(at, std::string::npos) << item;
        EXPECT_EQ(lines.find(text, at + 1), std::string::npos) << item;
    }
    const std::string summary = read("s.json");
    EXPECT_NE(summary.find("\"include\": \"ids.txt\""), std::string::npos) << summary;
}

TEST_F(Select, LeavesOutReviewsThatAreAlike)
{
    for (int d = 0; d < DIM; d++)
        x_[20 * DIM + d] = 2 * x_[4 * DIM + d];
    write_embeddings();
    const std::string ids = path("ids.txt");
    std::ofstream(ids) << "r20\n";
    sc_select_options o = options("random");
    o.max_cosine = 0.9999, o.budget = N - 1, o.include = ids.c_str();
    ASSERT_EQ(sc_select(&o, nullptr), SC_OK) << sc_last_error();
    EXPECT_EQ(read("s.jsonl").find("\"row\":4,"), std::string::npos);
    EXPECT_NE(read("s.json").find("\"n_alike_in_meaning\": 1"), std::string::npos);
    fs::remove(out_);
    o.budget = N;
    fails(o, SC_USAGE, "only 59");
    o = options("random");
    o.max_text_overlap = 0.9, o.budget = 1; // every text is "t"
    ASSERT_EQ(sc_select(&o, nullptr), SC_OK) << sc_last_error();
    EXPECT_NE(read("s.jsonl").find("\"row\":0,"), std::string::npos);
    fs::remove(out_);
    o.max_text_overlap = 1.1;
    fails(o, SC_USAGE, "max-text-overlap");
    o.max_text_overlap = NAN;
    fails(o, SC_USAGE, "max-text-overlap");
    o.max_text_overlap = 0, o.max_cosine = -0.5;
    fails(o, SC_USAGE, "max-cosine");
}

TEST_F(Select, NamesWhatIsWrongInTheFilesItKeepsTo)
{
    const std::string ids = path("ids.txt");
    sc_select_options o = options("fisher");
    o.given = ids.c_str();
    fails(o, SC_BAD_INPUT, "ids.txt");
    std::ofstream(ids) << "r1\nx1\n";
    fails(o, SC_BAD_INPUT, "ids.txt:2");
    fails(o, SC_BAD_INPUT, "another data set");
    std::ofstream(ids) << "r1\nr2\nr1\n";
    fails(o, SC_BAD_INPUT, "second time");
    std::ofstream(ids) << "{\"review\":\"r1\"}\n";
    fails(o, SC_BAD_INPUT, "review_id");
    std::ofstream(ids) << "{\"review_id\":\n";
    fails(o, SC_BAD_INPUT, "ids.txt:1");
    std::ofstream(ids) << "r1\n";
    o.exclude = ids.c_str(), o.given = nullptr, o.include = ids.c_str();
    fails(o, SC_BAD_INPUT, "both");
    o = options("fisher");
    o.max_per_category = 2;
    fails(o, SC_BAD_INPUT, "categories");
    o.max_per_category = -2;
    fails(o, SC_USAGE, "cap");
}

TEST_F(Select, CostsAreThoseOfAFileOrTokens)
{
    const std::string costs = path("costs.npy"), model = SC_SOURCE_DIR "/tests/fixtures/tiny_chat/model";
    std::vector<float> f4(N);
    std::vector<double> f8(N);
    std::vector<int32_t> i4(N);
    std::vector<int64_t> i8(N);
    for (size_t i = 0; i < N; i++)
        f8[i] = f4[i] = (float)(i4[i] = (int32_t)(i8[i] = (int64_t)(i * 7 % 11 + 2)));
    const void *const numbers[] = {f4.data(), f8.data(), i4.data(), i8.data()};
    const int64_t shape[1] = {N};
    std::string lines;
    for (npy_type type : {NPY_F4, NPY_F8, NPY_I4, NPY_I8}) {
        ASSERT_EQ(npy_write(costs.c_str(), type, 1, shape, numbers[type]), SC_OK);
        sc_select_options o = options("fisher");
        sc_select_result r;
        o.costs = costs.c_str(), o.budget = 0, o.budget_tokens = 50;
        ASSERT_EQ(sc_select(&o, &r), SC_OK) << sc_last_error();
        EXPECT_TRUE(lines.empty() || lines == read("s.jsonl"));
        lines = read("s.jsonl");
        EXPECT_GT(r.cost, 48); // what is left is below the cheapest
        EXPECT_LE(r.cost, 50);
        std::istringstream in(lines);
        double total = 0;
        for (std::string text; std::getline(in, text);) {
            json_t *line = nullptr;
            ASSERT_EQ(json_parse(text.data(), text.size(), "line", &line), SC_OK);
            const double cost = json_number_value(json_object_get(line, "cost"));
            EXPECT_EQ(cost, f8[(size_t)json_integer_value(json_object_get(line, "row"))]);
            total += cost;
            json_decref(line);
        }
        EXPECT_EQ(total, r.cost);
        json_t *summary = nullptr;
        ASSERT_EQ(json_parse_file(path("s.json").c_str(), &summary), SC_OK);
        EXPECT_EQ(json_number_value(json_object_get(summary, "cost")), total);
        json_decref(summary);
    }
    // Costs alone are recorded, and limit nothing.
    sc_select_options o = options("random");
    o.costs = costs.c_str();
    ASSERT_EQ(sc_select(&o, nullptr), SC_OK) << sc_last_error();
    EXPECT_NE(read("s.jsonl").find("\"cost\":"), std::string::npos);
    // "1. : t" has six bytes, which are two tokens by their length.
    o = options("random"), o.budget = 0, o.budget_tokens = 13;
    sc_select_result r;
    ASSERT_EQ(sc_select(&o, &r), SC_OK) << sc_last_error();
    EXPECT_EQ(r.n_selected, 6);
    EXPECT_EQ(r.cost, 12);
    EXPECT_NE(read("s.jsonl").find("\"cost\":2}"), std::string::npos);
    // By the tokenizer they are as many as it says.
    tokenizer *t = nullptr;
    token_ids ids = {};
    ASSERT_EQ(tokenizer_open(model.c_str(), &t), SC_OK) << sc_last_error();
    ASSERT_EQ(tokenizer_encode(t, "1. : t", 6, false, &ids), SC_OK);
    o.model = model.c_str(), o.costs = "tokens", o.budget_tokens = 5 * (double)ids.n;
    ASSERT_EQ(sc_select(&o, &r), SC_OK) << sc_last_error();
    EXPECT_EQ(r.n_selected, 5);
    EXPECT_NE(read("s.json").find("\"costs_by\": \"tokenizer\""), std::string::npos);
    token_ids_free(&ids);
    tokenizer_close(t);
}

TEST_F(Select, NamesWhatIsWrongWithCosts)
{
    const std::string costs = path("costs.npy");
    sc_select_options o = options("kcenter");
    o.budget = 0;
    fails(o, SC_USAGE, "--budget-tokens");
    o.budget_tokens = -4;
    fails(o, SC_USAGE, "budget");
    o.budget_tokens = NAN;
    fails(o, SC_USAGE, "budget");
    o.budget_tokens = 1; // every review costs two
    fails(o, SC_USAGE, "costs 2");
    o.budget_tokens = 20, o.costs = costs.c_str();
    fails(o, SC_BAD_INPUT, "costs.npy");
    std::vector<float> of(N + 1, 4);
    const int64_t longer[1] = {N + 1}, wide[2] = {N, 1}, right[1] = {N};
    ASSERT_EQ(npy_write(costs.c_str(), NPY_F4, 1, longer, of.data()), SC_OK);
    fails(o, SC_BAD_INPUT, "60");
    ASSERT_EQ(npy_write(costs.c_str(), NPY_F4, 2, wide, of.data()), SC_OK);
    fails(o, SC_BAD_INPUT, "2 dimensions");
    for (float wrong : {0.0f, -1.0f, NAN, INFINITY}) {
        of[17] = wrong;
        ASSERT_EQ(npy_write(costs.c_str(), NPY_F4, 1, right, of.data()), SC_OK);
        fails(o, SC_BAD_INPUT, "row 17");
    }
    std::string bytes = read("costs.npy");
    bytes.replace(bytes.find("<f4"), 3, "<u4");
    std::ofstream(costs, std::ios::binary) << bytes;
    fails(o, SC_BAD_INPUT, "costs.npy");
    o.costs = "tokens", o.model = "/nowhere";
    fails(o, SC_BAD_INPUT, "/nowhere");
}

TEST_F(Select, ADryRunSaysWhatItWouldDoAndWritesNothing)
{
    const std::string ids = path("ids.txt"), first = path("first.txt");
    std::ofstream(ids) << "r3\nr9\n";
    std::ofstream(first) << "r7\n";
    int n;
    const strategy *all = strategy_list(&n);
    const std::string model = SC_SOURCE_DIR "/tests/fixtures/tiny_chat/model";
    for (int i = 0; i < n; i++) {
        SCOPED_TRACE(all[i].name);
        sc_select_options o = options(all[i].name);
        o.exclude = ids.c_str(), o.given = first.c_str(), o.max_per_item = 2, o.max_cosine = 0.99,
        o.max_text_overlap = 0.9;
        o.budget_tokens = 24, o.model = model.c_str();
        std::set<std::string> before, after;
        for (const auto &entry : fs::recursive_directory_iterator(folder_))
            before.insert(entry.path());
        char *text = nullptr;
        ASSERT_EQ(sc_select_plan(&o, &text), SC_OK) << sc_last_error();
        json_t *plan = nullptr;
        ASSERT_EQ(json_parse(text, strlen(text), "plan", &plan), SC_OK);
        free(text);
        o.dry_run = true;
        sc_select_result r;
        ASSERT_EQ(sc_select(&o, &r), SC_OK) << sc_last_error();
        EXPECT_EQ(r.n_rows, N);
        EXPECT_EQ(r.n_selected, 0);
        for (const auto &entry : fs::recursive_directory_iterator(folder_))
            after.insert(entry.path());
        EXPECT_EQ(before, after);
        const json_t *open = json_object_get(plan, "may_be_chosen"), *array;
        EXPECT_EQ(json_integer_value(json_object_get(open, "given")), 1);
        EXPECT_EQ(json_integer_value(json_object_get(open, "excluded")), 2);
        EXPECT_EQ(json_integer_value(json_object_get(open, "open")), N - 3);
        EXPECT_EQ(json_array_size(json_object_get(open, "caps")), 1u);
        EXPECT_EQ(json_integer_value(json_object_get(plan, "dim")), DIM);
        EXPECT_GE(json_number_value(json_object_get(plan, "seconds")), 0);
        EXPECT_STREQ(json_string_value(json_array_get(json_object_get(plan, "writes"), 0)), o.out);
        const json_t *memory = json_object_get(plan, "memory");
        EXPECT_EQ(json_integer_value(json_object_get(memory, "mapped_bytes")),
                  (json_int_t)fs::file_size(path("e.npy")));
        int64_t sum = 0;
        size_t k;
        json_array_foreach(json_object_get(memory, "arrays"), k, array)
        {
            EXPECT_GT(json_integer_value(json_object_get(array, "bytes")), 0);
            sum += json_integer_value(json_object_get(array, "bytes"));
        }
        EXPECT_LE(json_integer_value(json_object_get(memory, "bytes")), sum);
        EXPECT_GT(json_integer_value(json_object_get(memory, "bytes")), 0);
        json_decref(plan);
    }
    sc_select_options o = options("fisher");
    o.dry_run = true, o.max_cosine = 1.5;
    fails(o, SC_USAGE, "max-cosine");
    o = options("fisher"), o.dry_run = true, o.view = "metadata";
    fails(o, SC_USAGE, "--item-embeddings");
    o = options("nll"), o.dry_run = true, o.model = "/nowhere";
    fails(o, SC_BAD_INPUT, "/nowhere");
    o = options("js"), o.dry_run = true, o.centres = "/nowhere.npy";
    fails(o, SC_BAD_INPUT, "/nowhere.npy");
}

#ifdef SC_EMU_LIBRARY
// A card with room for all rows, and one with room for three quarters of them: what the plan says is what is done.
TEST_F(Select, DryRunSaysWhetherTheRowsAreStreamed)
{
    const std::string before = std::getenv("SEEDCORN_CUDA_PLUGIN") ? std::getenv("SEEDCORN_CUDA_PLUGIN") : "";
    setenv("SEEDCORN_CUDA_PLUGIN", SC_EMU_LIBRARY, 1);
    sc_select_options o = options("fisher");
    o.common.device = "cuda";
    std::string selections[2];
    json_int_t device_bytes = 0;
    const json_int_t rows = N * DIM * sizeof(float);
    for (int run = 0; run < 2; run++) {
        if (run == 1)
            setenv("EMU_MEMORY", std::to_string((device_bytes - rows / 4) * 16 / 15).c_str(), 1);
        char *text = nullptr;
        json_t *plan = nullptr;
        ASSERT_EQ(sc_select_plan(&o, &text), SC_OK) << sc_last_error();
        ASSERT_EQ(json_parse(text, strlen(text), "plan", &plan), SC_OK);
        free(text);
        const json_t *memory = json_object_get(plan, "memory");
        const auto number = [&](const char *key) { return json_integer_value(json_object_get(memory, key)); };
        EXPECT_STREQ(json_string_value(json_object_get(memory, "rows_on_device")), run ? "streamed" : "all");
        EXPECT_GT(number("pinned_bytes"), 0);
        EXPECT_LE(number("device_bytes"), number("device_free_bytes"));
        if (run == 0) {
            device_bytes = number("device_bytes");
            EXPECT_EQ(number("rows_at_a_time"), N);
        } else {
            EXPECT_LT(number("rows_at_a_time"), N / 2);
            EXPECT_LT(number("device_bytes"), device_bytes);
        }
        json_decref(plan);
        sc_select_result r;
        ASSERT_EQ(sc_select(&o, &r), SC_OK) << sc_last_error();
        selections[run] = read("s.jsonl");
    }
    EXPECT_EQ(selections[0], selections[1]);
    unsetenv("EMU_MEMORY");
    if (before.empty())
        unsetenv("SEEDCORN_CUDA_PLUGIN");
    else
        setenv("SEEDCORN_CUDA_PLUGIN", before.c_str(), 1);
}
#endif

TEST_F(Select, NamesWhatIsWrong)
{
    sc_select_options o = options("js");
    o.budget = N + 1;
    fails(o, SC_USAGE, "60");
    o.budget = 0;
    fails(o, SC_USAGE, "budget");
    o = options("jss");
    fails(o, SC_USAGE, "\"js\"");
    o = options("js");
    o.alpha = 1.5;
    fails(o, SC_USAGE, "alpha");
    o.js_form = "sum";
    o.alpha = NAN;
    fails(o, SC_USAGE, "alpha");
    o = options("fisher");
    o.lambda = 0;
    fails(o, SC_USAGE, "lambda");
    o = options("nll");
    fails(o, SC_USAGE, "--model");
    o.model = "/nowhere";
    fails(o, SC_BAD_INPUT, "/nowhere");
    o = options("js");
    o.temperature = INFINITY;
    fails(o, SC_USAGE, "temperature");
    o = options("js");
    o.view = "users";
    fails(o, SC_USAGE, "view");
    o.view = "user";
    fails(o, SC_BAD_INPUT, "items.jsonl");
    x_[17 * DIM + 3] = NAN;
    write_embeddings();
    fails(options("fisher"), SC_BAD_INPUT, "row 17");
    x_[17 * DIM + 3] = -INFINITY;
    write_embeddings();
    fails(options("random"), SC_BAD_INPUT, "infinity");
    write_embeddings(N - 1);
    fails(options("js"), SC_BAD_INPUT, "59");
    fs::remove(path("e.npy"));
    fails(options("js"), SC_BAD_INPUT, "e.npy");
}

} // namespace
