// Neighbours: a catalogue made by hand, where the right order is known.
#include "synthesis/support.h"

extern "C" {
#include "synthesis/neighbours.h"
}

namespace
{
// Items 0..7; users who like {0,1} together, {0,2} more seldom; 3 shares a person, 4 a genre, 5 nothing,
// 6 has no title, 7 has the title of 1 and fewer likes.
struct Catalogue {
    std::vector<item> items = std::vector<item>(8);
    std::vector<interaction> interactions;
    dataset data = {};
    neighbours *near = nullptr;
    std::vector<std::string> titles = {"Zero (1990)", "One (1991)", "Two", "Three",
                                       "Four",        "Five",       "",    "One (2015)"};
    std::vector<std::string> ids = {"i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7"};
    char *western[1] = {(char *)"Western"}, *drama[1] = {(char *)"Drama"},
         *both[2] = {(char *)"Western", (char *)"Drama"};
    char *ann[1] = {(char *)"Ann Lee"};

    explicit Catalogue(const float *embeddings = nullptr, size_t dim = 0)
    {
        for (size_t i = 0; i < 8; i++) {
            items[i].id = ids[i].data();
            items[i].title = i == 6 ? nullptr : titles[i].data();
            items[i].description = (char *)"";
            items[i].categories = i == 5 ? drama : i == 0 ? both : western;
            items[i].n_categories = i == 0 ? 2 : i == 3 ? 0 : 1;
        }
        items[0].people = items[3].people = ann;
        items[0].n_people = items[3].n_people = 1;
        items[0].year = 1990;
        int user = 0;
        for (int k = 0; k < 12; k++, user++)
            like(user, {0, 1});
        for (int k = 0; k < 6; k++, user++)
            like(user, {0, 2});
        for (int k = 0; k < 4; k++, user++)
            like(user, {7});
        // Low ratings are no likes, however many.
        for (int k = 0; k < 20; k++, user++) {
            interactions.push_back({user, 0, 5});
            interactions.push_back({user, 5, 1});
        }
        data.items = items.data();
        data.n_items = items.size();
        data.interactions = interactions.data();
        data.n_interactions = interactions.size();
        data.n_users = (size_t)user;
        data.path = (char *)"hand-made";
        EXPECT_EQ(neighbours_create(&data, embeddings, dim, &near), SC_OK) << sc_last_error();
    }
    ~Catalogue()
    {
        neighbours_free(near);
    }
    void like(int user, std::initializer_list<int> which)
    {
        for (int i : which)
            interactions.push_back({user, i, 5});
    }
    std::vector<int> rank(neighbour_query q, size_t k = 20)
    {
        neighbour out[20];
        size_t n = 0;
        EXPECT_EQ(neighbours_rank(near, &q, k, out, &n), SC_OK) << sc_last_error();
        std::vector<int> r;
        for (size_t i = 0; i < n; i++)
            r.push_back(out[i].item);
        return r;
    }
    neighbour_query about(size_t i)
    {
        neighbour_query q = {};
        q.subject = &items[i];
        return q;
    }
};

TEST(Neighbours, CoRatingsLeadAndMetadataFillsUp)
{
    Catalogue c;
    std::vector<int> r = c.rank(c.about(0));
    ASSERT_GE(r.size(), 5u);
    EXPECT_EQ(r[0], 0); // itself
    EXPECT_EQ(r[1], 1);
    EXPECT_EQ(r[2], 2);
    // Nobody rated 3 and 4 together with 0: shared person before nothing; 5 was only disliked.
    EXPECT_EQ(std::count(r.begin(), r.end(), 6), 0); // no title
    EXPECT_EQ(std::count(r.begin(), r.end(), 7), 0); // the same title as 1, less liked
    EXPECT_EQ(r.size(), 6u);
    neighbour out[20];
    size_t n = 0;
    neighbour_query q = c.about(0);
    ASSERT_EQ(neighbours_rank(c.near, &q, 20, out, &n), SC_OK);
    EXPECT_EQ(out[0].source, NEIGHBOUR_SEED);
    EXPECT_EQ(out[1].source, NEIGHBOUR_CO_RATED);
    EXPECT_EQ(out[5].source, NEIGHBOUR_CONTENT);
    for (size_t i = 1; i < n; i++)
        EXPECT_GE(out[i - 1].score, out[i].score);
}

TEST(Neighbours, OneSharedUserIsNoEvidence)
{
    Catalogue c;
    int user = (int)c.data.n_users;
    c.interactions.push_back({user, 3, 5});
    c.interactions.push_back({user, 5, 5});
    c.data.interactions = c.interactions.data();
    c.data.n_interactions = c.interactions.size();
    c.data.n_users++;
    neighbours_free(c.near);
    ASSERT_EQ(neighbours_create(&c.data, nullptr, 0, &c.near), SC_OK);
    neighbour out[20];
    size_t n = 0;
    neighbour_query q = c.about(3);
    ASSERT_EQ(neighbours_rank(c.near, &q, 20, out, &n), SC_OK);
    for (size_t i = 0; i < n; i++)
        EXPECT_NE(out[i].source, NEIGHBOUR_CO_RATED);
}

TEST(Neighbours, WhatIsAskedForComesFirstAndWhatIsExcludedNever)
{
    Catalogue c;
    neighbour_query q = c.about(5);
    q.person = "ann lee";
    EXPECT_TRUE(c.rank(q)[1] == 0 || c.rank(q)[1] == 3);
    const char *out[] = {"one", "FIVE"};
    q.exclude = out;
    q.n_exclude = 2;
    std::vector<int> r = c.rank(q);
    for (int i : r)
        EXPECT_TRUE(i != 1 && i != 5 && i != 7);
    neighbour_query liked = c.about(5);
    int32_t zero = 0;
    liked.liked = &zero;
    liked.n_liked = 1;
    EXPECT_EQ(c.rank(liked)[0], 0); // like 5 and 0: both lead, and 0 is the more liked one
}

TEST(Neighbours, AnItemOfAnotherDataSetIsFoundByTitleAndYear)
{
    Catalogue c;
    item x = {};
    x.id = (char *)"elsewhere";
    x.title = (char *)"one";
    x.year = 1991;
    EXPECT_EQ(neighbours_locate(c.near, &x), 1);
    x.title = (char *)"Unheard of";
    EXPECT_EQ(neighbours_locate(c.near, &x), -1);
    x.categories = c.western;
    x.n_categories = 1;
    neighbour_query q = {};
    q.subject = &x;
    std::vector<int> r = c.rank(q); // content alone
    ASSERT_EQ(r.size(), 6u);
    EXPECT_NE(r.back(), 4);
    x.title = nullptr;
    EXPECT_EQ(neighbours_locate(c.near, &x), -1);
}

TEST(Neighbours, EmbeddingsDecideWhereNothingElseDoes)
{
    float e[8][2] = {{1, 0}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {1, 0}, {0, 1}, {0, 1}};
    Catalogue plain, with(&e[0][0], 2);
    auto position = [](const std::vector<int> &r, int i) {
        return std::find(r.begin(), r.end(), i) - r.begin();
    };
    EXPECT_LT(position(with.rank(with.about(0)), 5), position(with.rank(with.about(0)), 4));
}

TEST(Neighbours, RefusesWhatItCannotUse)
{
    dataset d = {};
    d.path = (char *)"empty";
    neighbours *near = nullptr;
    EXPECT_EQ(neighbours_create(&d, nullptr, 0, &near), SC_BAD_INPUT);
    EXPECT_EQ(near, nullptr);
    Catalogue c;
    c.interactions.push_back({(int)c.data.n_users + 5, 0, 5});
    c.data.interactions = c.interactions.data();
    c.data.n_interactions = c.interactions.size();
    EXPECT_EQ(neighbours_create(&c.data, nullptr, 0, &near), SC_BAD_INPUT);
}
} // namespace
