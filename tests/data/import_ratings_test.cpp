#include "support.h"

namespace
{

class Ratings : public Data
{
  protected:
    sc_status import(const std::string &rating_rows, const std::string &movie_rows,
                     const std::string &links = "", const std::string &join = "")
    {
        sc_import_ratings_options o = sc_import_ratings_default();
        std::string out = at("out"), r = make("ratings.csv", rating_rows), m = make("movies.csv", movie_rows),
                    l;
        o.ratings = r.c_str();
        o.items = m.c_str();
        if (!links.empty()) {
            l = make("links.csv", links);
            o.links = l.c_str();
        }
        o.join = join.empty() ? nullptr : join.c_str();
        o.out = out.c_str();
        result = {};
        return sc_import_ratings(&o, &result);
    }
    const std::string movies =
        "movieId,title,genres\n1,\"Matrix, The (1999)\",Action|Sci-Fi\n2,Heat (1995),(no genres listed)\n"
        "3,\"City of Lost Children, The (Cité des enfants perdus, La) (1995)\",Fantasy\n";
    const std::string ratings =
        "userId,movieId,rating,timestamp\n7,1,4.0,964982703\n7,3,2.5,1\n8,1,5,2\n9,4,1,3\n";
};

TEST_F(Ratings, MovieLensWithoutLinks)
{
    ASSERT_EQ(import(ratings, movies), SC_OK) << sc_last_error();
    auto items = lines("out/items.jsonl");
    ASSERT_EQ(items.size(), 4u);
    EXPECT_EQ(text(items[0].get(), "parent_asin"), "ml-1");
    EXPECT_EQ(text(items[0].get(), "title"), "The Matrix (1999)");
    EXPECT_EQ(texts(items[0].get(), "categories"), (Strings{"Action", "Sci-Fi"}));
    EXPECT_EQ(json_integer_value(json_object_get(items[0].get(), "rating_number")), 2);
    EXPECT_EQ(json_real_value(json_object_get(items[0].get(), "average_rating")), 4.5);
    EXPECT_TRUE(texts(items[1].get(), "categories").empty());
    EXPECT_TRUE(json_is_null(json_object_get(items[1].get(), "average_rating")));
    EXPECT_EQ(text(items[2].get(), "title"), "The City of Lost Children (La Cité des enfants perdus) (1995)");
    EXPECT_EQ(text(items[3].get(), "parent_asin"), "ml-4");
    EXPECT_EQ(number("out/dataset.json", "counts/items_without_metadata"), 1);
    EXPECT_EQ(bytes_of(at("out/users.txt")), "7\n8\n9\n");
    EXPECT_FALSE(file_exists(at("out/reviews.jsonl").c_str()));
    dataset *d = nullptr;
    ASSERT_EQ(dataset_open(at("out").c_str(), DATASET_ITEMS | DATASET_INTERACTIONS, &d), SC_OK)
        << sc_last_error();
    ASSERT_EQ(d->n_interactions, 4u);
    EXPECT_EQ(d->interactions[1].item, 2);
    EXPECT_EQ(d->interactions[1].rating, 2.5f);
    EXPECT_EQ(d->items[0].year, 1999);
    dataset_close(d);
}

TEST_F(Ratings, LinksGiveImdbIds)
{
    ASSERT_EQ(import(ratings, movies, "movieId,imdbId,tmdbId\n1,0133093,603\n2,113277,\n3,,\n4,12345678,\n"),
              SC_OK)
        << sc_last_error();
    auto items = lines("out/items.jsonl");
    EXPECT_EQ(text(items[0].get(), "parent_asin"), "tt0133093");
    EXPECT_EQ(text(items[1].get(), "parent_asin"), "tt0113277"); /* a zero that a spreadsheet lost */
    EXPECT_EQ(text(items[2].get(), "parent_asin"), "ml-3");
    EXPECT_EQ(text(items[3].get(), "parent_asin"), "tt12345678");
}

TEST_F(Ratings, TwoMoviesOfOneIdMeet)
{
    ASSERT_EQ(import(ratings, movies, "movieId,imdbId\n1,5\n3,5\n"), SC_OK) << sc_last_error();
    EXPECT_EQ(number("out/dataset.json", "dropped/items/repeated_item"), 1);
    EXPECT_EQ(number("out/dataset.json", "counts/repeated_pairs"), 1);
    EXPECT_EQ(result.n_interactions, 3);
}

TEST_F(Ratings, JoinKeepsTheRicherSide)
{
    std::string items = make(
        "m.jsonl",
        R"j({"parent_asin":"tt0133093","title":"Matrix","description":["A hacker."],"categories":["Action","Cult"],"details":{"Directors":["Wachowski"]},"rating_number":99})j"
        "\n"
        R"j({"parent_asin":"tt9","title":"Only There (2000)"})j"
        "\n");
    ASSERT_EQ(
        import_reviews({make("r.jsonl", review_line("u", "tt9", "x") + review_line("u", "tt0133093", "y"))},
                       {items}),
        SC_OK);
    ASSERT_EQ(rename(at("out").c_str(), at("other").c_str()), 0);
    ASSERT_EQ(import(ratings, movies, "movieId,imdbId\n1,0133093\n", at("other")), SC_OK) << sc_last_error();
    auto rows = lines("out/items.jsonl");
    ASSERT_EQ(rows.size(), 5u);
    EXPECT_EQ(text(rows[0].get(), "title"), "The Matrix (1999)");
    EXPECT_EQ(texts(rows[0].get(), "categories"), (Strings{"Action", "Sci-Fi", "Cult"}));
    EXPECT_EQ(texts(rows[0].get(), "description"), (Strings{"A hacker."}));
    EXPECT_EQ(text(json_object_get(rows[0].get(), "details"), "MovieLens ID"), "1");
    EXPECT_EQ(texts(json_object_get(rows[0].get(), "details"), "Directors"), (Strings{"Wachowski"}));
    EXPECT_EQ(json_integer_value(json_object_get(rows[0].get(), "rating_number")), 2); /* of these ratings */
    EXPECT_EQ(text(rows[3].get(), "parent_asin"), "tt9");
    EXPECT_EQ(number("out/dataset.json", "join/items_in_both"), 1);
    EXPECT_EQ(number("out/dataset.json", "join/items_enriched"), 1);
    EXPECT_EQ(number("out/dataset.json", "join/items_added"), 1);
    EXPECT_EQ(number("out/dataset.json", "join/interactions_left_out"), 2);
    EXPECT_EQ(result.n_interactions, 4);
    EXPECT_EQ(import(ratings, movies, "", at("nowhere")), SC_BAD_INPUT);
    EXPECT_TRUE(says("items.jsonl")) << sc_last_error();
}

TEST_F(Ratings, DropsAndRefuses)
{
    ASSERT_EQ(import("userId,movieId,rating\n1,1,4\n,1,4\n1,,4\n1,2,\n1,2,x\n", movies), SC_OK)
        << sc_last_error();
    EXPECT_EQ(result.n_dropped, 4);
    EXPECT_EQ(number("out/dataset.json", "dropped/ratings/no_user_id"), 1);
    EXPECT_EQ(number("out/dataset.json", "dropped/ratings/no_item_id"), 1);
    EXPECT_EQ(number("out/dataset.json", "dropped/ratings/no_rating"), 1);
    EXPECT_EQ(number("out/dataset.json", "dropped/ratings/rating_not_a_number"), 1);
    ASSERT_EQ(file_remove_tree(at("out").c_str()), SC_OK);

    EXPECT_EQ(import("userId,movieId,rating\n1,1\n", movies), SC_BAD_INPUT);
    EXPECT_TRUE(says("ratings.csv:2")) << sc_last_error();
    EXPECT_EQ(import("userId,movieId,rating\n", movies), SC_BAD_INPUT);
    EXPECT_TRUE(says("none of 0")) << sc_last_error();
    EXPECT_EQ(import("user,movieId,rating\n", movies), SC_BAD_INPUT);
    EXPECT_TRUE(says("userId")) << sc_last_error();
    EXPECT_EQ(import(ratings, movies + "1,Again,x\n"), SC_BAD_INPUT);
    EXPECT_TRUE(says("movies.csv:5")) << sc_last_error();
    EXPECT_EQ(import(ratings, movies + "5,\"Open,x\n"), SC_BAD_INPUT);
    EXPECT_TRUE(says("movies.csv:5")) << sc_last_error();
    EXPECT_EQ(import(ratings, movies, "movieId,imdbId\n1,abc\n"), SC_BAD_INPUT);
    EXPECT_TRUE(says("links.csv:2")) << sc_last_error();
    EXPECT_EQ(import(ratings, movies, "movieId,imdbId\n1,5\n1,6\n"), SC_BAD_INPUT);
    EXPECT_TRUE(says("links.csv:3")) << sc_last_error();
    EXPECT_FALSE(file_exists(at("out").c_str()));
    EXPECT_TRUE(tidy());
}

} // namespace
