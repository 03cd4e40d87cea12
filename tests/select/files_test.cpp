// sc_select from files to files.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

extern "C" {
#include "base/json.h"
#include "formats/npy.h"
#include "seedcorn/select.h"
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
    o = options("js");
    o.temperature = INFINITY;
    fails(o, SC_USAGE, "temperature");
    o = options("js");
    o.view = "user";
    fails(o, SC_USAGE, "view");
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
