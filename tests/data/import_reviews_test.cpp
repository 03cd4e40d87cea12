#include "support.h"

#include <algorithm>

namespace
{

using Reviews = Data;

TEST_F(Reviews, MakesADatasetFolder)
{
    std::string items = make(
        "items.jsonl",
        R"j({"parent_asin":"i1","title":"Heat &amp; Dust (1983)","main_category":"Movies","price":"$9.99",)j"
        R"j("categories":["Movies","Drama"],"details":{"Directors":["James Ivory"],)j"
        R"j("Actors":"Julie Christie, Greta Scacchi","Release Year":"1983"},)j"
        R"j("description":["Two women.","In India."],"rating_number":7})j"
        "\n"
        R"({"parent_asin":"i9","title":null,"price":3.5,"details":"{\"Director\":\"X\"}"})"
        "\n");
    std::string reviews = make("reviews.jsonl.gz", gzip(review_line("u2", "i1", "Good<br />film", 5) +
                                                        review_line("u1", "i7", "No metadata", 1) + "\n" +
                                                        review_line("u2", "i1", "Again", 3)));
    ASSERT_EQ(import_reviews({reviews}, {items}), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_reviews, 3);
    EXPECT_EQ(result.n_items, 3);
    EXPECT_EQ(result.n_users, 2);
    EXPECT_EQ(result.n_interactions, 2);
    EXPECT_TRUE(tidy());

    auto rows = lines("out/reviews.jsonl");
    ASSERT_EQ(rows.size(), 3u);
    EXPECT_EQ(text(rows[0].get(), "review_id"), "u2-i1-1600000000000");
    EXPECT_EQ(text(rows[2].get(), "review_id"), "u2-i1-1600000000000-2");
    EXPECT_EQ(text(rows[0].get(), "text"), "Good\nfilm");
    for (const char *key : {"rating", "title", "text", "images", "asin", "parent_asin", "user_id",
                            "timestamp", "helpful_vote", "verified_purchase"})
        EXPECT_NE(json_object_get(rows[0].get(), key), nullptr) << key;
    EXPECT_EQ(bytes_of(at("out/users.txt")), "u2\nu1\n");
    EXPECT_EQ(number("out/dataset.json", "counts/items_without_metadata"), 1);
    EXPECT_EQ(number("out/dataset.json", "counts/repeated_pairs"), 1);
    EXPECT_EQ(number("out/dataset.json", "cleaned/line_breaks"), 1);
    EXPECT_EQ(bytes_of(at("out/dataset.json")).find("seconds"), std::string::npos);

    dataset *d = nullptr;
    ASSERT_EQ(dataset_open(at("out").c_str(), DATASET_ALL, &d), SC_OK) << sc_last_error();
    ASSERT_EQ(d->n_items, 3u);
    const item &it = d->items[0];
    EXPECT_STREQ(it.title, "Heat & Dust (1983)");
    EXPECT_EQ(it.year, 1983);
    EXPECT_EQ(it.rating_number, 7);
    EXPECT_STREQ(it.description, "Two women. In India.");
    ASSERT_EQ(it.n_categories, 1u);
    EXPECT_STREQ(it.categories[0], "Drama");
    ASSERT_EQ(it.n_people, 3u);
    EXPECT_STREQ(it.people[0], "James Ivory");
    EXPECT_STREQ(it.people[2], "Greta Scacchi");
    EXPECT_EQ(d->items[1].title, nullptr);
    ASSERT_EQ(d->items[1].n_people, 1u);
    EXPECT_STREQ(d->items[2].id, "i7");
    EXPECT_EQ(dataset_find_item(d, "i7"), 2);
    EXPECT_EQ(dataset_find_item(d, "nope"), -1);
    EXPECT_EQ(d->reviews[1].item, 2);
    EXPECT_EQ(d->reviews[1].user, 1);
    ASSERT_EQ(d->n_interactions, 2u);
    EXPECT_EQ(d->interactions[0].user, 0);
    EXPECT_EQ(d->interactions[0].item, 0);
    EXPECT_EQ(d->interactions[0].rating, 3.0f); /* the last of two */
    EXPECT_EQ(d->interactions[1].item, 2);
    EXPECT_EQ(strlen(d->reviews_sha256), 64u);
    strbuf s = {};
    ASSERT_EQ(dataset_review_text(d, 0, &s), SC_OK);
    EXPECT_STREQ(s.data, "A title\nGood\nfilm");
    strbuf_clear(&s);
    ASSERT_EQ(dataset_item_text(d, 0, &s), SC_OK);
    EXPECT_STREQ(
        s.data,
        "Heat & Dust (1983)\nDrama\nTwo women. In India.\nJames Ivory, Julie Christie, Greta Scacchi");
    strbuf_clear(&s);
    ASSERT_EQ(dataset_item_text(d, 2, &s), SC_OK);
    EXPECT_STREQ(s.data, "i7");
    strbuf_free(&s);
    dataset_close(d);
}

TEST_F(Reviews, SameInputGivesTheSameBytes)
{
    std::string reviews = make("r.jsonl", review_line("u", "a", "x") + review_line("v", "b", "y"));
    ASSERT_EQ(import_reviews({reviews}), SC_OK);
    Strings first;
    const Strings files = {"reviews.jsonl", "items.jsonl", "users.txt", "interactions.npy", "dataset.json"};
    for (const std::string &f : files)
        first.push_back(bytes_of(at("out/" + f)));
    usleep(20000);
    ASSERT_EQ(import_reviews({reviews}), SC_OK) << sc_last_error();
    for (size_t i = 0; i < files.size(); i++)
        EXPECT_EQ(bytes_of(at("out/" + files[i])), first[i]) << files[i];
}

TEST_F(Reviews, DropsWithReasons)
{
    std::string bytes =
        review_line("u", "i", "kept") + review_line("", "i", "x") + review_line("u", " ", "x") +
        review_line("u", "i", " <br> ") +
        R"({"user_id":"u","parent_asin":"i","text":"x"})"
        "\n" +
        R"({"user_id":"u","parent_asin":"i","text":"x","rating":"5.0"})"
        "\n" +
        R"({"user_id":"u","parent_asin":"i","text":null,"rating":5.0})"
        "\n" +
        R"({"user_id":"u","asin":"j","text":"seconds, no parent","rating":2,"timestamp":1600000000})"
        "\n" +
        R"({"parent_asin":"i","text":"x","rating":5})"
        "\n";
    ASSERT_EQ(import_reviews({make("r.jsonl", bytes)}), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_read, 9);
    EXPECT_EQ(result.n_dropped, 7);
    EXPECT_EQ(result.n_reviews, 2);
    EXPECT_EQ(number("out/dataset.json", "dropped/reviews/no_user_id"), 2);
    EXPECT_EQ(number("out/dataset.json", "dropped/reviews/no_item_id"), 1);
    EXPECT_EQ(number("out/dataset.json", "dropped/reviews/no_text"), 2);
    EXPECT_EQ(number("out/dataset.json", "dropped/reviews/no_rating"), 1);
    EXPECT_EQ(number("out/dataset.json", "dropped/reviews/rating_not_a_number"), 1);
    EXPECT_EQ(number("out/dataset.json", "filled/timestamp_from_seconds"), 1);
    auto rows = lines("out/reviews.jsonl");
    EXPECT_EQ(text(rows[1].get(), "review_id"), "u-j-1600000000000");
}

TEST_F(Reviews, NamesTheLineOfWhatIsWrong)
{
    struct {
        const char *line, *words;
    } const bad[] = {
        {"{\"rating\": 5", "JSON"},
        {"[1, 2]", "object"},
        {"{\"rating\":1,\"rating\":2}", "JSON"},
        {R"({"user_id":7,"parent_asin":"i","text":"x","rating":5})", "user_id"},
        {R"({"user_id":"u","parent_asin":"i","text":["x"],"rating":5})", "text"},
        {R"({"user_id":"u","parent_asin":"i","text":"x","rating":5,"timestamp":"now"})", "timestamp"},
        {R"({"user_id":"u","parent_asin":"i","text":"x","rating":5,"timestamp":1e300})", "timestamp"},
        {R"({"user_id":"u\nv","parent_asin":"i","text":"x","rating":5})", "control character"},
        {R"({"user_id":"u","parent_asin":"i","text":"a\u0000b","rating":5})", "zero character"},
        {R"({"user_id":"u","parent_asin":"i","text":"x","rating":5,"helpful_vote":"many"})", "helpful_vote"},
    };
    for (const auto &b : bad) {
        std::string path = make("r.jsonl", review_line("u", "i", "good") + b.line + "\n");
        EXPECT_EQ(import_reviews({path}), SC_BAD_INPUT) << b.line;
        EXPECT_TRUE(says(path + ":2")) << sc_last_error();
        EXPECT_TRUE(says(b.words)) << sc_last_error();
        EXPECT_FALSE(file_exists(at("out").c_str()));
        EXPECT_TRUE(tidy());
    }
    std::string long_id = review_line(std::string(600, 'u'), "i", "x");
    EXPECT_EQ(import_reviews({make("r.jsonl", long_id)}), SC_BAD_INPUT);
    EXPECT_TRUE(says("r.jsonl:1")) << sc_last_error();
}

TEST_F(Reviews, NamesTheLineOfABadItem)
{
    std::string reviews = make("r.jsonl", review_line("u", "i", "good"));
    for (const char *line :
         {R"({"parent_asin":"i","title":5})", R"({"parent_asin":"i","price":[]})",
          R"({"parent_asin":"i","details":7})", R"({"parent_asin":"i","details":"{"})",
          R"({"parent_asin":"i","categories":{"a":1}})", R"({"parent_asin":"i","description":[1]})",
          R"({"parent_asin":"i","rating_number":"x"})", R"({"parent_asin":3})"}) {
        std::string path = make("m.jsonl", std::string("{\"parent_asin\":\"k\"}\n") + line + "\n");
        EXPECT_EQ(import_reviews({reviews}, {path}), SC_BAD_INPUT) << line;
        EXPECT_TRUE(says(path + ":2")) << sc_last_error();
    }
    std::string path =
        make("m.jsonl", "{\"parent_asin\":\"k\"}\n{\"parent_asin\":\"k\"}\n{\"title\":\"no id\"}\n");
    ASSERT_EQ(import_reviews({reviews}, {path}), SC_OK) << sc_last_error();
    EXPECT_EQ(number("out/dataset.json", "dropped/items/repeated_item"), 1);
    EXPECT_EQ(number("out/dataset.json", "dropped/items/no_item_id"), 1);
}

TEST_F(Reviews, RepairsBytesAndCountsThem)
{
    std::string bytes = R"({"user_id":"u","parent_asin":"i","text":"caf)"
                        "\xE9"
                        R"( \ud83d\ude00","rating":5})"
                        "\n";
    ASSERT_EQ(import_reviews({make("r.jsonl", bytes)}), SC_OK) << sc_last_error();
    EXPECT_EQ(text(lines("out/reviews.jsonl")[0].get(), "text"), "caf\uFFFD 😀");
    EXPECT_EQ(number("out/dataset.json", "cleaned/invalid_utf8"), 1);
    std::string zero = review_line("u", "i", "good") + std::string("{\"user_id\":\0}\n", 14);
    EXPECT_EQ(import_reviews({make("r.jsonl", zero)}), SC_BAD_INPUT);
    EXPECT_TRUE(says("r.jsonl:2")) << sc_last_error();
}

TEST_F(Reviews, TakesAVeryLongReview)
{
    std::string words;
    for (int i = 0; i < 50000; i++)
        words += "word" + std::to_string(i) + " ";
    ASSERT_EQ(import_reviews({make("r.jsonl", review_line("u", "i", words))}), SC_OK) << sc_last_error();
    words.pop_back();
    EXPECT_EQ(text(lines("out/reviews.jsonl")[0].get(), "text"), words);
}

TEST_F(Reviews, RefusesTornEmptyAndAbsentInput)
{
    std::string packed = gzip(review_line("u", "i", std::string(3000, 'x')) + review_line("u", "j", "y"));
    EXPECT_EQ(import_reviews({make("r.jsonl.gz", packed.substr(0, packed.size() - 9))}), SC_BAD_INPUT);
    EXPECT_TRUE(says("r.jsonl.gz")) << sc_last_error();
    EXPECT_EQ(import_reviews({make("r.jsonl", "")}), SC_BAD_INPUT);
    EXPECT_TRUE(says("none of 0 reviews")) << sc_last_error();
    EXPECT_EQ(
        import_reviews({make("r.jsonl", R"({"reviewerID":"u","asin":"a","reviewText":"x","overall":5})")}),
        SC_BAD_INPUT);
    EXPECT_TRUE(says("--format")) << sc_last_error();
    EXPECT_EQ(import_reviews({at("absent")}), SC_BAD_INPUT);
    EXPECT_TRUE(says("absent")) << sc_last_error();
    EXPECT_EQ(import_reviews({make("r.jsonl", review_line("u", "i", "x"))}, {}, "amazon32"), SC_USAGE);
    EXPECT_TRUE(says("amazon23")) << sc_last_error();
    EXPECT_FALSE(file_exists(at("out").c_str()));
    EXPECT_TRUE(tidy());
}

TEST_F(Reviews, KeepsWhatAFailedImportWouldReplace)
{
    std::string good = make("r.jsonl", review_line("u", "i", "first"));
    ASSERT_EQ(import_reviews({good}), SC_OK);
    make("out/notes.txt", "mine");
    std::string before = bytes_of(at("out/reviews.jsonl"));
    EXPECT_EQ(import_reviews({make("bad.jsonl", "{")}), SC_BAD_INPUT);
    EXPECT_EQ(bytes_of(at("out/reviews.jsonl")), before);
    ASSERT_EQ(import_reviews({make("r2.jsonl", review_line("u", "i", "second"))}), SC_OK) << sc_last_error();
    EXPECT_NE(bytes_of(at("out/reviews.jsonl")), before);
    EXPECT_EQ(bytes_of(at("out/notes.txt")), "mine"); /* not ours: kept */
    EXPECT_TRUE(tidy());
}

TEST_F(Reviews, RefusesAForeignFolder)
{
    std::string good = make("r.jsonl", review_line("u", "i", "x"));
    ASSERT_EQ(file_make_dirs(at("out").c_str()), SC_OK);
    ASSERT_EQ(import_reviews({good}), SC_OK) << sc_last_error(); /* empty: fine */
    unlink(at("out/dataset.json").c_str());
    EXPECT_EQ(import_reviews({good}), SC_USAGE);
    EXPECT_TRUE(says("dataset.json")) << sc_last_error();
    EXPECT_TRUE(file_exists(at("out/reviews.jsonl").c_str()));
    ASSERT_EQ(file_remove_tree(at("out").c_str()), SC_OK);
    make("out", "a file");
    EXPECT_EQ(import_reviews({good}), SC_USAGE);
    EXPECT_EQ(bytes_of(at("out")), "a file");
}

TEST_F(Reviews, ReadsAmazon14)
{
    std::string bytes =
        R"({"reviewerID":"u","asin":"a","reviewText":"x &quot;y&quot;","overall":4.0,"summary":"s","unixReviewTime":1355961600,"helpful":[3,4]})"
        "\n"
        R"({"reviewerID":"v","asin":"a","reviewText":"z","overall":2,"vote":"1,204","verified":true,"unixReviewTime":1})"
        "\n";
    std::string items = make(
        "m.jsonl",
        R"({"asin":"a","title":"T","category":["Movies",["Drama","War"]],"brand":"B","description":"one string","price":"$5"})");
    ASSERT_EQ(import_reviews({make("r.jsonl", bytes)}, {items}, "amazon14"), SC_OK) << sc_last_error();
    auto rows = lines("out/reviews.jsonl");
    EXPECT_EQ(text(rows[0].get(), "text"), "x \"y\"");
    EXPECT_EQ(json_integer_value(json_object_get(rows[0].get(), "timestamp")), 1355961600000);
    EXPECT_EQ(json_integer_value(json_object_get(rows[0].get(), "helpful_vote")), 3);
    EXPECT_EQ(json_integer_value(json_object_get(rows[1].get(), "helpful_vote")), 1204);
    EXPECT_TRUE(json_is_true(json_object_get(rows[1].get(), "verified_purchase")));
    auto metadata = lines("out/items.jsonl");
    EXPECT_EQ(texts(metadata[0].get(), "categories"), (Strings{"Movies", "Drama", "War"}));
    EXPECT_EQ(texts(metadata[0].get(), "description"), (Strings{"one string"}));
    EXPECT_EQ(text(metadata[0].get(), "store"), "B");
}

TEST_F(Reviews, ReadsCsv)
{
    std::string reviews = make("r.csv", "user_id,item_id,rating,title,text,timestamp,extra\n"
                                        "u,a,4.5,T,\"two\nlines\",1600000000,\n"
                                        "u,b,good,T,x,1600000000,\n"
                                        "v,b,,T,x,,\n"
                                        "v,b,3,,caf\xE9,,\n");
    std::string items =
        make("m.csv", "item_id,title,genres,year,directors,cast\na,Heat,Crime|Drama,1995,Michael Mann,Al "
                      "Pacino|Robert De Niro\n");
    ASSERT_EQ(import_reviews({reviews}, {items}, "csv"), SC_OK) << sc_last_error();
    EXPECT_EQ(result.n_reviews, 2);
    EXPECT_EQ(number("out/dataset.json", "dropped/reviews/rating_not_a_number"), 1);
    EXPECT_EQ(number("out/dataset.json", "dropped/reviews/no_rating"), 1);
    EXPECT_EQ(number("out/dataset.json", "filled/timestamp_absent"), 1);
    EXPECT_EQ(text(lines("out/reviews.jsonl")[0].get(), "text"), "two\nlines");
    EXPECT_EQ(text(lines("out/reviews.jsonl")[1].get(), "text"), "caf\uFFFD");
    dataset *d = nullptr;
    ASSERT_EQ(dataset_open(at("out").c_str(), DATASET_ALL, &d), SC_OK) << sc_last_error();
    EXPECT_EQ(d->items[0].year, 1995);
    EXPECT_EQ(d->items[0].n_people, 3u);
    EXPECT_EQ(d->items[0].n_categories, 2u);
    EXPECT_EQ(d->reviews[0].rating, 4.5);
    dataset_close(d);

    EXPECT_EQ(import_reviews({make("r.csv", "user_id,rating,text\n")}, {}, "csv"), SC_BAD_INPUT);
    EXPECT_TRUE(says("parent_asin")) << sc_last_error();
    EXPECT_EQ(import_reviews({make("r.csv", "user_id,asin,rating,text\nu,a,1,\"open\n")}, {}, "csv"),
              SC_BAD_INPUT);
    EXPECT_TRUE(says("r.csv:2")) << sc_last_error();
    EXPECT_EQ(
        import_reviews({make("r.csv", "user_id,asin,rating,text,timestamp\nu,a,1,x,soon\n")}, {}, "csv"),
        SC_BAD_INPUT);
    EXPECT_TRUE(says("r.csv:2")) << sc_last_error();
    for (const char *rating : {"nan", "inf", "0x10", "1e999", "4;5", "4.5.6"}) {
        std::string one = std::string("user_id,asin,rating,text\nu,a,") + rating + ",x\nu,a,5,x\n";
        ASSERT_EQ(import_reviews({make("r.csv", one)}, {}, "csv"), SC_OK) << sc_last_error();
        EXPECT_EQ(number("out/dataset.json", "dropped/reviews/rating_not_a_number"), 1) << rating;
    }
}

TEST_F(Reviews, InteractionsAreSortedAndUnique)
{
    std::string bytes;
    for (int i = 0; i < 500; i++)
        bytes +=
            review_line("u" + std::to_string(i * 7 % 23), "i" + std::to_string(i * 13 % 31), "x", i % 5 + 1);
    ASSERT_EQ(import_reviews({make("r.jsonl", bytes)}), SC_OK);
    dataset *d = nullptr;
    ASSERT_EQ(dataset_open(at("out").c_str(), DATASET_INTERACTIONS, &d), SC_OK) << sc_last_error();
    EXPECT_EQ(d->n_interactions, 500u);
    EXPECT_EQ(d->n_reviews, 0u);
    dataset_close(d);
    EXPECT_EQ(import_reviews({at("r.jsonl"), at("r.jsonl")}), SC_OK);
    EXPECT_EQ(result.n_reviews, 1000);
    EXPECT_EQ(result.n_interactions, 500);
}

} // namespace
