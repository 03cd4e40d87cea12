#include "support.h"

#include "data/csv.h"
#include "data/ids.h"

namespace
{

class Csv : public Data
{
  protected:
    /* All records, or the first error in sc_last_error(). */
    sc_status read(const std::string &bytes, csv_options options = {',', true, 1 << 16})
    {
        records.clear();
        where.clear();
        csv_reader *r = nullptr;
        sc_status status = csv_open(make("t.csv", bytes).c_str(), options, &r);
        const char *const *fields = nullptr;
        while (status == SC_OK && (status = csv_next(r, &fields)) == SC_OK && fields) {
            Strings record;
            for (int i = 0; i < columns; i++)
                record.push_back(fields[i]);
            records.push_back(record);
            where.push_back(csv_where(r));
        }
        csv_close(r);
        return status;
    }
    int columns = 2;
    std::vector<Strings> records;
    Strings where;
};

TEST_F(Csv, ReadsTheGrammarOfRfc4180)
{
    ASSERT_EQ(read("\xEF\xBB\xBFid,text\r\n1,plain\r\n\r\n2,\"a, \"\"b\"\"\r\nsecond\"\r\n3,\n\"4\",\"\""),
              SC_OK)
        << sc_last_error();
    EXPECT_EQ(records,
              (std::vector<Strings>{{"1", "plain"}, {"2", "a, \"b\"\nsecond"}, {"3", ""}, {"4", ""}}));
    EXPECT_EQ(where[1], at("t.csv") + ":4");
    EXPECT_EQ(where[2], at("t.csv") + ":6");
}

TEST_F(Csv, ReadsColumnsWithoutQuotes)
{
    ASSERT_EQ(read("a\tb\n\"x\ty\"\n", {'\t', false, 1000}), SC_OK) << sc_last_error();
    EXPECT_EQ(records, (std::vector<Strings>{{"\"x", "y\""}}));
}

TEST_F(Csv, NamesTheLineOfWhatIsWrong)
{
    struct {
        const char *bytes, *place, *words;
    } const bad[] = {
        {"a,b\n1,\"open\nstill\n", ":2", "never closed"},
        {"a,b\n1,2\n1,2,3\n", ":3", "3 fields where the header row has 2"},
        {"a,b\n1\n", ":2", "1 fields"},
        {"a,b\n1,x\"y\n", ":2", "quote stands inside"},
        {"a,b\n1,\"x\"y\n", ":2", "closing quote"},
        {"a,a\n1,2\n", ":1", "two columns"},
        {"", "", "is empty"},
        {"\n\n", "", "is empty"},
    };
    for (const auto &b : bad) {
        EXPECT_EQ(read(b.bytes), SC_BAD_INPUT) << b.bytes;
        EXPECT_TRUE(says(at("t.csv") + b.place)) << sc_last_error();
        EXPECT_TRUE(says(b.words)) << sc_last_error();
    }
    EXPECT_EQ(read(std::string("a,b\n1,x\0y\n", 11)), SC_BAD_INPUT);
    EXPECT_TRUE(says(":2")) << sc_last_error();
    EXPECT_TRUE(says("zero byte")) << sc_last_error();
}

TEST_F(Csv, AnOpenQuoteIsBounded)
{
    std::string bytes = "a,b\n1,\"open\n";
    for (int i = 0; i < 20000; i++)
        bytes += "2,x\n";
    EXPECT_EQ(read(bytes, {',', true, 10000}), SC_BAD_INPUT);
    EXPECT_TRUE(says(":2: the record is longer than 10000 bytes")) << sc_last_error();
}

TEST_F(Csv, ListsTheColumnsWhenOneIsMissing)
{
    csv_reader *r = nullptr;
    ASSERT_EQ(csv_open(make("t.csv", "user,item\n").c_str(), {',', true, 1000}, &r), SC_OK);
    int column = 0;
    EXPECT_EQ(csv_need_column(r, "rating", &column), SC_BAD_INPUT);
    EXPECT_TRUE(says("user, item")) << sc_last_error();
    EXPECT_EQ(csv_column(r, "item"), 1);
    EXPECT_EQ(csv_column(r, "Item"), -1);
    csv_close(r);
    csv_close(nullptr);
}

TEST_F(Csv, ReadsGzip)
{
    ASSERT_EQ(read(gzip("a,b\n1,2\n")), SC_OK) << sc_last_error();
    EXPECT_EQ(records.size(), 1u);
    std::string torn = gzip("a,b\n1,2\n");
    EXPECT_EQ(read(torn.substr(0, torn.size() - 6)), SC_BAD_INPUT);
}

TEST(Ids, AreNumberedInOrderOfAppearance)
{
    id_table t = {};
    EXPECT_EQ(id_table_find(&t, "x"), -1);
    for (int i = 0; i < 5000; i++) {
        int32_t index = -1;
        bool is_new = false;
        ASSERT_EQ(id_table_put(&t, ("user" + std::to_string(i)).c_str(), &index, &is_new), SC_OK);
        ASSERT_EQ(index, i);
        ASSERT_TRUE(is_new);
        ASSERT_EQ(id_table_put(&t, ("user" + std::to_string(i / 2)).c_str(), &index, &is_new), SC_OK);
        ASSERT_EQ(index, i / 2);
        ASSERT_FALSE(is_new);
    }
    EXPECT_EQ(t.n, 5000u);
    EXPECT_EQ(id_table_find(&t, "user4999"), 4999);
    EXPECT_EQ(id_table_find(&t, "user5000"), -1);
    EXPECT_STREQ(id_table_get(&t, 17), "user17");
    int32_t index = 0;
    ASSERT_EQ(id_table_put(&t, "", &index, nullptr), SC_OK);
    EXPECT_EQ(id_table_find(&t, ""), 5000);
    id_table_free(&t);
}

TEST(Ids, HashSetKnowsWhatItSaw)
{
    hash_set s = {};
    bool is_new = false;
    for (int round = 0; round < 2; round++) {
        for (uint64_t h = 0; h < 3000; h++) {
            ASSERT_EQ(hash_set_add(&s, h << 32, &is_new), SC_OK);
            ASSERT_EQ(is_new, round == 0) << h;
        }
    }
    hash_set_free(&s);
}

TEST(Ids, AreMadeUnique)
{
    hash_set s = {};
    Strings made;
    for (const char *id : {"a", "a", "a-2", "a", "b"}) {
        strbuf text = {};
        strbuf_puts(&text, id);
        ASSERT_EQ(unique_id(&s, &text), SC_OK);
        made.push_back(text.data);
        strbuf_free(&text);
    }
    EXPECT_EQ(made, (Strings{"a", "a-2", "a-2-2", "a-3", "b"}));
    hash_set_free(&s);
}

} // namespace
