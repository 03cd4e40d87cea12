#include "support.h"

#include <cmath>

#include "data/dataset_writer.h"
extern "C" {
#include "formats/npy.h"
}

namespace
{

/* A good folder of two users and two items, which each test then spoils. */
class Dataset : public Data
{
  protected:
    void SetUp() override
    {
        Data::SetUp();
        ASSERT_EQ(import_reviews({make("r.jsonl", review_line("u", "a", "x") + review_line("v", "b", "y"))}),
                  SC_OK)
            << sc_last_error();
    }
    sc_status open(int parts = DATASET_ALL)
    {
        dataset *d = nullptr;
        sc_status status = dataset_open(at("out").c_str(), parts, &d);
        EXPECT_EQ(status == SC_OK, d != nullptr);
        dataset_close(d);
        return status;
    }
    void pairs(const std::vector<int32_t> &values, int64_t columns = 2)
    {
        const int64_t shape[] = {static_cast<int64_t>(values.size()) / columns, columns};
        ASSERT_EQ(npy_write(at("out/interactions.npy").c_str(), NPY_I4, 2, shape, values.data()), SC_OK);
    }
    void ratings(const std::vector<float> &values)
    {
        const int64_t shape[] = {static_cast<int64_t>(values.size())};
        ASSERT_EQ(npy_write(at("out/interactions_rating.npy").c_str(), NPY_F4, 1, shape, values.data()),
                  SC_OK);
    }
};

TEST_F(Dataset, OpensTheParts)
{
    EXPECT_EQ(open(), SC_OK) << sc_last_error();
    EXPECT_EQ(open(DATASET_ITEMS), SC_OK);
    unlink(at("out/interactions.npy").c_str());
    EXPECT_EQ(open(DATASET_REVIEWS | DATASET_ITEMS), SC_OK) << sc_last_error();
    EXPECT_EQ(open(DATASET_INTERACTIONS), SC_BAD_INPUT);
    EXPECT_TRUE(says("interactions.npy")) << sc_last_error();
    unlink(at("out/items.jsonl").c_str());
    unlink(at("out/users.txt").c_str());
    EXPECT_EQ(open(DATASET_REVIEWS), SC_OK) << sc_last_error();
    EXPECT_EQ(open(DATASET_ITEMS), SC_BAD_INPUT);
    unlink(at("out/reviews.jsonl").c_str());
    EXPECT_EQ(open(DATASET_REVIEWS), SC_BAD_INPUT);
    EXPECT_TRUE(says("reviews.jsonl")) << sc_last_error();
    dataset *d = nullptr;
    EXPECT_EQ(dataset_open(at("absent").c_str(), DATASET_ALL, &d), SC_BAD_INPUT);
    EXPECT_EQ(dataset_open(at("r.jsonl").c_str(), DATASET_ALL, &d), SC_BAD_INPUT);
    dataset_close(nullptr);
}

TEST_F(Dataset, ReviewsWithoutItemsHaveNone)
{
    unlink(at("out/items.jsonl").c_str());
    dataset *d = nullptr;
    ASSERT_EQ(dataset_open(at("out").c_str(), DATASET_REVIEWS, &d), SC_OK);
    EXPECT_EQ(d->reviews[0].item, -1);
    EXPECT_EQ(d->reviews[1].user, 1);
    EXPECT_STREQ(d->users[1], "v");
    dataset_close(d);
}

TEST_F(Dataset, RefusesInteractionsThatDoNotFit)
{
    struct {
        std::vector<int32_t> pairs;
        std::vector<float> ratings;
        const char *words;
    } const bad[] = {
        {{0, 0, 1, 2}, {1, 1}, "row 1"},
        {{0, -1, 1, 0}, {1, 1}, "row 0"},
        {{2, 0}, {1}, "row 0"},
        {{1, 0, 0, 0}, {1, 1}, "sorted"},
        {{0, 0, 0, 0}, {1, 1}, "sorted"},
        {{0, 0}, {NAN}, "row 0"},
        {{0, 0, 1, 1}, {1}, "interactions_rating.npy"},
        {{}, {}, "no interactions"},
    };
    for (const auto &b : bad) {
        pairs(b.pairs);
        ratings(b.ratings);
        EXPECT_EQ(open(), SC_BAD_INPUT) << b.words;
        EXPECT_TRUE(says(b.words)) << sc_last_error();
    }
    pairs({0, 0, 0, 1, 1, 1}, 3);
    ratings({1, 1});
    EXPECT_EQ(open(), SC_BAD_INPUT);
    make("out/interactions.npy", "garbage");
    EXPECT_EQ(open(), SC_BAD_INPUT);
    EXPECT_TRUE(says("interactions.npy")) << sc_last_error();
}

TEST_F(Dataset, NamesTheLineOfWhatIsWrong)
{
    struct {
        const char *file, *bytes, *words;
    } const bad[] = {
        {"items.jsonl", "{\"parent_asin\":\"a\"}\n{\"parent_asin\":\"a\"}\n", ":2"},
        {"items.jsonl", "{\"parent_asin\":\"a\"}\n{\"title\":\"x\"}\n", ":2"},
        {"items.jsonl", "{\"parent_asin\":\"a\"}\n[]\n", ":2"},
        {"items.jsonl", "", "no items"},
        {"users.txt", "u\nu\n", ":2"},
        {"users.txt", "u\n\nv\n", ":2"},
        {"reviews.jsonl", "{\"review_id\":\"1\"}\n", ":1"},
        {"reviews.jsonl", "", "no reviews"},
        {"reviews.jsonl", "{}{}\n", ":1"},
    };
    for (const auto &b : bad) {
        std::string path = std::string("out/") + b.file, before = bytes_of(at(path));
        make(path, b.bytes);
        EXPECT_EQ(open(), SC_BAD_INPUT) << b.file << b.bytes;
        EXPECT_TRUE(says(b.file)) << sc_last_error();
        EXPECT_TRUE(says(b.words)) << sc_last_error();
        make(path, before);
    }
    make("out/reviews.jsonl", bytes_of(at("out/reviews.jsonl")) + bytes_of(at("out/reviews.jsonl")));
    EXPECT_EQ(open(), SC_BAD_INPUT);
    EXPECT_TRUE(says(":3")) << sc_last_error();
}

TEST_F(Dataset, WriterLeavesNothingWhenDiscarded)
{
    dataset_writer *w = nullptr;
    ASSERT_EQ(dataset_writer_open(at("fresh/deep/er").c_str(), true, &w), SC_OK) << sc_last_error();
    ASSERT_EQ(dataset_writer_interaction(w, "u", "i", 1, nullptr), SC_OK);
    dataset_writer_discard(&w);
    EXPECT_EQ(w, nullptr);
    EXPECT_FALSE(file_exists(at("fresh/deep/er").c_str()));
    EXPECT_EQ(rmdir(at("fresh/deep").c_str()), 0); /* empty again */
    dataset_writer_discard(&w);
}

TEST_F(Dataset, ItemsKeepTheirLine)
{
    dataset_writer *w = nullptr;
    ASSERT_EQ(dataset_writer_open(at("w/").c_str(), false, &w), SC_OK) << sc_last_error();
    bool is_new = false;
    Json a(json_pack("{s:s}", "parent_asin", "a")), b(json_pack("{s:s}", "parent_asin", "b"));
    ASSERT_EQ(dataset_writer_item(w, a.get(), &is_new), SC_OK);
    EXPECT_TRUE(is_new);
    ASSERT_EQ(dataset_writer_item(w, a.get(), &is_new), SC_OK);
    EXPECT_FALSE(is_new);
    ASSERT_EQ(dataset_writer_interaction(w, "u", "x", 1, nullptr), SC_OK);
    EXPECT_EQ(dataset_writer_item(w, b.get(), &is_new), SC_INTERNAL); /* its line would be that of x */
    Json description(json_object());
    ASSERT_EQ(dataset_writer_commit(&w, description.get()), SC_OK) << sc_last_error();
    EXPECT_EQ(bytes_of(at("w/items.jsonl")).substr(0, 20), "{\"parent_asin\":\"a\"}\n");
}

} // namespace
