#include "support.h"

namespace
{

class Dialogues : public Data
{
  protected:
    sc_status read(const std::string &bytes)
    {
        dialogues_free(&d);
        return dialogues_read(make("d.jsonl", bytes).c_str(), &d);
    }
    void TearDown() override
    {
        dialogues_free(&d);
        Data::TearDown();
    }
    dialogues d = {};
};

const char good[] =
    R"({"id":"a","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"1. Heat"}],)"
    R"("targets":["Heat","Alien"],"seen":["Jaws"],"request":"Hi","seed":{"rows":[1]},"provenance":null})"
    "\n";

TEST_F(Dialogues, ReadsALine)
{
    ASSERT_EQ(read(std::string(good) + "\n" +
                   R"({"id":"b","messages":[{"role":"system","content":"S"}]})"
                   "\n"),
              SC_OK)
        << sc_last_error();
    ASSERT_EQ(d.n, 2u);
    EXPECT_STREQ(d.rows[0].id, "a");
    ASSERT_EQ(d.rows[0].n_messages, 2u);
    EXPECT_STREQ(d.rows[0].messages[1].role, "assistant");
    EXPECT_STREQ(d.rows[0].messages[1].content, "1. Heat");
    ASSERT_EQ(d.rows[0].n_targets, 2u);
    EXPECT_STREQ(d.rows[0].targets[1], "Alien");
    ASSERT_EQ(d.rows[0].n_seen, 1u);
    EXPECT_STREQ(d.rows[0].request, "Hi");
    EXPECT_EQ(json_object_size(d.rows[0].extra), 2u);
    EXPECT_NE(json_object_get(d.rows[0].extra, "seed"), nullptr);
    EXPECT_EQ(d.rows[1].request, nullptr);
    EXPECT_EQ(d.rows[1].n_targets, 0u);
    char hex[65];
    ASSERT_EQ(file_sha256(at("d.jsonl").c_str(), hex), SC_OK);
    EXPECT_STREQ(d.sha256, hex);
}

TEST_F(Dialogues, NamesTheLineOfWhatIsWrong)
{
    struct {
        std::string line, words;
    } const bad[] = {
        {good, "used before"},
        {"{", "JSON"},
        {"7", ""},
        {R"({"messages":[{"role":"user","content":"x"}]})", "id"},
        {R"({"id":"","messages":[{"role":"user","content":"x"}]})", "id"},
        {R"({"id":5,"messages":[{"role":"user","content":"x"}]})", "id"},
        {R"({"id":"b"})", "messages"},
        {R"({"id":"b","messages":[]})", "empty"},
        {R"({"id":"b","messages":["x"]})", "messages"},
        {R"({"id":"b","messages":[{"role":"robot","content":"x"}]})", "robot"},
        {R"({"id":"b","messages":[{"role":"user"}]})", "content"},
        {R"({"id":"b","messages":[{"role":"user","content":" \n"}]})", "empty"},
        {R"({"id":"b","messages":[{"role":"user","content":"x"}],"targets":"Heat"})", "targets"},
        {R"({"id":"b","messages":[{"role":"user","content":"x"}],"targets":[""]})", "targets"},
        {R"({"id":"b","messages":[{"role":"user","content":"x"}],"seen":[1]})", "seen"},
        {R"({"id":"b","messages":[{"role":"user","content":"x"}],"request":1})", "request"},
        {"{\"id\":\"b\xFF\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", ""},
        {R"({"id":"b","id":"c","messages":[{"role":"user","content":"x"}]})", "duplicate"},
    };
    for (const auto &b : bad) {
        EXPECT_EQ(read(good + b.line + "\n"), SC_BAD_INPUT) << b.line;
        EXPECT_TRUE(says("d.jsonl:2")) << sc_last_error();
        EXPECT_TRUE(says(b.words)) << sc_last_error();
        EXPECT_EQ(d.n, 0u);
    }
    EXPECT_EQ(read(""), SC_BAD_INPUT);
    EXPECT_TRUE(says("no dialogues")) << sc_last_error();
    EXPECT_EQ(dialogues_read(at("absent").c_str(), &d), SC_BAD_INPUT);
}

std::string taken(strbuf *s)
{
    std::string value(strbuf_text(s), s->len);
    strbuf_free(s);
    return value;
}

TEST(Prompt, ConversationFollowsTheProtocol)
{
    const char *turns[] = {"", "Hello", " ", "Name one", "Heat"};
    strbuf out = {};
    ASSERT_EQ(dialogue_conversation_text(turns, 5, 0, &out), SC_OK);
    EXPECT_EQ(taken(&out), "\nSystem: Hello\nSystem: Name one\nUser: Heat\nSystem: ");
    ASSERT_EQ(dialogue_conversation_text(turns, 5, 1, &out), SC_OK);
    EXPECT_EQ(taken(&out), "\nUser: Hello\nUser: Name one\nSystem: Heat\nSystem: ");
    ASSERT_EQ(dialogue_conversation_text(turns, 0, 0, &out), SC_OK);
    EXPECT_EQ(taken(&out), "\nSystem: ");
}

TEST(Prompt, DefaultIsThePublishedOne)
{
    strbuf out = {};
    ASSERT_EQ(dialogue_prompt(nullptr, nullptr, "movie", "\nUser: {hi}\nSystem: ", &out), SC_OK)
        << sc_last_error();
    EXPECT_EQ(
        taken(&out),
        "Pretend you are a movie recommender system. \n I will give you a conversation between a user and "
        "you (a "
        "recommender system). Based on the conversation, you reply me with 20 recommendations without extra "
        "sentences.\n Here is the conversation: \nUser: {hi}\nSystem: ");
    ASSERT_EQ(dialogue_prompt("{domain}: {conversation} {{x}}", "p.txt", "book", "C", &out), SC_OK);
    EXPECT_EQ(taken(&out), "book: C {x}");
    EXPECT_EQ(dialogue_prompt("no place {{conversation}}", "p.txt", "book", "C", &out), SC_BAD_INPUT);
    EXPECT_TRUE(says("p.txt")) << sc_last_error();
    strbuf_free(&out);
    EXPECT_EQ(dialogue_prompt("{conversation} {titel}", "p.txt", "book", "C", &out), SC_BAD_INPUT);
    EXPECT_TRUE(says("titel")) << sc_last_error();
    strbuf_free(&out);
}

TEST(Titles, EntityNames)
{
    const char *pairs[][2] = {
        {"<http://dbpedia.org/resource/Hoffa_(film)>", "Hoffa"},
        {"<http://dbpedia.org/resource/Spider-Man_(2002_film)>", "Spider Man"},
        {"<http://dbpedia.org/resource/Face/Off>", "Off"},
        {"<http://dbpedia.org/resource/Kris_Bowers__PersonFunction__1>", "Kris Bowers PersonFunction 1"},
        {"Pari (1995)", "Pari"},
        {"A (b (c) d) e", "A (b d) e"}, /* the innermost pair only, once */
        {"x (open", "x (open"},
        {"Amélie_(film)", "Amélie"},
    };
    for (const auto &p : pairs) {
        strbuf out = {};
        ASSERT_EQ(dialogue_entity_name(p[0], &out), SC_OK);
        EXPECT_EQ(taken(&out), p[1]);
    }
}

TEST(Titles, PlainTitles)
{
    const char *pairs[][2] = {
        {"Heat (1995)", "Heat"},
        {"  The  Others  (2001) ", "The Others"},
        {"1984 (1984)", "1984"},
        {"(1999)", "(1999)"},
        {"Heat", "Heat"},
        {"(500) Days of Summer (2009)", "(500) Days of Summer"},
        {"Seven (Se7en)", "Seven (Se7en)"},
        {"Seven (a.k.a. Se7en) (1995)", "Seven"},
        {"M*A*S*H (a.k.a. MASH) (TV) (1970)", "M*A*S*H"},
        {"(500) (2009)", "(500)"},
        {"USB cable (2 pack)", "USB cable (2 pack)"},
        {"M (19x1)", "M (19x1)"},
        {"", ""},
    };
    for (const auto &p : pairs) {
        strbuf out = {};
        ASSERT_EQ(dataset_plain_title(p[0], &out), SC_OK);
        EXPECT_EQ(taken(&out), p[1]);
    }
}

} // namespace
