// The published results of He et al. 2023 on INSPIRED, reproduced from the raw replies. Three steps are held apart:
// the parser against the published lists, the matcher against the published distances, the metrics against the published
// summaries; then all of them together. The data lies beside the repository.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

extern "C" {
#include "base/json.h"
#include "evaluate/match.h"
#include "evaluate/parse.h"
#include "evaluate/score.h"
}

namespace
{

const std::string DATA = SC_SOURCE_DIR "/../shared/data/he2023_cikm/";

struct Entry {
    std::string title, nearest;
    int64_t distance;
};

struct Row {
    std::string text;
    std::vector<Entry> published;
    std::vector<std::string> targets, seen;
};

std::vector<std::string> strings(const json_t *list)
{
    std::vector<std::string> out;
    for (size_t i = 0; i < json_array_size(list); i++)
        out.push_back(json_string_value(json_array_get(list, i)));
    return out;
}

std::vector<Row> read_rows(const std::string &model)
{
    std::vector<Row> rows;
    line_reader *r = nullptr;
    EXPECT_EQ(line_reader_open((DATA + "llm_outputs_inspired/" + model + ".extracted.jsonl.gz").c_str(),
                               1 << 24, &r),
              SC_OK)
        << sc_last_error();
    for (json_t *line; json_next_line(r, &line) == SC_OK && line; json_decref(line)) {
        Row row;
        const json_t *choice = json_array_get(json_object_get(json_object_get(line, "resp"), "choices"), 0);
        row.text = json_string_value(json_object_get(json_object_get(choice, "message"), "content"));
        const json_t *list = json_object_get(line, "rec_list");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *e = json_array_get(list, i);
            row.published.push_back({json_string_value(json_object_get(e, "movie_name")),
                                     json_string_value(json_object_get(e, "nearest_movie")),
                                     json_integer_value(json_object_get(e, "min_edit_distance"))});
        }
        row.targets = strings(json_object_get(line, "gt_list"));
        row.seen = strings(json_object_get(line, "prev_list"));
        rows.push_back(row);
    }
    line_reader_close(r);
    return rows;
}

// condition -> column -> value
using Summary = std::map<std::string, std::map<std::string, double>>;

Summary read_summary(const std::string &path)
{
    strbuf text = {};
    EXPECT_EQ(file_read_all(path.c_str(), &text), SC_OK) << sc_last_error();
    std::istringstream in(strbuf_text(&text));
    std::string line, cell;
    std::vector<std::string> header;
    Summary out;
    for (int n = 0; std::getline(in, line); n++) {
        std::istringstream cells(line);
        std::vector<std::string> values;
        while (std::getline(cells, cell, ','))
            values.push_back(cell);
        if (n == 0)
            header = values;
        else
            for (size_t i = 1; i < values.size(); i++)
                out[values[0]][header[i]] = std::stod(values[i]);
    }
    strbuf_free(&text);
    return out;
}

// One name, one number, by its lower-cased form.
struct Numbers {
    std::map<std::string, int32_t> numbers;
    int32_t operator()(const std::string &name)
    {
        strbuf lower = {};
        utf8_lower(&lower, name.c_str(), name.size());
        const int32_t number = numbers.emplace(strbuf_text(&lower), (int32_t)numbers.size()).first->second;
        strbuf_free(&lower);
        return number;
    }
};

struct List {
    std::vector<int32_t> names, targets, seen;
    std::vector<uint8_t> known;
};

// The largest difference to the published summary of one setting; counts the compared values.
double difference(const std::vector<List> &lists, bool filtered, bool exclude_seen, const Summary &published,
                  int *n_values)
{
    std::vector<scored_list> scored;
    size_t rows = 0;
    for (const List &l : lists) {
        scored.push_back({l.names.data(), reinterpret_cast<const bool *>(l.known.data()), l.names.size(),
                          l.targets.data(), l.targets.size(), l.seen.data(), l.seen.size()});
        rows += l.targets.size();
    }
    std::vector<int64_t> positions(rows), scratch(rows);
    std::vector<uint8_t> mentioned(rows);
    bool *flags = reinterpret_cast<bool *>(mentioned.data());
    score_positions(scored.data(), scored.size(), filtered, exclude_seen, positions.data(), flags);
    double worst = 0;
    for (int c = 0; c < 3; c++) {
        metric_summary s;
        score_condition(positions.data(), flags, rows, (condition)c, scratch.data(), &s);
        EXPECT_EQ(s.n, c == CONDITION_REC ? 211 : c == CONDITION_DIS ? 42 : 253);
        const auto &row = published.at(condition_names[c]);
        for (int m = 0; m < N_METRICS; m++)
            for (int k = 0; k < N_CUTS; k++) {
                const std::string name = std::string(metric_names[m]) + "@" + std::to_string(metric_cuts[k]);
                worst = std::max({worst, std::fabs(s.mean[m][k] - row.at(name + "_mean")),
                                  std::fabs(s.se[m][k] - row.at(name + "_se"))});
                *n_values += 2;
            }
    }
    return worst;
}

class He2023 : public testing::TestWithParam<const char *>
{
  protected:
    void SetUp() override
    {
        if (!std::filesystem::exists(DATA + "llm_outputs_inspired/" + GetParam() + ".extracted.jsonl.gz"))
            GTEST_SKIP() << "the outputs of He et al. 2023 are not beside the repository: " << DATA;
        rows_ = read_rows(GetParam());
        ASSERT_EQ(rows_.size(), 228u);
    }
    Summary published(bool filtered, bool exclude_seen) const
    {
        return read_summary(DATA + "llm_outputs_inspired/" + GetParam() + ".filtered_" +
                            (filtered ? "True" : "False") + "_exclude_seen_" +
                            (exclude_seen ? "True" : "False") + ".summary.csv");
    }
    std::vector<Row> rows_;
};

TEST_P(He2023, ParserGivesThePublishedLists)
{
    for (size_t i = 0; i < rows_.size(); i++) {
        title_list l;
        ASSERT_EQ(parse_reply(rows_[i].text.c_str(), PARSE_HE2023, &l), SC_OK);
        std::vector<std::string> mine(l.titles, l.titles + l.n), theirs;
        for (const Entry &e : rows_[i].published)
            theirs.push_back(e.title);
        EXPECT_EQ(mine, theirs) << "row " << i;
        title_list_free(&l);
    }
}

TEST_P(He2023, MetricsFromThePublishedNamesAreThePublishedSummaries)
{
    Numbers number;
    std::vector<List> lists;
    for (const Row &row : rows_) {
        List l;
        for (const Entry &e : row.published) {
            l.names.push_back(number(e.nearest));
            l.known.push_back(e.distance <= MATCH_HE_LIMIT);
        }
        for (const std::string &t : row.targets)
            l.targets.push_back(number(t));
        for (const std::string &t : row.seen)
            l.seen.push_back(number(t));
        lists.push_back(l);
    }
    int n_values = 0;
    for (int setting = 0; setting < 4; setting++)
        EXPECT_LE(difference(lists, setting & 2, setting & 1, published(setting & 2, setting & 1), &n_values),
                  1e-12);
    EXPECT_EQ(n_values, 4 * 3 * 3 * 4 * 2);
}

TEST_P(He2023, MatcherAndTheWholeWay)
{
    title_index *index = nullptr;
    ASSERT_EQ(title_index_open((DATA + "inspired/entity2id.json.gz").c_str(), MATCH_HE2023, &index), SC_OK)
        << sc_last_error();
    EXPECT_EQ(title_index_size(index), 17200u);
    Numbers number;
    std::vector<List> lists;
    std::vector<std::string> titles;
    std::vector<const char *> pointers;
    for (const Row &row : rows_) {
        title_list l;
        ASSERT_EQ(parse_reply(row.text.c_str(), PARSE_HE2023, &l), SC_OK);
        titles.insert(titles.end(), l.titles, l.titles + l.n);
        title_list_free(&l);
    }
    for (const std::string &t : titles)
        pointers.push_back(t.c_str());
    std::vector<title_match> matches(titles.size());
    ASSERT_EQ(title_index_match(index, pointers.data(), pointers.size(), matches.data()), SC_OK);
    size_t at = 0, other_name = 0, other_known = 0;
    for (const Row &row : rows_) {
        List l;
        for (const Entry &e : row.published) {
            const title_match &m = matches[at++];
            EXPECT_EQ(m.distance, e.distance) << e.title;
            const bool same = number(title_index_name(index, m.name)) == number(e.nearest);
            if (!same) {
                strbuf a = {}, b = {};
                utf8_lower(&a, e.title.c_str(), e.title.size());
                utf8_lower(&b, e.nearest.c_str(), e.nearest.size());
                EXPECT_EQ(text_distance(strbuf_text(&a), strbuf_text(&b), -1), m.distance) << e.title;
                strbuf_free(&a);
                strbuf_free(&b);
            }
            other_name += !same;
            other_known += !same && m.known;
            l.names.push_back(number(title_index_name(index, m.name)));
            l.known.push_back(m.known);
        }
        for (const std::string &t : row.targets)
            l.targets.push_back(number(t));
        for (const std::string &t : row.seen)
            l.seen.push_back(number(t));
        lists.push_back(l);
    }
    ASSERT_EQ(at, titles.size());
    // Ties of the original fall by hash order. What differs is only which of several equally near names was taken (checked
    // above), and with that a row or two: the bounds are what our rule gives on these files.
    static const std::map<std::string, std::vector<double>> by_ties = {
        {"gpt-3.5-turbo", {1 / 42.0, 2 / 211.0, 0, 0}}, {"vicuna", {0, 3e-5, 0, 9e-5}}};
    RecordProperty("titles", (int)titles.size());
    RecordProperty("other_name_of_the_same_distance", (int)other_name);
    RecordProperty("of_these_within_the_threshold", (int)other_known);
    int n_values = 0;
    for (int setting = 0; setting < 4; setting++) {
        const double off =
            difference(lists, setting & 2, setting & 1, published(setting & 2, setting & 1), &n_values);
        RecordProperty("difference_" + std::to_string(setting), std::to_string(off));
        EXPECT_LE(off, by_ties.at(GetParam())[setting] + 1e-12)
            << "filtered " << !!(setting & 2) << ", exclude_seen " << !!(setting & 1);
    }
    title_index_close(index);
}

INSTANTIATE_TEST_SUITE_P(Models, He2023, testing::Values("gpt-3.5-turbo", "vicuna"), [](const auto &param) {
    std::string name = param.param;
    for (char &c : name)
        c = std::isalnum((unsigned char)c) ? c : '_';
    return name;
});

} // namespace
