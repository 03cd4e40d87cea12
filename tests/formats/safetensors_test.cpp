// safetensors: the format's rules, each broken once; shards; the writer's layout.
#include "fixture.h"

#include <cmath>
#include <cstdint>

extern "C" {
#include "formats/safetensors.h"
}

namespace
{

class SafetensorsTest : public FolderTest
{
  protected:
    static std::string file(const std::string &header, const std::string &data)
    {
        return raw((uint64_t)header.size()) + header + data;
    }
    static std::string entry(const std::string &name, const std::string &type, const std::string &shape,
                             const std::string &offsets)
    {
        return "\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":" + shape +
               ",\"data_offsets\":" + offsets + "}";
    }
    sc_status open(const std::string &bytes)
    {
        safetensors_close(s);
        return safetensors_open(put("m.safetensors", bytes).c_str(), &s);
    }
    void TearDown() override
    {
        safetensors_close(s);
        FolderTest::TearDown();
    }
    safetensors *s = nullptr;
};

TEST_F(SafetensorsTest, ReadsTensorsInAnyOrder)
{
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," + entry("b", "F32", "[2,1]", "[4,12]") +
                         "," + entry("a", "BF16", "[2]", "[0,4]") + "," +
                         entry("empty", "I64", "[0,5]", "[12,12]") + "," +
                         entry("scalar", "F64", "[]", "[12,20]") + "}   ";
    std::string data =
        raw(std::vector<uint16_t>{0x3f80, 0xc000}) + raw(std::vector<float>{1.5f, -2}) + raw(0.1);
    ASSERT_EQ(open(file(header, data)), SC_OK) << sc_last_error();
    ASSERT_EQ(safetensors_count(s), 4u);
    EXPECT_STREQ(safetensors_at(s, 0)->name, "a");
    EXPECT_STREQ(safetensors_metadata(s, "format"), "pt");
    EXPECT_EQ(safetensors_metadata(s, "else"), nullptr);
    float out[2];
    const st_tensor *t = safetensors_find(s, "a");
    EXPECT_EQ(t->type, ST_BF16);
    ASSERT_EQ(st_tensor_floats(t, 0, 2, out), SC_OK);
    EXPECT_EQ(out[0], 1);
    EXPECT_EQ(out[1], -2);
    t = safetensors_find(s, "b");
    EXPECT_EQ(t->shape[0], 2);
    EXPECT_EQ(t->n_bytes, 8u);
    ASSERT_EQ(st_tensor_floats(t, 1, 1, out), SC_OK);
    EXPECT_EQ(out[0], -2);
    EXPECT_EQ(st_tensor_floats(t, 1, 2, out), SC_INTERNAL);
    t = safetensors_find(s, "scalar");
    EXPECT_EQ(t->n_dims, 0);
    ASSERT_EQ(st_tensor_floats(t, 0, 1, out), SC_OK);
    EXPECT_EQ(out[0], 0.1f);
    EXPECT_EQ(safetensors_find(s, "empty")->n_values, 0);
    EXPECT_EQ(st_tensor_floats(safetensors_find(s, "empty"), 0, 0, out), SC_BAD_INPUT);
    EXPECT_EQ(safetensors_find(s, "c"), nullptr);
    EXPECT_EQ(safetensors_need(s, "scalars", &t), SC_BAD_INPUT);
    says("the nearest is scalar");
}

TEST_F(SafetensorsTest, RefusesTruncationAtEveryByte)
{
    std::string whole = file("{" + entry("a", "F32", "[2]", "[0,8]") + "}", std::string(8, 1));
    ASSERT_EQ(open(whole), SC_OK);
    for (size_t n = 0; n < whole.size(); n++)
        EXPECT_EQ(open(whole.substr(0, n)), SC_BAD_INPUT) << n;
    EXPECT_EQ(open(whole + "x"), SC_BAD_INPUT);
    says("belong to no tensor");
}

TEST_F(SafetensorsTest, RefusesWhatTheFormatForbids)
{
    struct {
        const char *why;
        std::string header;
    } bad[] = {
        {"overlap", "{" + entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "F32", "[2]", "[4,12]") + "," +
                        entry("c", "F32", "[1]", "[12,16]") + "}"},
        {"overlap",
         "{" + entry("a", "F32", "[4]", "[0,16]") + "," + entry("b", "F32", "[4]", "[0,16]") + "}"},
        {"belong to no tensor",
         "{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[2]", "[8,16]") + "}"},
        {"belong to no tensor", "{" + entry("a", "F32", "[3]", "[4,16]") + "}"},
        {"belong to no tensor", "{" + entry("a", "F32", "[3]", "[0,12]") + "}"},
        {"cut short", "{" + entry("a", "F32", "[8]", "[0,32]") + "}"},
        {"lies at", "{" + entry("a", "F32", "[4]", "[16,0]") + "}"},
        {"lies at", "{" + entry("a", "F32", "[4]", "[-16,0]") + "}"},
        {"shape needs", "{" + entry("a", "F32", "[3]", "[0,16]") + "}"},
        {"overflows", "{" + entry("a", "F32", "[4294967296,4294967296]", "[0,16]") + "}"},
        {"overflows", "{" + entry("a", "F32", "[4611686018427387904]", "[0,16]") + "}"},
        {"overflows", "{" + entry("a", "F32", "[0,4294967296,4294967296]", "[0,0]") + "}"},
        {"no size", "{" + entry("a", "F32", "[-4]", "[0,16]") + "}"},
        {"no size", "{" + entry("a", "F32", "[4.0]", "[0,16]") + "}"},
        {"axes", "{" + entry("a", "F32", "[1,1,1,1,1,1,1,1,4]", "[0,16]") + "}"},
        {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}"},
        {"data_offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}"},
        {"data_offsets", "{" + entry("a", "F32", "[4]", "[0,8,16]") + "}"},
        {"data_offsets", "{" + entry("a", "F32", "[4]", "[0,\"16\"]") + "}"},
        {"unknown type", "{" + entry("a", "F31", "[4]", "[0,16]") + "}"},
        {"not an object", "{\"a\":[]}"},
        {"not a string", "{\"__metadata__\":{\"n\":1}," + entry("a", "F32", "[4]", "[0,16]") + "}"},
        {"__metadata__", "{\"__metadata__\":[]," + entry("a", "F32", "[4]", "[0,16]") + "}"},
        {"no JSON object", "[1]"},
        {"", "{" + entry("a", "F32", "[4]", "[0,16]") + "," + entry("a", "F32", "[4]", "[0,16]") + "}"},
        {"", "{\"a\\u0000b\":{}}"},
        {"", "{" + entry("a", "F32", "[99999999999999999999]", "[0,16]") + "}"},
        {"", "{" + entry("a", "F32", "[4]", "[0,16]")},
        {"", "{\"a\xff\":{}}"},
    };
    for (const auto &b : bad) {
        EXPECT_EQ(open(file(b.header, std::string(16, 0))), SC_BAD_INPUT) << b.header;
        EXPECT_TRUE(says(b.why)) << b.header;
    }
    EXPECT_EQ(open(raw((uint64_t)1 << 60) + "{}"), SC_BAD_INPUT);
    says("100 MB");
    EXPECT_EQ(open(raw((uint64_t)100000001) + "{}"), SC_BAD_INPUT);
    says("100 MB");
    EXPECT_EQ(open(file("", "")), SC_BAD_INPUT);
    EXPECT_EQ(open(file("{}", "")), SC_OK);
    EXPECT_EQ(safetensors_count(s), 0u);
    EXPECT_EQ(safetensors_find(s, "a"), nullptr);
}

TEST_F(SafetensorsTest, WritesWhatItReads)
{
    const st_plan plan[] = {
        {"model.b", ST_F32, 2, {2, 2}}, {"model.\"a\"", ST_BF16, 1, {3}}, {"none", ST_F32, 1, {0}}};
    const std::string data = raw(std::vector<float>{1, 2, 3, 4}) + raw(std::vector<uint16_t>{1, 2, 3});
    safetensors_writer *w = nullptr;
    ASSERT_EQ(safetensors_writer_open(at("o.safetensors").c_str(), plan, 3, 0, &w), SC_OK) << sc_last_error();
    ASSERT_EQ(safetensors_writer_data(w, data.data(), 5), SC_OK);
    ASSERT_EQ(safetensors_writer_data(w, data.data() + 5, data.size() - 5), SC_OK);
    EXPECT_FALSE(file_exists(at("o.safetensors").c_str()));
    EXPECT_EQ(safetensors_writer_data(w, "x", 1), SC_INTERNAL);
    ASSERT_EQ(safetensors_writer_commit(&w), SC_OK) << sc_last_error();
    std::string bytes = get(at("o.safetensors"));
    uint64_t length;
    memcpy(&length, bytes.data(), 8);
    EXPECT_EQ(length % 8, 0u);
    EXPECT_EQ(bytes.substr(8 + length), data);
    EXPECT_EQ(bytes.substr(8, 33), "{\"__metadata__\":{\"format\":\"pt\"},\"");
    ASSERT_EQ(safetensors_open(at("o.safetensors").c_str(), &s), SC_OK) << sc_last_error();
    EXPECT_EQ(safetensors_count(s), 3u);
    EXPECT_EQ(safetensors_find(s, "model.\"a\"")->shape[0], 3);
    EXPECT_TRUE(safetensors_find(s, "model.b")->aligned);
}

TEST_F(SafetensorsTest, WriterKeepsToItsPlan)
{
    const st_plan twice[] = {{"a", ST_F32, 1, {1}}, {"a", ST_F32, 1, {1}}};
    const st_plan huge[] = {{"a", ST_F32, 2, {INT64_MAX, 2}}};
    const st_plan one[] = {{"a", ST_F32, 1, {2}}};
    safetensors_writer *w = nullptr;
    EXPECT_EQ(safetensors_writer_open(at("o.safetensors").c_str(), twice, 2, 0, &w), SC_INTERNAL);
    EXPECT_EQ(safetensors_writer_open(at("o.safetensors").c_str(), huge, 1, 0, &w), SC_INTERNAL);
    EXPECT_EQ(safetensors_writer_open(at("o.bin").c_str(), one, 1, 0, &w), SC_INTERNAL);
    ASSERT_EQ(safetensors_writer_open(at("o.safetensors").c_str(), one, 1, 0, &w), SC_OK);
    ASSERT_EQ(safetensors_writer_data(w, "1234567", 7), SC_OK);
    EXPECT_EQ(safetensors_writer_commit(&w), SC_INTERNAL);
    EXPECT_EQ(w, nullptr);
    EXPECT_FALSE(file_exists(at("o.safetensors").c_str()));
}

class ShardTest : public SafetensorsTest
{
  protected:
    void write(uint64_t limit)
    {
        safetensors_writer *w = begin(limit);
        ASSERT_EQ(safetensors_writer_commit(&w), SC_OK) << sc_last_error();
    }
    safetensors_writer *begin(uint64_t limit)
    {
        const st_plan plan[] = {
            {"a", ST_F32, 1, {2}}, {"b", ST_F32, 1, {8}}, {"c", ST_F32, 1, {1}}, {"d", ST_F32, 1, {1}}};
        std::vector<float> values(12);
        for (size_t i = 0; i < 12; i++)
            values[i] = (float)i;
        safetensors_writer *w = nullptr;
        EXPECT_EQ(safetensors_writer_open(at("model.safetensors").c_str(), plan, 4, limit, &w), SC_OK);
        EXPECT_EQ(safetensors_writer_data(w, values.data(), 48), SC_OK);
        return w;
    }
};

TEST_F(ShardTest, AreWrittenAndReadBack)
{
    write(16);
    EXPECT_TRUE(file_exists(at("model-00001-of-00003.safetensors").c_str()));
    EXPECT_NE(get(at("model.safetensors.index.json")).find("\"total_size\": 48"), std::string::npos);
    ASSERT_EQ(safetensors_open(folder.c_str(), &s), SC_OK) << sc_last_error();
    EXPECT_EQ(safetensors_count(s), 4u);
    EXPECT_EQ(safetensors_n_files(s), 3u);
    float out;
    for (auto [name, value] : {std::pair{"a", 0}, {"b", 2}, {"c", 10}, {"d", 11}}) {
        ASSERT_EQ(st_tensor_floats(safetensors_find(s, name), 0, 1, &out), SC_OK);
        EXPECT_EQ(out, (float)value);
    }
    EXPECT_EQ(safetensors_find(s, "c")->file, safetensors_find(s, "d")->file);
}

TEST_F(ShardTest, TheOtherLayoutIsCleanedUp)
{
    const char *const others[] = {"model-1-of-2.safetensors", "model-00001-of-00002.safetensors.bak",
                                  "model-00001-of-x.safetensors", "other-00001-of-00002.safetensors"};
    for (const char *other : others)
        put(other, "not ours");
    write(0);
    write(16);
    EXPECT_FALSE(file_exists(at("model.safetensors").c_str()));
    write(40);
    EXPECT_TRUE(file_exists(at("model-00002-of-00002.safetensors").c_str()));
    EXPECT_FALSE(file_exists(at("model-00002-of-00003.safetensors").c_str()));
    write(0);
    EXPECT_FALSE(file_exists(at("model.safetensors.index.json").c_str()));
    EXPECT_FALSE(file_exists(at("model-00002-of-00002.safetensors").c_str()));
    for (const char *other : others)
        EXPECT_EQ(get(at(other)), "not ours") << other;
    ASSERT_EQ(safetensors_open(folder.c_str(), &s), SC_OK);
    EXPECT_EQ(safetensors_n_files(s), 1u);
}

// A stop between two renames must not leave old shards that an old index joins with new ones.
TEST_F(ShardTest, AnOldIndexNeverNamesNewFiles)
{
    write(16);
    safetensors_writer *w = begin(16);
    ASSERT_EQ(remove(at("model-00002-of-00003.safetensors").c_str()), 0);
    ASSERT_EQ(mkdir(at("model-00002-of-00003.safetensors").c_str(), 0777), 0);
    EXPECT_EQ(safetensors_writer_sync(w), SC_OK);
    EXPECT_TRUE(file_exists(at("model.safetensors.index.json").c_str()));
    EXPECT_NE(safetensors_writer_commit(&w), SC_OK) << "the second shard's name is a folder's";
    EXPECT_FALSE(file_exists(at("model.safetensors.index.json").c_str()));
}

TEST_F(ShardTest, IndexAndFilesMustAgree)
{
    write(16);
    const std::string good = get(at("model.safetensors.index.json"));
    struct {
        const char *from, *to;
    } changes[] = {
        {"model-00003-of-00003.safetensors", "../model-00003-of-00003.safetensors"},
        {"model-00003-of-00003.safetensors", "/etc/passwd"},
        {"model-00003-of-00003.safetensors", "model-00009-of-00003.safetensors"},
        {"model-00003-of-00003.safetensors", "model-00001-of-00003.safetensors"},
        {"\"d\"", "\"e\""},
        {"weight_map", "weights"},
    };
    for (const auto &c : changes) {
        std::string text = good;
        text.replace(text.rfind(c.from), strlen(c.from), c.to);
        put("model.safetensors.index.json", text);
        EXPECT_EQ(safetensors_open(folder.c_str(), &s), SC_BAD_INPUT) << c.to;
    }
    put("model.safetensors.index.json", "{\"weight_map\":{}}");
    EXPECT_EQ(safetensors_open(folder.c_str(), &s), SC_BAD_INPUT);
    put("model.safetensors.index.json", good);
    EXPECT_EQ(safetensors_open(folder.c_str(), &s), SC_OK) << sc_last_error();
}

TEST(HalfTest, EveryValueIsExact)
{
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float got = half_to_float((uint16_t)bits);
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        double sign = bits >> 15 ? -1 : 1;
        if (exponent == 31 && fraction) {
            EXPECT_TRUE(std::isnan(got));
        } else {
            double expected = exponent == 31  ? INFINITY
                              : exponent == 0 ? std::ldexp(fraction, -24)
                                              : std::ldexp(1024 + fraction, exponent - 25);
            ASSERT_EQ(got, (float)(sign * expected)) << bits;
            ASSERT_EQ(std::signbit(got), bits >> 15 != 0) << bits;
        }
    }
    EXPECT_EQ(bfloat16_to_float(0x3fc0), 1.5f);
    EXPECT_EQ(bfloat16_to_float(0x0001), std::ldexp(1.0f, -133));
}

} // namespace
