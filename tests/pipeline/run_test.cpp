// sc_run and sc_report: what is done again and what is not, the page, and the machine's description.
#include "device/tables.h"
#include "train/support.h"

extern "C" {
#include "pipeline/chart.h"
#include "pipeline/doctor.h"
#include "seedcorn/pipeline.h"
}

namespace
{

class Run : public testing::Test
{
  protected:
    void SetUp() override
    {
        const std::string sample = SC_SOURCE_DIR "/data/sample/";
        std::filesystem::copy(sample + "reviews.jsonl", folder.file("reviews.jsonl"));
        std::filesystem::copy(sample + "items.jsonl", folder.file("items.jsonl"));
        std::filesystem::copy(sample + "dialogues.jsonl", folder.file("dialogues.jsonl"));
        run_dir = folder.file("run");
        write(12, 1);
    }
    void write(int budget, int epochs, const std::string &device = "cpu")
    {
        write_text(folder.file("run.yaml"),
                   "threads: 1\ndtype: fp32\ndevice: " + device +
                       "\n"
                       "import:\n"
                       "  - {kind: reviews, reviews: reviews.jsonl, items: items.jsonl}\n"
                       "  - {kind: dialogues, name: talks, input: dialogues.jsonl, format: messages}\n"
                       "embed: {model: " +
                       chat_model() +
                       ", max_tokens: 32}\n"
                       "select: {strategy: random, budget: " +
                       std::to_string(budget) +
                       "}\n"
                       "synth: {dialogues_per_seed: 1}\n"
                       "train: {name: tuned, model: " +
                       chat_model() + ", rank: 2, batch_size: 6, epochs: " + std::to_string(epochs) + "}\n");
    }
    int64_t skipped(bool dry = false, int64_t seed = 0)
    {
        const std::string config = folder.file("run.yaml");
        sc_run_options o = sc_run_default();
        o.common.seed = seed;
        o.config = config.c_str();
        o.run_dir = run_dir.c_str();
        o.dry_run = dry;
        sc_run_result r = {};
        EXPECT_OK(sc_run(&o, &r));
        EXPECT_EQ(r.n_stages, 6);
        return r.n_skipped;
    }
    std::string page()
    {
        const std::string out = folder.file("page.html");
        const char *runs[] = {run_dir.c_str(), nullptr};
        sc_report_options o = sc_report_default();
        o.runs = runs;
        o.out = out.c_str();
        EXPECT_OK(sc_report(&o));
        return read_text(out);
    }
    TempFolder folder;
    std::string run_dir;
};

TEST_F(Run, DoesAgainOnlyWhatChanged)
{
    EXPECT_EQ(skipped(true), 0);
    EXPECT_FALSE(std::filesystem::exists(run_dir)); // a dry run writes nothing
    EXPECT_EQ(skipped(), 0);
    EXPECT_EQ(skipped(), 6);
    write(12, 2); // a setting of the last stage
    EXPECT_EQ(skipped(true), 5);
    EXPECT_EQ(skipped(), 5);
    write(10, 2); // a setting in the middle: what follows it
    EXPECT_EQ(skipped(true), 3);
    EXPECT_EQ(skipped(), 3);
    EXPECT_EQ(skipped(), 6);
    // An input: the last review goes. The other import stays.
    const auto lines = lines_of(folder.file("reviews.jsonl"));
    std::string fewer;
    for (size_t i = 0; i + 1 < lines.size(); i++)
        fewer += lines[i] + "\n";
    write_text(folder.file("reviews.jsonl"), fewer);
    EXPECT_EQ(skipped(), 1);
    // A result that somebody changed is made again, and what follows finds the same bytes as before.
    write_text(run_dir + "/select/selection.jsonl", "{}\n");
    EXPECT_EQ(skipped(true), 3);
    EXPECT_EQ(skipped(), 5);
    EXPECT_EQ(skipped(true, 5), 0); // another seed for all
}

// The same file runs on a card: other numbers within rounding, the same choice, the same kinds of files.
TEST_F(Run, OnACard)
{
    std::string few;
    const std::vector<std::string> all = lines_of(folder.file("reviews.jsonl"));
    for (size_t i = 0; i < 12; i++)
        few += all[i] + "\n";
    write_text(folder.file("reviews.jsonl"), few);
    const auto by_fisher = [&](const char *device) {
        write(4, 1, device);
        replace_in(folder.file("run.yaml"), "strategy: random", "strategy: fisher");
        EXPECT_EQ(skipped(), 0);
        std::vector<int64_t> rows;
        for (const std::string &line : lines_of(run_dir + "/select/selection.jsonl")) {
            json_t *pick = json_loads(line.c_str(), 0, nullptr);
            rows.push_back(json_integer_value(json_object_get(pick, "row")));
            json_decref(pick);
        }
        EXPECT_EQ(rows.size(), 4u);
        return rows;
    };
    const std::vector<int64_t> chosen = by_fisher("cpu");
    const auto files = files_below(run_dir);
    for (const PresentPlugin &plugin : present_plugins()) {
        const Plugin named(plugin.path.c_str());
        run_dir = folder.file("run-" + plugin.name);
        EXPECT_EQ(by_fisher("cuda"), chosen);
        const auto found = files_below(run_dir);
        EXPECT_EQ(found.size(), files.size());
        for (const auto &[name, bytes] : files)
            EXPECT_EQ(found.count(name), 1u) << name;
    }
}

TEST_F(Run, AMovedFolderIsKnownAgain)
{
    EXPECT_EQ(skipped(), 0);
    std::filesystem::rename(run_dir, folder.file("moved"));
    run_dir = folder.file("moved") + "//";
    EXPECT_EQ(skipped(), 6);
    EXPECT_TRUE(mentions(page(), "<h1>moved</h1>"));
}

TEST_F(Run, AFailedStageKeepsTheOthers)
{
    write_text(folder.file("run.yaml"),
               read_text(folder.file("run.yaml")) + "recommend: {model: " + folder.file("no-model") + "}\n");
    const std::string config = folder.file("run.yaml");
    sc_run_options o = sc_run_default();
    o.config = config.c_str();
    o.run_dir = run_dir.c_str();
    sc_run_result r = {};
    EXPECT_EQ(sc_run(&o, &r), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "no-model")) << sc_last_error();
    EXPECT_TRUE(leftovers(run_dir).empty());
    write(12, 1);
    EXPECT_EQ(skipped(), 6);
}

TEST_F(Run, AFolderThatIsNoRunIsLeftAlone)
{
    std::filesystem::create_directories(run_dir);
    write_text(run_dir + "/config.yaml", "mine: 1\n");
    const std::string config = folder.file("run.yaml");
    sc_run_options o = sc_run_default();
    o.config = config.c_str();
    o.run_dir = run_dir.c_str();
    sc_run_result r = {};
    EXPECT_EQ(sc_run(&o, &r), SC_USAGE);
    EXPECT_EQ(read_text(run_dir + "/config.yaml"), "mine: 1\n");
    std::filesystem::remove(run_dir + "/config.yaml");
    for (const char *manifest : {"{}", "[]", "{\"stages\": 3}", "{"}) {
        write_text(run_dir + "/manifest.json", manifest);
        EXPECT_EQ(sc_run(&o, &r), SC_BAD_INPUT) << manifest;
        EXPECT_TRUE(mentions(sc_last_error(), "manifest.json")) << sc_last_error();
    }
}

// Tags that open and close in order; the few of HTML that stand alone.
void expect_well_formed(const std::string &html)
{
    std::vector<std::string> open;
    for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
        const size_t end = html.find('>', at);
        ASSERT_NE(end, std::string::npos);
        const std::string tag = html.substr(at + 1, end - at - 1);
        ASSERT_FALSE(tag.empty());
        const std::string name = tag.substr(tag[0] == '/', tag.find_first_of(" /", 1) - (tag[0] == '/'));
        ASSERT_EQ(std::count(tag.begin(), tag.end(), '"') % 2, 0) << tag;
        if (tag[0] == '!' || tag.back() == '/' || name == "meta")
            continue;
        if (tag[0] != '/') {
            open.push_back(name);
            continue;
        }
        ASSERT_FALSE(open.empty()) << tag;
        EXPECT_EQ(open.back(), tag.substr(1));
        open.pop_back();
    }
    EXPECT_TRUE(open.empty()) << open.back();
}

TEST_F(Run, TheReportIsOnePageThatNeedsNothingElse)
{
    run_dir = folder.file("a <script> & \"b\"");
    EXPECT_EQ(skipped(), 0);
    const std::string html = page();
    EXPECT_TRUE(std::filesystem::exists(run_dir + "/report.html"));
    EXPECT_EQ(html.find("<script"), std::string::npos);
    EXPECT_TRUE(mentions(html, "a &lt;script&gt; &amp; &quot;b&quot;"));
    for (const char *outside : {"http:", "https:", "src=", "href=", "@import", "url("})
        EXPECT_EQ(html.find(outside), std::string::npos) << outside;
    expect_well_formed(html);
    EXPECT_TRUE(mentions(html, "<svg"));
    EXPECT_TRUE(mentions(html, "Loss"));
    EXPECT_TRUE(mentions(html, "train/tuned"));
    EXPECT_TRUE(mentions(html, "12 of 180 reviews"));
}

TEST_F(Run, AReportOfNoRun)
{
    const char *runs[] = {run_dir.c_str(), nullptr};
    const std::string out = folder.file("page.html");
    sc_report_options o = sc_report_default();
    o.runs = runs;
    o.out = out.c_str();
    EXPECT_EQ(sc_report(&o), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "is no run folder")) << sc_last_error();
    EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(Chart, SurvivesWhatIsNoNumber)
{
    strbuf out = {};
    const double x[] = {1, 2, 3, 4}, y[] = {NAN, 2, INFINITY, 2}, none[] = {0};
    const chart_series series[] = {{"<a>", x, y, 4}, {"empty", none, none, 0}};
    chart_lines(&out, "t & u", "x", "y", series, 2);
    const float points[] = {0, 0, NAN, 1, 2, INFINITY};
    const int64_t chosen[] = {1, 0, 2};
    chart_map(&out, "map", points, chosen, 3);
    const char *labels[] = {"\"quoted\"", "b"};
    const double values[] = {0, 0}, errors[] = {0, 0};
    chart_bars(&out, "bars", labels, values, errors, 2);
    ASSERT_OK(strbuf_status(&out));
    const std::string svg = out.data;
    strbuf_free(&out);
    expect_well_formed(svg);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
    EXPECT_TRUE(mentions(svg, "&lt;a&gt;"));
}

TEST(Doctor, EveryCheckSaysWhatToDo)
{
    json_t *result = nullptr;
    ASSERT_OK(doctor_examine(&result));
    const json_t *checks = json_object_get(result, "checks");
    EXPECT_GE(json_array_size(checks), 7u);
    size_t i;
    const json_t *check;
    json_array_foreach(checks, i, check)
    {
        EXPECT_TRUE(json_is_string(json_object_get(check, "detail")));
        const std::string way_out = json_string_value(json_object_get(check, "way_out"));
        EXPECT_EQ(way_out.empty(), json_is_true(json_object_get(check, "found")));
        const std::string name = json_string_value(json_object_get(check, "name"));
        EXPECT_TRUE(name != "processor" || way_out.empty()); // this program is running on it
    }
    json_decref(result);
}

} // namespace
