// Parsing, matching, metrics and sc_eval on small inputs, good and bad.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

extern "C" {
#include "base/json.h"
#include "evaluate/match.h"
#include "evaluate/metrics.h"
#include "evaluate/parse.h"
#include "evaluate/title.h"
#include "seedcorn/evaluate.h"
}

namespace
{

using Strings = std::vector<std::string>;

Strings parse(const std::string &text, parse_mode mode = PARSE_STRICT)
{
    title_list l;
    EXPECT_EQ(parse_reply(text.c_str(), mode, &l), SC_OK);
    Strings out(l.titles, l.titles + l.n);
    title_list_free(&l);
    return out;
}

TEST(ParseHe2023, KeepsTheQuirksOfTheProtocol)
{
    EXPECT_EQ(parse("Sure!\n1. 12 Angry Men\n2.  Heat (1995)\n\n3) Up", PARSE_HE2023),
              (Strings{"Angry Men", "Heat", "", "Up"}));
    EXPECT_EQ(parse("Heat, Up, Heat", PARSE_HE2023), (Strings{"Heat", "Up", "Heat"}));
    EXPECT_EQ(parse("1. A\n2. 12 Angry Men\n3\xe3\x80\x81 B\n4 - C\n5 \xe2\x80\x94 D", PARSE_HE2023),
              (Strings{"A", "12 Angry Men", "B", "C", "D"}));
    EXPECT_EQ(parse("1. a ((b)) c", PARSE_HE2023), (Strings{"a () c"}));
    EXPECT_EQ(parse("", PARSE_HE2023), (Strings{""}));
}

TEST(ParseStrict, ReadsListsAsTheyAreMeant)
{
    EXPECT_EQ(parse("Here are some:\n1. 12 Angry Men\n2. **Heat** (1995) - a crime epic\n3. \"Up\"\n\nEnjoy, "
                    "friend!"),
              (Strings{"12 Angry Men", "Heat", "Up"}));
    EXPECT_EQ(parse("1. Heat\n2. heat\n3.\n4. Up (2009): for all ages"), (Strings{"Heat", "Up"}));
    EXPECT_EQ(parse("- Heat\n- Up"), (Strings{"Heat", "Up"}));
    EXPECT_EQ(parse("Heat, Up"), (Strings{"Heat", "Up"}));
    EXPECT_EQ(parse("1. Heat 2. Up 3. Alien"), (Strings{"Heat", "Up", "Alien"}));
    EXPECT_EQ(
        parse("1. Mission: Impossible - Fallout\n2. (500) Days of Summer\n3. 2001: A Space Odyssey\n4. 9"),
        (Strings{"Mission: Impossible - Fallout", "(500) Days of Summer", "2001: A Space Odyssey", "9"}));
    EXPECT_EQ(parse("1. Heat - a long and slow film about two men"), (Strings{"Heat"}));
    EXPECT_EQ(parse(""), Strings{});
    EXPECT_EQ(parse("\n \n"), Strings{});
    EXPECT_EQ(parse(std::string("1. ") + std::string(100000, 'x') + "\n2. Up"), (Strings{"Up"}));
    EXPECT_EQ(parse("1. A\xff"
                    "B")
                  .size(),
              1u);
}

std::string normal(const std::string &title)
{
    strbuf out = {};
    title_normalise(&out, title.c_str());
    std::string s = strbuf_text(&out);
    strbuf_free(&out);
    return s;
}

TEST(Title, Normalises)
{
    EXPECT_EQ(normal("Matrix, The (1999)"), "the matrix");
    EXPECT_EQ(normal("Am\xc3\xa9lie"), "amelie");
    EXPECT_EQ(normal("Lilo & Stitch"), "lilo and stitch");
    EXPECT_EQ(normal("Schindler's List"), "schindlers list");
    EXPECT_EQ(normal("Spider-Man: Homecoming"), "spider man homecoming");
    EXPECT_EQ(normal("(500) Days of Summer (2009)"), "500 days of summer");
    EXPECT_FALSE(title_same_numbers("scary movie 2", "scary movie 5"));
    EXPECT_FALSE(title_same_numbers("rocky", "rocky ii"));
    EXPECT_TRUE(title_same_numbers("rocky ii", "rocky 2"));
}

class Index
{
  public:
    Index(const std::vector<const char *> &names, match_mode mode, const bool *items = nullptr)
    {
        EXPECT_EQ(title_index_create(names.data(), items, names.size(), mode, &index_), SC_OK)
            << sc_last_error();
    }
    ~Index()
    {
        title_index_close(index_);
    }
    std::string operator()(const char *title) const
    {
        title_match m;
        EXPECT_EQ(title_index_match(index_, &title, 1, &m), SC_OK);
        return m.name < 0 ? "-" : title_index_name(index_, m.name) + std::string(m.known ? "" : "?");
    }
    title_index *index_ = nullptr;
};

TEST(MatchStrict, ScalesTheThresholdAndProtectsSequels)
{
    Index m({"Saw", "May", "Heat (1995)", "Scary Movie 2", "The Godfather", "Inception", "Rocky", "Rocky II"},
            MATCH_STRICT);
    EXPECT_EQ(m("heat"), "Heat (1995)");
    EXPECT_EQ(m("Say"), "-");
    EXPECT_EQ(m("Inceptoin"), "-");
    EXPECT_EQ(m("Incepton"), "Inception");
    EXPECT_EQ(m("Teh Godfather"), "The Godfather");
    EXPECT_EQ(m("Scary Movie 3"), "-");
    EXPECT_EQ(m("Godfather, The (1972)"), "The Godfather");
    EXPECT_EQ(m("Rocky III"), "-");
    EXPECT_EQ(m(""), "-");
    EXPECT_EQ(m("!!!"), "-");
}

TEST(MatchHe2023, TakesTheNearestAndBreaksTies)
{
    const bool items[] = {false, true, true, true};
    Index m({"abd", "abe", "abf", "Some Film (2001 film)"}, MATCH_HE2023, items);
    EXPECT_EQ(m("abx"), "abe"); // abd is as near, but no item; abe comes before abf
    EXPECT_EQ(m("abd"), "abd");
    EXPECT_EQ(m("some filn"), "Some Film");
    EXPECT_EQ(m("something far away from all"), "Some Film?");
    EXPECT_EQ(m("").back(), '?');
}

TEST(Match, DistancesEqualTheTable)
{
    uint32_t state = 1;
    auto word = [&](size_t n) {
        std::string s;
        for (size_t i = 0; i < n; i++)
            s += "abc \xc3\xa9"[(state = state * 1664525u + 1013904223u) >> 30];
        return s + "z";
    };
    std::vector<std::string> names;
    std::vector<const char *> pointers;
    for (size_t i = 0; i < 60; i++)
        names.push_back(word(i * 4 % 150));
    for (const std::string &n : names)
        pointers.push_back(n.c_str());
    Index index(pointers, MATCH_HE2023);
    for (size_t length : {0, 1, 5, 62, 63, 64, 65, 127, 128, 129, 300}) {
        const std::string query = word(length);
        const char *title = query.c_str();
        title_match m;
        ASSERT_EQ(title_index_match(index.index_, &title, 1, &m), SC_OK);
        int64_t best = INT64_MAX;
        for (size_t i = 0; i < title_index_size(index.index_); i++)
            best = std::min(best, text_distance(title, title_index_key(index.index_, (int32_t)i), -1));
        EXPECT_EQ(m.distance, best) << length;
    }
}

TEST(Metrics, OneTargetARow)
{
    const int64_t positions[] = {0, 3, -1, 12};
    metric_summary s;
    metrics_summarise(positions, 4, &s);
    EXPECT_DOUBLE_EQ(s.mean[METRIC_RECALL][0], 0.25);
    EXPECT_DOUBLE_EQ(s.mean[METRIC_RECALL][1], 0.5);
    EXPECT_DOUBLE_EQ(s.mean[METRIC_RECALL][3], 0.75);
    EXPECT_DOUBLE_EQ(s.mean[METRIC_NDCG][1], (1 + 1 / std::log2(5.0)) / 4);
    EXPECT_DOUBLE_EQ(s.mean[METRIC_MRR][3], (1 + 0.25 + 1 / 13.0) / 4);
    EXPECT_DOUBLE_EQ(s.se[METRIC_RECALL][0], std::sqrt(0.1875 * 4 / 3 / 4));
    metrics_summarise(positions, 1, &s);
    EXPECT_EQ(s.se[METRIC_RECALL][0], 0);
}

class Eval : public testing::Test
{
  protected:
    void SetUp() override
    {
        char name[] = "/tmp/seedcorn-eval-XXXXXX";
        folder_ = mkdtemp(name);
        write_inputs();
        options_ = sc_eval_default();
    }
    void write_inputs()
    {
        write(
            "items.jsonl",
            "{\"parent_asin\":\"1\",\"title\":\"Heat (1995)\"}\n{\"parent_asin\":\"2\",\"title\":\"Up\"}\n"
            "{\"parent_asin\":\"3\",\"title\":\"The Godfather\"}\n{\"parent_asin\":\"4\",\"title\":null}\n");
        write("d.jsonl", line("a", "\"Up\",\"Heat\"", "\"Heat\"") + line("b", "\"The Godfather\"", ""));
        write("r.jsonl", "{\"id\":\"a\",\"text\":\"1. Nothing Known\\n2. Heat\\n3. "
                         "Up\"}\n{\"id\":\"b\",\"text\":\"1. Godfather, The\"}\n");
    }
    void TearDown() override
    {
        std::filesystem::remove_all(folder_);
    }
    static std::string line(const std::string &id, const std::string &targets, const std::string &seen)
    {
        return "{\"id\":\"" + id + "\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"targets\":[" +
               targets + "],\"seen\":[" + seen + "]}\n";
    }
    std::string path(const std::string &name)
    {
        return folder_ + "/" + name;
    }
    void write(const std::string &name, const std::string &text)
    {
        std::ofstream(path(name)) << text;
    }
    sc_status eval(sc_eval_result *r)
    {
        d_ = path("d.jsonl"), r_ = path("r.jsonl"), i_ = path("items.jsonl"), o_ = path("metrics.json");
        options_.dialogues = d_.c_str(), options_.items = i_.c_str(), options_.out = o_.c_str();
        if (!options_.baseline)
            options_.replies = r_.c_str();
        return sc_eval(&options_, r);
    }
    std::string folder_, d_, r_, i_, o_;
    sc_eval_options options_;
};

TEST_F(Eval, ScoresNewTargetsInEverySetting)
{
    sc_eval_result r;
    ASSERT_EQ(eval(&r), SC_OK) << sc_last_error();
    EXPECT_EQ(r.n, 2); // Up and The Godfather; Heat was mentioned
    EXPECT_DOUBLE_EQ(r.recall[0], 0.5);
    EXPECT_DOUBLE_EQ(r.mrr[1], (1 / 3.0 + 1) / 2);
    options_.filtered = true;
    ASSERT_EQ(eval(&r), SC_OK);
    EXPECT_DOUBLE_EQ(r.mrr[1], (1 / 2.0 + 1) / 2);
    options_.exclude_seen = true;
    ASSERT_EQ(eval(&r), SC_OK);
    EXPECT_DOUBLE_EQ(r.recall[0], 1);
    json_t *root = nullptr;
    ASSERT_EQ(json_parse_file(path("metrics.json").c_str(), &root), SC_OK);
    EXPECT_EQ(json_array_size(json_object_get(root, "grid")), 12u);
    EXPECT_DOUBLE_EQ(json_number_value(json_object_get(json_object_get(root, "lists"), "matched_share")),
                     0.75);
    EXPECT_TRUE(json_is_object(json_object_get(json_object_get(root, "recall"), "20")));
    json_decref(root);
    std::ifstream rows(path("metrics.jsonl"));
    std::string row;
    int n = 0;
    while (std::getline(rows, row))
        n++;
    EXPECT_EQ(n, 3);
}

TEST_F(Eval, NamesWhatIsWrong)
{
    sc_eval_result r;
    auto fails = [&](sc_status want, const std::string &part) {
        EXPECT_EQ(eval(&r), want);
        EXPECT_NE(std::string(sc_last_error()).find(part), std::string::npos) << sc_last_error();
        EXPECT_FALSE(std::filesystem::exists(path("metrics.json")));
    };
    write("r.jsonl", "{\"id\":\"a\",\"text\":\"1. Up\"}\n");
    fails(SC_BAD_INPUT, "\"b\"");
    write("r.jsonl", "{\"id\":\"a\",\"text\":\"\"}\n{\"id\":\"a\",\"text\":\"\"}\n");
    fails(SC_BAD_INPUT, "r.jsonl:2");
    write("r.jsonl", "{\"id\":\"zz\",\"text\":\"\"}\n");
    fails(SC_BAD_INPUT, "zz");
    write("r.jsonl", "{\"id\":\"a\",\"text\":3}\n");
    fails(SC_BAD_INPUT, "text");
    write("r.jsonl", "{\"id\":\"a\"");
    fails(SC_BAD_INPUT, "r.jsonl:1");
    write_inputs();
    write("items.jsonl", "{\"parent_asin\":\"1\",\"title\":null}\n");
    fails(SC_BAD_INPUT, "no item with a title");
    write_inputs();
    options_.mode = "loose";
    fails(SC_USAGE, "loose");
    options_ = sc_eval_default();
    options_.baseline = "popularity";
    fails(SC_USAGE, "--data");
}

} // namespace
