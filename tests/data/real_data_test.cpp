/* The public data sets beside the repository: all of them import, with the counts that their papers and
 * the published code give. Skipped where they are absent. */
#include "support.h"

namespace
{

class Real : public Data
{
  protected:
    /* The file's path, "" (and a skipped test) if it is not there. */
    static std::string shared(const std::string &name)
    {
        std::string path = std::string(SC_SOURCE_DIR) + "/../shared/data/" + name;
        return file_exists(path.c_str()) ? path : "";
    }
    int64_t count(const char *name) const
    {
        return number("out.import.json", std::string("counts/") + name);
    }
};

#define NEED(variable, name)                                                                                 \
    std::string variable = shared(name);                                                                     \
    if (variable.empty())                                                                                    \
    GTEST_SKIP() << "the public data set " << name << " does not lie beside the repository"

TEST_F(Real, He2023InspiredHasThePublishedRowsAndPrompts)
{
    NEED(input, "he2023_cikm/inspired/test.jsonl.gz");
    NEED(entities, "he2023_cikm/inspired/entity2id.json.gz");
    NEED(outputs, "he2023_cikm/llm_outputs_inspired/gpt-3.5-turbo.extracted.jsonl.gz");
    ASSERT_EQ(import_dialogues("he2023", input, entities), SC_OK) << sc_last_error();
    EXPECT_EQ(count("dialogues"), 228);
    EXPECT_EQ(count("targets"), 253);
    EXPECT_EQ(count("new_targets"), 211);
    EXPECT_EQ(count("items"), 1123);

    /* What was sent to GPT-3.5, and the names the authors derived, sample by sample. */
    auto rows = lines("out.jsonl");
    line_reader *r = nullptr;
    ASSERT_EQ(line_reader_open(outputs.c_str(), size_t{1} << 26, &r), SC_OK);
    for (const Json &row : rows) {
        json_t *value = nullptr;
        ASSERT_EQ(json_next_line(r, &value), SC_OK) << sc_last_error();
        Json published(value);
        ASSERT_NE(value, nullptr);
        EXPECT_EQ(text(json_array_get(json_object_get(row.get(), "messages"), 0), "content"),
                  text(value, "prompt"));
        EXPECT_EQ(texts(row.get(), "targets"), texts(value, "gt_list"));
        EXPECT_EQ(texts(row.get(), "seen"), texts(value, "prev_list"));
    }
    line_reader_close(r);
}

TEST_F(Real, He2023RedialHasThePublishedRows)
{
    NEED(input, "he2023_cikm/redial/test.jsonl.gz");
    NEED(entities, "he2023_cikm/redial/entity2id.json.gz");
    ASSERT_EQ(import_dialogues("he2023", input, entities), SC_OK) << sc_last_error();
    EXPECT_EQ(count("dialogues"), 3552);
    EXPECT_EQ(count("targets"), 4778);
    EXPECT_EQ(count("new_targets"), 4288);
    EXPECT_EQ(count("items"), 6281);
    ASSERT_EQ(import_dialogues("he2023", input, entities, 100, 3), SC_OK) << sc_last_error();
    EXPECT_EQ(lines("out.jsonl").size(), 100u);
}

TEST_F(Real, Nbcrs)
{
    NEED(inspired, "nbcrs/inspired_test.csv.gz");
    NEED(train, "nbcrs/inspired_train.csv.gz");
    NEED(redial, "nbcrs/redial_test.csv.gz");
    ASSERT_EQ(import_dialogues("nbcrs", inspired), SC_OK) << sc_last_error();
    EXPECT_EQ(count("dialogues"), 211);
    ASSERT_EQ(import_dialogues("nbcrs", redial), SC_OK) << sc_last_error();
    EXPECT_EQ(count("dialogues"), 4288);
    ASSERT_EQ(import_dialogues("nbcrs", train), SC_OK) << sc_last_error();
    EXPECT_EQ(count("dialogues"), 731);
}

TEST_F(Real, Redial)
{
    NEED(valid, "redial_meta/valid_data.jsonl.gz");
    NEED(infos, "redial_meta/id2info.json.gz");
    NEED(turns, "redial_meta/redial_eval_test_data_processed.jsonl.gz");
    NEED(entities, "redial_meta/entity2id.json.gz");
    ASSERT_EQ(import_dialogues("redial", valid, infos), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_read, 1000);
    EXPECT_EQ(count("items"), 6583);
    EXPECT_GT(count("dialogues"), 2000);
    ASSERT_EQ(import_dialogues("redial", turns, entities), SC_OK) << sc_last_error();
    EXPECT_EQ(count("dialogues"), 3341);
}

TEST_F(Real, InspiredRawAndUnicrs)
{
    for (const char *part : {"dev", "test"}) {
        NEED(raw, std::string("inspired_raw/") + part + ".tsv.gz");
        NEED(turns, std::string("unicrs_inspired/") + part + ".jsonl.gz");
        ASSERT_EQ(import_dialogues("inspired", raw), SC_OK) << sc_last_error();
        EXPECT_EQ(result.n_read, 99);
        ASSERT_EQ(import_dialogues("unicrs", turns), SC_OK) << sc_last_error();
        EXPECT_EQ(result.n_read, 99);
        EXPECT_GT(count("dialogues"), 200);
    }
}

TEST_F(Real, Amazon23Sample)
{
    NEED(reviews, "amazon23_sample/amazon23_multi_reviews.jsonl.gz");
    NEED(items, "amazon23_sample/meta_amazon23_multi.jsonl.gz");
    ASSERT_EQ(import_reviews({reviews}, {items}), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_read, 3455);
    EXPECT_EQ(number("out/dataset.json", "dropped/reviews/no_text"), 2);
    EXPECT_EQ(result.n_items, 3228);
    dataset *d = nullptr;
    ASSERT_EQ(dataset_open(at("out").c_str(), DATASET_ALL, &d), SC_OK) << sc_last_error();
    size_t without_title = 0;
    for (size_t i = 0; i < d->n_items; i++)
        without_title += d->items[i].title == nullptr;
    EXPECT_EQ(without_title, 74u);
    dataset_close(d);
}

TEST_F(Real, ImdbAndMovieLens)
{
    NEED(small, "imdb_seed/imdb_2k_reviews.jsonl.gz");
    NEED(small_items, "imdb_seed/meta_imdb_2k.jsonl.gz");
    NEED(middle, "imdb_seed/imdb_24k_reviews.jsonl.gz");
    NEED(middle_items, "imdb_seed/meta_imdb_24k.jsonl.gz");
    NEED(large, "imdb_seed/imdb_60k_reviews.jsonl.gz");
    NEED(large_items, "imdb_seed/meta_imdb_60k.jsonl.gz");
    NEED(ratings, "ml-latest-small/ratings.csv.gz");
    NEED(movies, "ml-latest-small/movies.csv.gz");
    NEED(links, "ml-latest-small/links.csv.gz");
    ASSERT_EQ(import_reviews({small}, {small_items}), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_reviews, 2377);
    EXPECT_EQ(result.n_items, 100);
    EXPECT_EQ(result.n_users, 302);
    ASSERT_EQ(import_reviews({middle}, {middle_items}), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_reviews, 23978);
    EXPECT_EQ(result.n_items, 400);
    ASSERT_EQ(import_reviews({large}, {large_items}), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_reviews, 59635);
    EXPECT_EQ(result.n_users, 6772);
    EXPECT_EQ(result.n_items, 1119);
    dataset *d = nullptr;
    ASSERT_EQ(dataset_open(at("out").c_str(), DATASET_ALL, &d), SC_OK) << sc_last_error();
    int32_t kane = dataset_find_item(d, "tt0033467");
    ASSERT_GE(kane, 0);
    EXPECT_STREQ(d->items[kane].title, "Citizen Kane (1941)");
    EXPECT_EQ(d->items[kane].year, 1941);
    ASSERT_GE(d->items[kane].n_people, 3u);
    EXPECT_STREQ(d->items[kane].people[0], "Orson Welles");
    EXPECT_EQ(d->n_interactions, 59635u);
    dataset_close(d);

    ASSERT_EQ(rename(at("out").c_str(), at("imdb").c_str()), 0);
    sc_import_ratings_options o = sc_import_ratings_default();
    std::string out = at("ml"), join = at("imdb");
    o.ratings = ratings.c_str();
    o.items = movies.c_str();
    o.links = links.c_str();
    o.join = join.c_str();
    o.out = out.c_str();
    ASSERT_EQ(sc_import_ratings(&o, &result), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_interactions, 100836);
    EXPECT_EQ(result.n_users, 610);
    EXPECT_EQ(result.n_items, 9742 + number("ml/dataset.json", "join/items_added"));
    EXPECT_EQ(number("ml/dataset.json", "join/interactions_left_out"), 59635);
    ASSERT_EQ(dataset_open(out.c_str(), DATASET_ITEMS | DATASET_INTERACTIONS, &d), SC_OK) << sc_last_error();
    int32_t matrix = dataset_find_item(d, "tt0133093");
    ASSERT_GE(matrix, 0);
    EXPECT_STREQ(d->items[matrix].title, "The Matrix (1999)");
    EXPECT_EQ(d->items[matrix].rating_number, 278);
    dataset_close(d);
}

} // namespace
