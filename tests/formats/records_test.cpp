// The record log: what is appended is read back; a torn tail is cut off at any byte; damage is named.
#include "fixture.h"

#include <cstdint>

extern "C" {
#include "formats/records.h"
}

namespace
{

class RecordsTest : public FolderTest
{
  protected:
    void SetUp() override
    {
        FolderTest::SetUp();
        path = at("log");
    }
    void append(const std::vector<std::string> &payloads)
    {
        record_log *log = nullptr;
        ASSERT_EQ(record_log_open(path.c_str(), nullptr, &log), SC_OK) << sc_last_error();
        for (const std::string &p : payloads)
            ASSERT_EQ(record_log_append(log, p.data(), p.size(), true), SC_OK);
        record_log_close(log);
    }
    // The payloads; empty with a failing status otherwise.
    sc_status read(std::vector<std::string> *out, uint64_t *torn = nullptr)
    {
        record_reader *r = nullptr;
        out->clear();
        sc_status status = record_reader_open(path.c_str(), &r);
        while (status == SC_OK) {
            const uint8_t *payload;
            size_t n;
            status = record_reader_next(r, &payload, &n, nullptr);
            if (status != SC_OK || !payload)
                break;
            out->emplace_back((const char *)payload, n);
        }
        if (status == SC_OK && torn)
            *torn = record_reader_torn(r);
        record_reader_close(r);
        return status;
    }
    const std::vector<std::string> three = {"first", "", std::string(300, 'x')};
    std::string path;
};

TEST_F(RecordsTest, AppendsAndReads)
{
    append({"first"});
    append({"", three[2]});
    std::vector<std::string> got;
    uint64_t torn = 1;
    ASSERT_EQ(read(&got, &torn), SC_OK) << sc_last_error();
    EXPECT_EQ(got, three);
    EXPECT_EQ(torn, 0u);
    EXPECT_EQ(get(path).size(), 8u + 3 * 12u + 305u);
    record_log *log = nullptr;
    uint64_t dropped = 1;
    ASSERT_EQ(record_log_open(path.c_str(), &dropped, &log), SC_OK);
    EXPECT_EQ(dropped, 0u);
    EXPECT_EQ(record_log_count(log), 3u);
    EXPECT_EQ(record_log_size(log), get(path).size());
    EXPECT_EQ(record_log_append(log, "x", (size_t)RECORDS_MAX_PAYLOAD + 1, false), SC_BAD_INPUT);
    record_log *other = nullptr;
    EXPECT_EQ(record_log_open(path.c_str(), nullptr, &other), SC_BUSY) << "two would write into each other";
    EXPECT_EQ(other, nullptr);
    record_log_close(log);
}

TEST_F(RecordsTest, TruncationAtEveryByteLosesTheLastRecordOnly)
{
    append(three);
    const std::string whole = get(path);
    const size_t ends[] = {8, 8 + 12 + 5, 8 + 24 + 5, whole.size()};
    for (size_t n = 0; n <= whole.size(); n++) {
        put("log", whole.substr(0, n));
        size_t left = 0;
        while (left < 3 && ends[left + 1] <= n)
            left++;
        size_t good = n < 8 ? 0 : ends[left];
        std::vector<std::string> got;
        uint64_t torn = 0, dropped = 0;
        ASSERT_EQ(read(&got, &torn), SC_OK) << n << ": " << sc_last_error();
        ASSERT_EQ(got.size(), left) << n;
        ASSERT_EQ(torn, n - good) << n;
        record_log *log = nullptr;
        ASSERT_EQ(record_log_open(path.c_str(), &dropped, &log), SC_OK) << n << ": " << sc_last_error();
        ASSERT_EQ(dropped, n - good) << n;
        ASSERT_EQ(record_log_append(log, "new", 3, false), SC_OK);
        record_log_close(log);
        ASSERT_EQ(read(&got), SC_OK);
        ASSERT_EQ(got.size(), left + 1);
        ASSERT_EQ(got.back(), "new");
    }
}

TEST_F(RecordsTest, DamageBeforeOtherRecordsIsNamedAndNothingIsLost)
{
    append(three);
    const std::string whole = get(path);
    for (size_t n = 8; n < 8 + 24 + 5; n++) { /* any byte of the first two records, lengths included */
        for (int bits : {0x01, 0x80, 0xff}) {
            std::string changed = whole;
            changed[n] = (char)(changed[n] ^ bits);
            put("log", changed);
            std::vector<std::string> got;
            ASSERT_EQ(read(&got), SC_BAD_INPUT) << n;
            ASSERT_TRUE(says(n < 8 + 17 ? "byte 8 " : "byte 25 "));
            record_log *log = nullptr;
            ASSERT_EQ(record_log_open(path.c_str(), nullptr, &log), SC_BAD_INPUT);
            ASSERT_EQ(get(path), changed);
        }
    }
    std::string changed = whole;
    changed[0] = 'X';
    put("log", changed);
    record_log *log = nullptr;
    EXPECT_EQ(record_log_open(path.c_str(), nullptr, &log), SC_BAD_INPUT);
    says("not a record log");
    EXPECT_EQ(get(path), changed);
}

TEST_F(RecordsTest, ADamagedLastRecordIsATornTail)
{
    append(three);
    std::string changed = get(path);
    for (size_t n = changed.size() - 100; n < changed.size(); n++)
        changed[n] = 0; /* what a crash leaves where the blocks were not written */
    put("log", changed);
    std::vector<std::string> got;
    uint64_t torn = 0;
    ASSERT_EQ(read(&got, &torn), SC_OK);
    EXPECT_EQ(got.size(), 2u);
    EXPECT_EQ(torn, 312u);
}

TEST_F(RecordsTest, EachIsTakenUnpacked)
{
    record_log *log = nullptr;
    ASSERT_EQ(record_log_open(path.c_str(), nullptr, &log), SC_OK);
    for (int64_t value : {5, 7, 9}) {
        record_pack p = {};
        const void *bytes;
        size_t n;
        record_pack_begin(&p, 1);
        record_pack_int(&p, "value", value);
        ASSERT_EQ(record_pack_end(&p, &bytes, &n), SC_OK);
        ASSERT_EQ(record_log_append(log, bytes, n, false), SC_OK);
        record_pack_free(&p);
    }
    record_log_close(log);
    std::vector<int64_t> taken;
    const auto take = [](void *context, const record_map *map) {
        auto *values = static_cast<std::vector<int64_t> *>(context);
        int64_t value = 0;
        const sc_status status = record_need_int(map, "value", &value);
        values->push_back(value);
        return value == 9 ? sc_fail(SC_CONFLICT, "%s: nine", map->where) : status;
    };
    EXPECT_EQ(record_each(path.c_str(), take, &taken), SC_CONFLICT);
    EXPECT_EQ(taken, (std::vector<int64_t>{5, 7, 9}));
    EXPECT_NE(std::string(sc_last_error()).find("record at byte "), std::string::npos) << sc_last_error();
    put("log", get(path).substr(0, get(path).size() - 1)); // the last one is torn
    taken.clear();
    EXPECT_EQ(record_each(path.c_str(), take, &taken), SC_OK);
    EXPECT_EQ(taken, (std::vector<int64_t>{5, 7}));
    EXPECT_EQ(record_each(at("none").c_str(), take, &taken), SC_BAD_INPUT);
}

class PackTest : public ::testing::Test
{
  protected:
    void TearDown() override
    {
        record_map_free(&map);
        record_pack_free(&pack);
    }
    sc_status unpack(const std::string &bytes)
    {
        record_map_free(&map);
        return record_unpack(bytes.data(), bytes.size(), "log:7", &map);
    }
    record_pack pack = {};
    record_map map = {};
};

TEST_F(PackTest, RoundTrip)
{
    record_pack_begin(&pack, 8);
    record_pack_string(&pack, "text", "h\xc3\xa9llo");
    record_pack_string(&pack, "nothing", nullptr);
    record_pack_text(&pack, "part", "abcdef", 3);
    record_pack_int(&pack, "least", INT64_MIN);
    record_pack_int(&pack, "most", INT64_MAX);
    record_pack_number(&pack, "number", 0.1);
    record_pack_bool(&pack, "yes", true);
    record_pack_bytes(&pack, "bytes", "\0\xff", 2);
    const void *bytes;
    size_t n;
    ASSERT_EQ(record_pack_end(&pack, &bytes, &n), SC_OK) << sc_last_error();
    const std::string packed((const char *)bytes, n);
    ASSERT_EQ(unpack(packed), SC_OK) << sc_last_error();
    EXPECT_EQ(map.n_fields, 8u);
    const char *text;
    int64_t i;
    double x;
    bool yes;
    ASSERT_EQ(record_need_string(&map, "text", &text), SC_OK);
    EXPECT_STREQ(text, "h\xc3\xa9llo");
    ASSERT_EQ(record_need_string(&map, "part", &text), SC_OK);
    EXPECT_STREQ(text, "abc");
    EXPECT_EQ(record_need_string(&map, "nothing", &text), SC_BAD_INPUT);
    says("log:7: the record lacks nothing");
    ASSERT_EQ(record_get_string(&map, "nothing", "else", &text), SC_OK);
    EXPECT_STREQ(text, "else");
    ASSERT_EQ(record_need_int(&map, "least", &i), SC_OK);
    EXPECT_EQ(i, INT64_MIN);
    ASSERT_EQ(record_need_int(&map, "most", &i), SC_OK);
    EXPECT_EQ(i, INT64_MAX);
    ASSERT_EQ(record_get_int(&map, "absent", 4, &i), SC_OK);
    EXPECT_EQ(i, 4);
    EXPECT_EQ(record_get_int(&map, "text", 4, &i), SC_BAD_INPUT);
    ASSERT_EQ(record_get_number(&map, "number", 0, &x), SC_OK);
    EXPECT_EQ(x, 0.1);
    ASSERT_EQ(record_get_bool(&map, "yes", false, &yes), SC_OK);
    EXPECT_TRUE(yes);
    EXPECT_EQ(record_get_bool(&map, "number", false, &yes), SC_BAD_INPUT);
    ASSERT_EQ(record_need_bytes(&map, "bytes", &bytes, &n), SC_OK);
    EXPECT_EQ(std::string((const char *)bytes, n), std::string("\0\xff", 2));
    EXPECT_EQ(record_need_bytes(&map, "text", &bytes, &n), SC_BAD_INPUT);
    for (size_t cut = 0; cut < packed.size(); cut++)
        EXPECT_EQ(unpack(packed.substr(0, cut)), SC_BAD_INPUT) << cut;
    for (size_t at = 0; at < packed.size(); at++) {
        for (int bits : {0x01, 0x80, 0xff}) {
            std::string changed = packed;
            changed[at] = (char)(changed[at] ^ bits);
            unpack(changed); /* any answer, no fault */
        }
    }
}

TEST_F(PackTest, TheNumberOfPairsIsChecked)
{
    const void *bytes;
    size_t n;
    record_pack_begin(&pack, 2);
    record_pack_int(&pack, "a", 1);
    EXPECT_EQ(record_pack_end(&pack, &bytes, &n), SC_INTERNAL);
}

TEST_F(PackTest, RefusesHostileMaps)
{
    const std::string bad[] = {
        "",
        std::string("\xdf\xff\xff\xff\xff", 5), // 2^32 - 1 pairs
        std::string("\xde\xff\xff\xa1k\x01", 6),
        std::string("\x81\xa1k\xdd\xff\xff\xff\xff", 8), // an array of 2^32 - 1
        std::string("\x81\xa1k\x81\xa1k\x01", 7),        // a map inside
        std::string("\x81\xa1k\x91\x01", 5),             // an array inside
        std::string("\x81\xa1k\xdb\xff\xff\xff\xff", 8), // a text of 4 GiB
        std::string("\x81\xa1k\xc6\xff\xff\xff\xff", 8), // bytes of 4 GiB
        std::string("\x81\xa1k\xc7\x01\x05x", 7),        // an extension
        std::string("\x81\xa1k\xc1", 4),                 // never used
        std::string("\x81\x01\x01", 3),                  // a number as the key
        std::string("\x82\xa1k\x01\xa1k\x02", 7),        // the same key twice
        std::string("\x81\xa1k\x01\x01", 5),             // a byte left over
        std::string("\x81\xa1\x00\x01", 4),              // a zero byte in the key
        std::string("\x81\xa1\xff\x01", 4),              // not UTF-8
        std::string("\x81\xa1k\xa1\xff", 5),
        std::string("\x81\xa1k\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 12), // above INT64_MAX
        std::string(100000, '\x81'),                                      // depth
        "text",
    };
    for (const std::string &b : bad)
        EXPECT_EQ(unpack(b), SC_BAD_INPUT) << ::testing::PrintToString(b.substr(0, 20));
    EXPECT_EQ(unpack("\x80"), SC_OK);
    EXPECT_EQ(record_find(&map, "k"), nullptr);
}

} // namespace
