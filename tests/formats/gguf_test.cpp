// GGUF: metadata of every kind, block decoding against the gguf Python package, and damaged files.
#include "gguf_fixture.h"

#include <cmath>

extern "C" {
#include "formats/gguf.h"
}

namespace
{

class GgufTest : public FolderTest
{
  protected:
    sc_status open(const std::string &bytes)
    {
        gguf_close(g);
        g = nullptr;
        return gguf_open(put("m.gguf", bytes).c_str(), &g);
    }
    void TearDown() override
    {
        gguf_close(g);
        FolderTest::TearDown();
    }
    static GgufBuilder small()
    {
        GgufBuilder b;
        b.add("general.architecture", std::string("llama"));
        b.add("list", std::vector<std::string>{"a", "", "bc"});
        b.add("types", std::vector<int32_t>{1, -3});
        b.tensor("t", {2, 3}, 0, raw(std::vector<float>{1, 2, 3, 4, 5, 6}));
        b.tensor("u", {1}, 0, raw(7.0f));
        return b;
    }
    gguf *g = nullptr;
};

TEST_F(GgufTest, ReadsEveryKind)
{
    GgufBuilder b;
    b.value("u8", 0, raw((uint8_t)200));
    b.value("i8", 1, raw((int8_t)-5));
    b.value("u16", 2, raw((uint16_t)60000));
    b.value("i16", 3, raw((int16_t)-300));
    b.value("u32", 4, raw((uint32_t)4000000000u));
    b.value("i32", 5, raw((int32_t)-7));
    b.value("f32", 6, raw(1e-5f));
    b.value("yes", 7, raw((uint8_t)1));
    b.add("text", std::string("h\xc3\xa9"));
    b.value("u64", 10, raw((uint64_t)1 << 63));
    b.value("i64", 11, raw((int64_t)INT64_MIN));
    b.value("f64", 12, raw(0.1));
    b.value("bytes", 9, raw((uint32_t)0) + raw((uint64_t)3) + "\xff\x01\x02");
    for (uint32_t version : {2u, 3u}) {
        b.version = version;
        ASSERT_EQ(open(b.bytes()), SC_OK) << sc_last_error();
        EXPECT_EQ(gguf_n_values(g), 13u);
        int64_t i;
        double x;
        bool yes;
        const char *text;
        ASSERT_EQ(gguf_need_int(g, "u8", &i), SC_OK);
        EXPECT_EQ(i, 200);
        ASSERT_EQ(gguf_need_int(g, "i8", &i), SC_OK);
        EXPECT_EQ(i, -5);
        ASSERT_EQ(gguf_need_int(g, "i16", &i), SC_OK);
        EXPECT_EQ(i, -300);
        ASSERT_EQ(gguf_need_int(g, "u32", &i), SC_OK);
        EXPECT_EQ(i, 4000000000);
        ASSERT_EQ(gguf_need_int(g, "i64", &i), SC_OK);
        EXPECT_EQ(i, INT64_MIN);
        EXPECT_EQ(gguf_need_int(g, "u64", &i), SC_BAD_INPUT);
        EXPECT_EQ(gguf_need_int(g, "f32", &i), SC_BAD_INPUT);
        ASSERT_EQ(gguf_need_number(g, "f32", &x), SC_OK);
        EXPECT_EQ(x, (double)1e-5f);
        ASSERT_EQ(gguf_need_number(g, "f64", &x), SC_OK);
        EXPECT_EQ(x, 0.1);
        ASSERT_EQ(gguf_need_number(g, "i8", &x), SC_OK);
        EXPECT_EQ(x, -5);
        ASSERT_EQ(gguf_get_bool(g, "yes", false, &yes), SC_OK);
        EXPECT_TRUE(yes);
        EXPECT_EQ(gguf_get_bool(g, "u8", false, &yes), SC_BAD_INPUT);
        ASSERT_EQ(gguf_need_string(g, "text", &text), SC_OK);
        EXPECT_STREQ(text, "h\xc3\xa9");
        EXPECT_EQ(gguf_need_string(g, "none", &text), SC_BAD_INPUT);
        says("lacks none");
        ASSERT_EQ(gguf_get_string(g, "none", "other", &text), SC_OK);
        EXPECT_STREQ(text, "other");
        int64_t list[3];
        ASSERT_EQ(gguf_array_ints(g, "bytes", list, 3), SC_OK);
        EXPECT_EQ(list[0], 255);
        EXPECT_EQ(gguf_array_ints(g, "bytes", list, 2), SC_BAD_INPUT);
    }
}

TEST_F(GgufTest, ReadsArraysAndTensors)
{
    ASSERT_EQ(open(small().bytes()), SC_OK) << sc_last_error();
    const char *const *strings;
    size_t n;
    ASSERT_EQ(gguf_need_strings(g, "list", &strings, &n), SC_OK);
    ASSERT_EQ(n, 3u);
    EXPECT_STREQ(strings[0], "a");
    EXPECT_STREQ(strings[1], "");
    EXPECT_STREQ(strings[2], "bc");
    EXPECT_EQ(gguf_need_strings(g, "types", &strings, &n), SC_BAD_INPUT);
    int64_t types[2];
    ASSERT_EQ(gguf_array_ints(g, "types", types, 2), SC_OK);
    EXPECT_EQ(types[1], -3);
    const gguf_tensor *t;
    ASSERT_EQ(gguf_tensor_need(g, "t", &t), SC_OK);
    EXPECT_EQ(t->row_values, 2);
    EXPECT_EQ(t->n_rows, 3);
    float rows[4];
    ASSERT_EQ(gguf_read_rows(t, 1, 2, rows), SC_OK);
    EXPECT_EQ(rows[0], 3);
    EXPECT_EQ(rows[3], 6);
    EXPECT_EQ(gguf_read_rows(t, 2, 2, rows), SC_INTERNAL);
    EXPECT_EQ(gguf_tensor_need(g, "absent", &t), SC_BAD_INPUT);
}

TEST_F(GgufTest, DecodesBlocksAsThePythonPackageDoes)
{
    std::string bytes = get(SC_SOURCE_DIR "/tests/fixtures/gguf/blocks.bin");
    ASSERT_FALSE(bytes.empty());
    int types = 0;
    for (size_t at = 0; at < bytes.size(); types++) {
        uint32_t head[3];
        memcpy(head, bytes.data() + at, 12);
        GgufBuilder b;
        b.tensor("t", {(int64_t)head[2]}, head[0], bytes.substr(at + 12, head[1]));
        ASSERT_EQ(open(b.bytes()), SC_OK) << sc_last_error();
        std::vector<float> got(head[2]);
        ASSERT_EQ(gguf_read_rows(gguf_tensor_at(g, 0), 0, 1, got.data()), SC_OK) << sc_last_error();
        EXPECT_EQ(raw(got), bytes.substr(at + 12 + head[1], 4 * head[2])) << gguf_type_name(head[0]);
        at += 12 + head[1] + 4 * head[2];
    }
    EXPECT_EQ(types, 11);
}

TEST_F(GgufTest, NamesBlockTypesItCannotRead)
{
    GgufBuilder b = small();
    b.tensor("odd", {256}, 10, std::string(84, 0));
    b.tensor("future", {256}, 77, std::string(84, 0));
    ASSERT_EQ(open(b.bytes()), SC_OK);
    float out[256];
    EXPECT_EQ(gguf_read_rows(gguf_tensor_find(g, "odd"), 0, 1, out), SC_BAD_INPUT);
    says("Q2_K");
    EXPECT_EQ(gguf_read_rows(gguf_tensor_find(g, "future"), 0, 1, out), SC_BAD_INPUT);
    says("type 77 (unknown)");
}

TEST_F(GgufTest, RefusesTruncationAtEveryByte)
{
    std::string whole = small().bytes();
    ASSERT_EQ(open(whole), SC_OK);
    for (size_t n = 0; n < whole.size(); n++)
        EXPECT_EQ(open(whole.substr(0, n)), SC_BAD_INPUT) << n;
}

TEST_F(GgufTest, SurvivesEveryByteChanged)
{
    std::string whole = small().bytes();
    for (size_t n = 0; n < whole.size(); n++) {
        for (int bits : {0x01, 0x80, 0xff}) {
            std::string changed = whole;
            changed[n] = (char)(changed[n] ^ bits);
            if (open(changed) != SC_OK)
                continue;
            for (size_t i = 0; i < gguf_n_tensors(g); i++) {
                const gguf_tensor *t = gguf_tensor_at(g, i);
                std::vector<float> out((size_t)t->row_values * (t->data ? 1 : 0) + 1);
                gguf_read_rows(t, t->n_rows - 1, 1, out.data());
            }
        }
    }
}

TEST_F(GgufTest, RefusesHostileCountsAndSizes)
{
    const uint64_t huge = (uint64_t)1 << 60;
    GgufBuilder b = small();
    b.n_tensors = huge;
    EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT);
    says("more than the file can hold");
    b = small();
    b.n_values = huge;
    EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT);
    b = small();
    b.value("s", 8, raw(huge));
    EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT);
    for (uint32_t element : {0u, 5u, 8u, 12u}) {
        b = small();
        b.value("list2", 9, raw(element) + raw(huge));
        EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT) << element;
    }
    struct {
        const char *why;
        std::vector<int64_t> shape;
        uint32_t type;
        uint64_t offset;
    } bad[] = {
        {"axes", {}, 0, 0},
        {"axes", {1, 1, 1, 1, 1}, 0, 0},
        {"range", {0}, 0, 0},
        {"range", {-4}, 0, 0},
        {"range", {2, INT64_MAX, INT64_MAX}, 0, 0},
        {"overflow", {INT64_MAX}, 0, 0},
        {"overflow", {(int64_t)1 << 40, (int64_t)1 << 40}, 0, 0},
        {"beyond the end", {(int64_t)1 << 40}, 0, 0},
        {"beyond the end", {1}, 0, huge},
        {"beyond the end", {1}, 0, UINT64_MAX - 31},
        {"multiple of 32", {1}, 0, 4},
        {"whole Q8_0 blocks", {33}, 8, 0},
    };
    for (const auto &t : bad) {
        b = small();
        b.info("bad", t.shape, t.type, t.offset);
        EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT) << t.why;
        EXPECT_TRUE(says(t.why));
    }
}

TEST_F(GgufTest, RefusesMalformedMetadata)
{
    struct {
        const char *why;
        uint32_t kind;
        std::string bytes;
    } bad[] = {
        {"unknown kind", 13, ""},
        {"unknown kind", 0x80000008, GgufBuilder::text("x")},
        {"neither true nor false", 7, "\x02"},
        {"zero byte", 8, GgufBuilder::text(std::string("a\0b", 3))},
        {"is not read", 9, raw((uint32_t)9) + raw((uint64_t)1)},
    };
    for (const auto &v : bad) {
        GgufBuilder b;
        b.value("key", v.kind, v.bytes);
        EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT) << v.why;
        EXPECT_TRUE(says(v.why));
    }
    GgufBuilder b = small();
    b.add("list", 1u);
    EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT);
    says("there twice");
    b = small();
    b.info("t", {1}, 0, 0);
    EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT);
    says("there twice");
    for (uint32_t alignment : {0u, 24u, 1u << 30}) {
        b = small();
        b.add("general.alignment", alignment);
        EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT) << alignment;
    }
    b = small();
    b.version = 1;
    EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT);
    b.version = 0x03000000;
    EXPECT_EQ(open(b.bytes()), SC_BAD_INPUT);
    says("little-endian");
    EXPECT_EQ(open("GGML"), SC_BAD_INPUT);
    EXPECT_EQ(open(""), SC_BAD_INPUT);
    EXPECT_EQ(gguf_open(at("absent").c_str(), &g), SC_BAD_INPUT);
}

TEST_F(GgufTest, HonoursTheAlignment)
{
    GgufBuilder b;
    b.alignment = 128;
    b.add("general.alignment", 128u);
    b.tensor("a", {1}, 0, raw(1.0f));
    b.tensor("b", {1}, 0, raw(2.0f));
    ASSERT_EQ(open(b.bytes()), SC_OK) << sc_last_error();
    float out;
    ASSERT_EQ(gguf_read_rows(gguf_tensor_find(g, "b"), 0, 1, &out), SC_OK);
    EXPECT_EQ(out, 2);
}

} // namespace
