// Templates: the built-in pools are whole, files are checked, texts are expanded as written.
#include <map>
#include <set>

#include "synthesis/support.h"

extern "C" {
#include "synthesis/templates.h"
}

namespace
{
const char *const names[SLOT_COUNT] = {"P1",        "P2",       "P3",       "Q",
                                       "M",         "M2",       "a M",      "G1",
                                       "Gs",        "a G",      "H1",       "Hs",
                                       "a H",       "TH",       "Ann Lee",  "the 90s",
                                       "The Title", "Like One", "Like Two", "Like One and Like Two",
                                       "movie",     "movies",   "a movie"};

TEST(Templates, PoolsAreWhole)
{
    for (bool stories : {true, false}) {
        template_pool pool = {};
        ASSERT_EQ(templates_builtin(stories, &pool), SC_OK) << sc_last_error();
        EXPECT_GE(pool.n, stories ? 40u : 20u);
        std::set<std::string> ids;
        size_t conversations = 0, targets = 0, likes = 0;
        for (size_t i = 0; i < pool.n; i++) {
            const style_template &t = pool.at[i];
            EXPECT_TRUE(ids.insert(t.id).second) << t.id;
            conversations += t.n_turns > 1;
            targets += t.mentions_target;
            likes += (t.slots & (7u << SLOT_LIKE1)) != 0;
            EXPECT_LE(t.n_turns, 5u);
            for (uint32_t step = 0; step < 20; step++) {
                random_stream r = random_at(0, RANDOM_TEST, i, step);
                template_turns turns = {};
                ASSERT_TRUE(templates_fits(&pool, &t, names));
                ASSERT_EQ(templates_expand(&pool, &t, names, &r, &turns), SC_OK);
                EXPECT_EQ(turns.n, t.n_turns);
                for (size_t k = 0; k < turns.n; k++) {
                    std::string text = turns.at[k];
                    EXPECT_FALSE(text.empty()) << t.id;
                    EXPECT_EQ(text.find_first_of("{}[]|\n\x02\x03"), std::string::npos)
                        << t.id << ": " << text;
                    EXPECT_EQ(text.find("  "), std::string::npos) << t.id << ": " << text;
                    EXPECT_EQ(text.find(" ."), std::string::npos) << t.id << ": " << text;
                    EXPECT_TRUE(t.mentions_target || text.find("The Title") == std::string::npos) << t.id;
                }
                template_turns_free(&turns);
            }
        }
        EXPECT_GE(conversations, stories ? 12u : 4u);
        EXPECT_GE(targets, 1u);
        EXPECT_LT(targets, pool.n / 5); // a minority
        EXPECT_GE(likes, 3u);
        templates_free(&pool);
    }
}

TEST(Templates, AlternativesThatCannotBeSaidArePassedOver)
{
    Folder folder;
    std::string lines;
    for (int i = 0; i < 5; i++)
        lines += "{\"id\":\"a" + std::to_string(i) +
                 "\",\"text\":\"want [{mood} ones|plain ones] from {genres}. ok\"}\n";
    template_pool pool = {};
    ASSERT_EQ(templates_read(folder.write("t.jsonl", lines).c_str(), true, &pool), SC_OK) << sc_last_error();
    const char *values[SLOT_COUNT] = {};
    EXPECT_FALSE(templates_fits(&pool, &pool.at[0], values));
    values[SLOT_GENRES] = "westerns";
    EXPECT_TRUE(templates_fits(&pool, &pool.at[0], values));
    for (uint32_t step = 0; step < 8; step++) {
        random_stream r = random_at(0, RANDOM_TEST, 0, step);
        template_turns turns = {};
        ASSERT_EQ(templates_expand(&pool, &pool.at[0], values, &r, &turns), SC_OK);
        EXPECT_STREQ(turns.at[0], "Want plain ones from westerns. Ok");
        template_turns_free(&turns);
    }
    templates_free(&pool);
}

TEST(Templates, NamesKeepTheirLetters)
{
    Folder folder;
    std::string lines;
    for (int i = 0; i < 5; i++)
        lines += "{\"id\":\"a" + std::to_string(i) +
                 "\",\"text\":\"User: i saw {like1}. great\\nSystem: ok\\nUser: more\"}\n";
    template_pool pool = {};
    ASSERT_EQ(templates_read(folder.write("t.jsonl", lines).c_str(), true, &pool), SC_OK) << sc_last_error();
    const char *values[SLOT_COUNT] = {};
    values[SLOT_LIKE1] = "E.T. the  [odd] {one}";
    random_stream r = random_at(0, RANDOM_TEST, 0, 0);
    template_turns turns = {};
    ASSERT_EQ(templates_expand(&pool, &pool.at[0], values, &r, &turns), SC_OK);
    ASSERT_EQ(turns.n, 3u);
    EXPECT_STREQ(turns.at[0], "I saw E.T. the  [odd] {one}. Great");
    EXPECT_TRUE(turns.user_first);
    template_turns_free(&turns);
    values[SLOT_LIKE1] = "When Harry Met Sally...";
    r = random_at(0, RANDOM_TEST, 0, 0);
    ASSERT_EQ(templates_expand(&pool, &pool.at[0], values, &r, &turns), SC_OK);
    EXPECT_STREQ(turns.at[0], "I saw When Harry Met Sally... Great");
    template_turns_free(&turns);
    templates_free(&pool);
}

TEST(Templates, FilesAreChecked)
{
    Folder folder;
    std::string good;
    for (int i = 0; i < 5; i++)
        good += "{\"id\":\"g" + std::to_string(i) + "\",\"text\":\"one {domain}\"}\n";
    struct Case {
        std::string line, said;
    } cases[] = {{"{\"id\":\"x\",\"text\":\"a {nothing}\"}", "nothing"},
                 {"{\"id\":\"x\",\"text\":\"a [b|c\"}", "brackets"},
                 {"{\"id\":\"x\",\"text\":\"a b]\"}", "brackets"},
                 {"{\"id\":\"x\",\"text\":\"a {domain\"}", "slot"},
                 {"{\"id\":\"x\",\"text\":\"a }\"}", "'}'"},
                 {"{\"id\":\"x\",\"text\":\"User: a\\nUser: b\"}", "in turn"},
                 {"{\"id\":\"x\",\"text\":\"User: a\\nb\"}", "in turn"},
                 {"{\"id\":\"x\",\"text\":\"User: a\\nSystem: b\"}", "last word"},
                 {"{\"id\":\"x\",\"text\":\"like {title}\"}", "mentions_target"},
                 {"{\"id\":\"g1\",\"text\":\"a\"}", "two templates"},
                 {"{\"id\":\"x\"}", "text"},
                 {"not json", ":6"}};
    for (const Case &c : cases) {
        template_pool pool = {};
        std::string path = folder.write("bad.jsonl", good + c.line + "\n");
        EXPECT_EQ(templates_read(path.c_str(), true, &pool), SC_BAD_INPUT) << c.line;
        EXPECT_NE(std::string(sc_last_error()).find(c.said), std::string::npos)
            << c.line << ": " << sc_last_error();
        EXPECT_NE(std::string(sc_last_error()).find(":6"), std::string::npos) << sc_last_error();
    }
    template_pool pool = {};
    EXPECT_EQ(
        templates_read(folder.write("few.jsonl", "{\"id\":\"g\",\"text\":\"a\"}\n").c_str(), true, &pool),
        SC_BAD_INPUT);
    EXPECT_EQ(templates_read((folder / "absent").c_str(), true, &pool), SC_BAD_INPUT);
}
} // namespace
