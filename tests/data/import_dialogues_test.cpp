#include "support.h"

#include <algorithm>

namespace
{

using Import = Data;

const char entities[] =
    R"j({"<http://dbpedia.org/resource/Heat_(1995_film)>":3,"<http://dbpedia.org/resource/Al_Pacino>":4,)j"
    R"j("<http://dbpedia.org/resource/Alien_(film)>":7})j";

std::string he_line(const std::string &turn, const std::string &rec = "[3]",
                    const std::string &context = R"(["","Hi","Hello"])")
{
    return R"({"context":)" + context + R"(,"rec":)" + rec +
           R"(,"prev_entity":[4,7],"dialog_id":"d","turn_id":)" + turn + R"(,"is_user":0})" + "\n";
}

TEST_F(Import, He2023)
{
    std::string items = make("entity2id.json", entities);
    make("item_ids.json", "[3, 7]");
    ASSERT_EQ(import_dialogues("he2023", make("t.jsonl", he_line("1", "[3,7]") + he_line("1")), items), SC_OK)
        << sc_last_error();
    EXPECT_EQ(result.n_dialogues, 2);
    EXPECT_EQ(result.n_items, 2);
    auto rows = lines("out.jsonl");
    EXPECT_EQ(text(rows[0].get(), "id"), "d:1");
    EXPECT_EQ(text(rows[1].get(), "id"), "d:1-2");
    EXPECT_EQ(texts(rows[0].get(), "targets"), (Strings{"Heat", "Alien"}));
    EXPECT_EQ(texts(rows[0].get(), "condition"), (Strings{"rec", "dis"}));
    EXPECT_EQ(texts(rows[0].get(), "seen"), (Strings{"Al Pacino", "Alien"}));
    EXPECT_EQ(text(rows[0].get(), "request"), "\nSystem: Hi\nUser: Hello\nSystem: ");
    auto candidates = lines("out.items.jsonl");
    ASSERT_EQ(candidates.size(), 2u);
    EXPECT_EQ(text(candidates[0].get(), "parent_asin"), "3");
    EXPECT_EQ(text(candidates[0].get(), "title"), "Heat");
    EXPECT_EQ(number("out.import.json", "counts/targets"), 3);
    EXPECT_EQ(number("out.import.json", "counts/new_targets"), 2);
    dialogues d = {};
    ASSERT_EQ(dialogues_read(at("out.jsonl").c_str(), &d), SC_OK) << sc_last_error();
    ASSERT_EQ(d.rows[0].n_messages, 1u);
    EXPECT_STREQ(d.rows[0].messages[0].role, "user");
    EXPECT_EQ(std::string(d.rows[0].messages[0].content).find("Pretend you are a movie"), 0u);
    EXPECT_TRUE(text_ends(d.rows[0].messages[0].content,
                          "Here is the conversation: \nSystem: Hi\nUser: Hello\nSystem: "));
    dialogues_free(&d);
}

TEST_F(Import, He2023FollowsInput)
{
    std::string items = make("entity2id.json", entities);
    std::string line =
        R"({"context":["A","B","C"],"input":"\nSystem: A\nUser: B\nSystem: C\nSystem: ","rec":[3],"prev_entity":[],"dialog_id":1,"turn_id":2,"is_user":0})";
    ASSERT_EQ(import_dialogues("he2023", make("t.jsonl", line), items), SC_OK) << sc_last_error();
    EXPECT_EQ(text(lines("out.jsonl")[0].get(), "request"), "\nSystem: A\nUser: B\nSystem: C\nSystem: ");
    line.replace(line.find("\"C\""), 3, "\"D\"");
    EXPECT_EQ(import_dialogues("he2023", make("t.jsonl", line), items), SC_BAD_INPUT);
    EXPECT_TRUE(says("t.jsonl:1")) << sc_last_error();
    EXPECT_TRUE(says("input")) << sc_last_error();
}

TEST_F(Import, He2023NamesWhatIsWrong)
{
    std::string items = make("entity2id.json", entities);
    for (const std::string &line :
         {he_line("1", "[99]"), he_line("1", "[\"x\"]"), he_line("1", "5"), he_line("null"),
          he_line("1", "[3]", "[1]"), std::string("{\"rec\":[3]}\n"), std::string("{\n")}) {
        EXPECT_EQ(import_dialogues("he2023", make("t.jsonl", he_line("1") + line), items), SC_BAD_INPUT)
            << line;
        EXPECT_TRUE(says("t.jsonl:2")) << sc_last_error();
    }
    EXPECT_EQ(import_dialogues("he2023", make("t.jsonl", he_line("1"))), SC_USAGE);
    EXPECT_TRUE(says("--items")) << sc_last_error();
    std::string users =
        R"({"context":["x"],"rec":[3],"prev_entity":[],"dialog_id":1,"turn_id":2,"is_user":1})";
    EXPECT_EQ(import_dialogues("he2023", make("t.jsonl", users), items), SC_BAD_INPUT);
    EXPECT_TRUE(says("none of 1 records")) << sc_last_error();
    EXPECT_EQ(import_dialogues("he2023", make("t.jsonl", users + "\n" + he_line("1")), items), SC_OK);
    EXPECT_EQ(number("out.import.json", "dropped/user_turn"), 1);
    make("item_ids.json", "[3, 8]");
    EXPECT_EQ(import_dialogues("he2023", make("t.jsonl", he_line("1")), items), SC_BAD_INPUT);
    EXPECT_TRUE(says("item_ids.json")) << sc_last_error();
    for (const char *bytes : {"", "[]", "{}", "{\"a\":\"b\"}", "{\"a\":1,\"b\":1}", "{\"a\":1,\"b\":\"x\"}",
                              "{\"a\":1,\"a\":2}"}) {
        unlink(at("item_ids.json").c_str());
        EXPECT_EQ(import_dialogues("he2023", at("t.jsonl"), make("entity2id.json", bytes)), SC_BAD_INPUT)
            << bytes;
        EXPECT_TRUE(says("entity2id.json")) << sc_last_error();
    }
}

TEST_F(Import, AFailureLeavesTheOldFile)
{
    std::string items = make("entity2id.json", entities);
    ASSERT_EQ(import_dialogues("he2023", make("t.jsonl", he_line("1")), items), SC_OK);
    std::string before = bytes_of(at("out.jsonl"));
    EXPECT_EQ(import_dialogues("he2023", make("t.jsonl", he_line("1") + "{"), items), SC_BAD_INPUT);
    EXPECT_EQ(bytes_of(at("out.jsonl")), before);
    EXPECT_TRUE(tidy());
    EXPECT_EQ(import_dialogues("he2024", at("t.jsonl"), items), SC_USAGE);
    EXPECT_TRUE(says("he2023")) << sc_last_error();
    EXPECT_EQ(import_dialogues("he2023", at("t.jsonl"), items, -1), SC_USAGE);
}

TEST_F(Import, LimitDrawsRowsInFileOrder)
{
    std::string items = make("entity2id.json", entities), bytes;
    for (int i = 0; i < 200; i++)
        bytes += he_line(std::to_string(i));
    std::string input = make("t.jsonl", bytes);
    std::vector<std::vector<int>> drawn;
    for (int64_t seed : {0, 0, 1}) {
        ASSERT_EQ(import_dialogues("he2023", input, items, 20, seed), SC_OK) << sc_last_error();
        EXPECT_EQ(result.n_dialogues, 20);
        std::vector<int> turns;
        for (const Json &row : lines("out.jsonl"))
            turns.push_back(std::stoi(text(row.get(), "id").substr(2)));
        EXPECT_EQ(turns.size(), 20u);
        EXPECT_TRUE(std::is_sorted(turns.begin(), turns.end()));
        EXPECT_GT(turns.back(), 100); /* not just the first ones */
        drawn.push_back(turns);
    }
    EXPECT_EQ(drawn[0], drawn[1]);
    EXPECT_NE(drawn[0], drawn[2]);
    ASSERT_EQ(import_dialogues("he2023", input, items), SC_OK);
    std::string all = bytes_of(at("out.jsonl"));
    ASSERT_EQ(import_dialogues("he2023", input, items, 1000), SC_OK);
    EXPECT_EQ(bytes_of(at("out.jsonl")), all);
}

TEST_F(Import, APromptOfOnesOwn)
{
    std::string items = make("entity2id.json", entities), input = make("t.jsonl", he_line("1"));
    ASSERT_EQ(
        import_dialogues("he2023", input, items, 0, 0, make("p.txt", "Be a {domain} clerk.{conversation}\n")),
        SC_OK);
    const Json row = std::move(lines("out.jsonl")[0]);
    EXPECT_EQ(text(json_array_get(json_object_get(row.get(), "messages"), 0), "content"),
              "Be a movie clerk.\nSystem: Hi\nUser: Hello\nSystem: ");
    for (const char *bytes : {"", "no place", "{conversation} {x}", "{conversation", "\xFF{conversation}"}) {
        EXPECT_EQ(import_dialogues("he2023", input, items, 0, 0, make("p.txt", bytes)), SC_BAD_INPUT)
            << bytes;
        EXPECT_TRUE(says("p.txt")) << sc_last_error();
    }
}

TEST_F(Import, Nbcrs)
{
    ASSERT_EQ(
        import_dialogues(
            "nbcrs", make("t.csv", ",test_inputs,test_outputs\n0,\" Hi, there \",Heat\n1,,Alien\n2,x,\n")),
        SC_OK)
        << sc_last_error();
    auto rows = lines("out.jsonl");
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(text(rows[0].get(), "request"), "\nUser: Hi, there\nSystem: ");
    EXPECT_EQ(text(rows[1].get(), "request"), "\nSystem: ");
    EXPECT_EQ(texts(rows[1].get(), "targets"), (Strings{"Alien"}));
    EXPECT_EQ(number("out.import.json", "dropped/no_target"), 1);

    std::string head = ",movies,full_situation\n";
    ASSERT_EQ(
        import_dialogues("nbcrs", make("t.csv", head + R"(0,"['A', ""Don't"", 'It\'s', 'caf\xe9', 'A']",text)"
                                                       "\n"
                                                       "1,[],t\n")),
        SC_OK)
        << sc_last_error();
    EXPECT_EQ(texts(lines("out.jsonl")[0].get(), "targets"), (Strings{"A", "Don't", "It's", "café"}));
    for (const char *list : {"['A'", "['A' 'B']", "[A]", "", "['A\\q']", "['A'] x", "['A\\x4']", "['"}) {
        EXPECT_EQ(import_dialogues("nbcrs", make("t.csv", head + "0,['B'],t\n1," + list + ",text\n")),
                  SC_BAD_INPUT)
            << list;
        EXPECT_TRUE(says("t.csv:3")) << sc_last_error();
    }
}

TEST_F(Import, Redial)
{
    std::string line =
        R"j({"movieMentions":{"5":"The  Others  (2001)","6":null},"messages":[)j"
        R"j({"senderWorkerId":1,"text":"Hi, like @7"},{"senderWorkerId":1,"text":"please"},)j"
        R"j({"senderWorkerId":2,"text":"See @5! or @6"},{"senderWorkerId":1,"text":"a@b ok"},)j"
        R"j({"senderWorkerId":2,"text":"@5 again, @7"}],)j"
        R"j("conversationId":"c","respondentWorkerId":2,"initiatorWorkerId":1})j";
    std::string items = make(
        "id2info.json",
        R"j({"7":{"name":"Heat (1995)","genre":["crime"],"plot":"P","director":["Mann"],"star":["X"],"writer":[],"imdb_id":"tt1"}})j");
    ASSERT_EQ(import_dialogues("redial", make("t.jsonl", line), items), SC_OK) << sc_last_error();
    auto rows = lines("out.jsonl");
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(text(rows[0].get(), "request"), "\nUser: Hi, like Heat please\nSystem: ");
    EXPECT_EQ(texts(rows[0].get(), "targets"), (Strings{"The Others"}));
    EXPECT_EQ(texts(rows[0].get(), "seen"), (Strings{"Heat"}));
    EXPECT_EQ(text(rows[1].get(), "request"),
              "\nUser: Hi, like Heat please\nSystem: See The Others (2001)! or @6\nUser: a@b ok\nSystem: ");
    EXPECT_EQ(texts(rows[1].get(), "condition"), (Strings{"dis", "dis"}));
    EXPECT_EQ(number("out.import.json", "dropped/unknown_mention"), 1);
    EXPECT_EQ(text(lines("out.items.jsonl")[0].get(), "title"), "Heat (1995)");

    std::string stranger = line;
    stranger.replace(stranger.find("\"senderWorkerId\":2"), 18, "\"senderWorkerId\":3");
    EXPECT_EQ(import_dialogues("redial", make("t.jsonl", line + "\n" + stranger)), SC_BAD_INPUT);
    EXPECT_TRUE(says("t.jsonl:2")) << sc_last_error();

    std::string turn =
        R"j({"dialog_id":"1","turn_id":3,"context":["Hi","No","Like Heat (1995)"],"entity":["Heat (1995)"],"rec":["Alien (1979)","Heat (1995)"],"resp":"x"})j";
    ASSERT_EQ(import_dialogues("redial", make("t.jsonl", turn)), SC_OK) << sc_last_error();
    rows = lines("out.jsonl");
    EXPECT_EQ(text(rows[0].get(), "request"), "\nUser: Hi\nSystem: No\nUser: Like Heat (1995)\nSystem: ");
    EXPECT_EQ(texts(rows[0].get(), "condition"), (Strings{"rec", "dis"}));
}

TEST_F(Import, InspiredAndUnicrs)
{
    std::string head = "dialog_id\tspeaker\ttext\tmovies\n";
    ASSERT_EQ(
        import_dialogues(
            "inspired",
            make("t.tsv",
                 head +
                     "a\tRECOMMENDER\tHi\t\na\tSEEKER\tI saw QUOTATION_MARKHeatQUOTATION_MARK\tHeat (1995)\n"
                     "a\tSEEKER\tand \"x\t\na\tRECOMMENDER\tAlien?\tAlien (1979);  Heat (1995)\n"
                     "b\tSEEKER\tonly me\t\n")),
        SC_OK)
        << sc_last_error();
    auto rows = lines("out.jsonl");
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(text(rows[0].get(), "request"), "\nSystem: Hi\nUser: I saw \"Heat\" and \"x\nSystem: ");
    EXPECT_EQ(texts(rows[0].get(), "targets"), (Strings{"Alien", "Heat"}));
    EXPECT_EQ(texts(rows[0].get(), "condition"), (Strings{"rec", "dis"}));
    EXPECT_EQ(number("out.import.json", "dropped/no_recommendation"), 1);
    for (const char *bad : {"a\tWAITER\tHi\t\n", "a\tSEEKER\tHi\n"}) {
        EXPECT_EQ(import_dialogues("inspired", make("t.tsv", head + bad)), SC_BAD_INPUT);
        EXPECT_TRUE(says("t.tsv:2")) << sc_last_error();
    }
    EXPECT_EQ(import_dialogues("inspired",
                               make("t.tsv", head + "a\tSEEKER\tx\t\nb\tSEEKER\tx\t\na\tSEEKER\tx\t\n")),
              SC_BAD_INPUT);
    EXPECT_TRUE(says("t.tsv:4")) << sc_last_error();
    EXPECT_EQ(import_dialogues("inspired", make("t.tsv", "dialog_id\tspeaker\n")), SC_BAD_INPUT);

    std::string turns =
        R"j([{"text":"Hi","role":"SEEKER","movie":[]},{"text":"Heat","role":"RECOMMENDER","movie":["Heat (1995)"]}])j";
    ASSERT_EQ(import_dialogues("unicrs", make("t.jsonl", turns + "\n" + turns)), SC_OK) << sc_last_error();
    rows = lines("out.jsonl");
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(text(rows[1].get(), "id"), "1:1");
    for (const char *bad : {"{}", "[5]", R"([{"text":"x","role":"SEEKER"}])",
                            R"([{"text":"x","role":"SEEKER","movie":[1]}])"}) {
        EXPECT_EQ(import_dialogues("unicrs", make("t.jsonl", turns + "\n" + bad)), SC_BAD_INPUT) << bad;
        EXPECT_TRUE(says("t.jsonl:2")) << sc_last_error();
    }
}

TEST_F(Import, Messages)
{
    std::string chat =
        R"j({"messages":[{"role":"system","content":"S"},{"role":"user","content":"I like Heat"},{"role":"assistant","content":"And?"},)j"
        R"j({"role":"user","content":[{"type":"text","text":"tense"}]},{"role":"assistant","content":"1. Alien (1979)\n2) Ran\nbye"}]})j";
    std::string own =
        R"j({"id":"x","request":"R","messages":[{"role":"user","content":"the whole prompt"}],"targets":["T"],"seen":["Heat"]})j";
    ASSERT_EQ(import_dialogues("messages", make("t.jsonl", chat + "\n" + own)), SC_OK) << sc_last_error();
    auto rows = lines("out.jsonl");
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(text(rows[0].get(), "id"), "chat-0");
    EXPECT_EQ(text(rows[0].get(), "request"), "\nUser: I like Heat\nSystem: And?\nUser: tense\nSystem: ");
    EXPECT_EQ(texts(rows[0].get(), "targets"), (Strings{"Alien", "Ran"}));
    EXPECT_EQ(text(rows[1].get(), "id"), "x");
    EXPECT_EQ(text(json_array_get(json_object_get(rows[1].get(), "messages"), 0), "content"),
              "the whole prompt");
    EXPECT_EQ(number("out.import.json", "dropped/system_message"), 1);
    for (const char *bad :
         {R"({"messages":[{"role":"tool","content":"x"}]})",
          R"({"messages":[{"role":"user","content":null}]})", R"({"messages":[7]})", R"({"messages":{}})",
          R"({"messages":[{"role":"user","content":"x"}],"targets":[7]})",
          R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})"}) {
        EXPECT_EQ(import_dialogues("messages", make("t.jsonl", chat + "\n" + bad)), SC_BAD_INPUT) << bad;
        EXPECT_TRUE(says("t.jsonl:2")) << sc_last_error();
    }
}

} // namespace
