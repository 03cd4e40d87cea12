// Zip archives made byte by byte: stored and deflated members, and archives that lie.
#include "fixture.h"

#include <zlib.h>

#include <cstdint>

extern "C" {
#include "formats/zip.h"
}

namespace
{

struct Member {
    std::string name, content;
    bool deflate;
};

std::string zip_of(const std::vector<Member> &members)
{
    std::string out, directory;
    for (const Member &m : members) {
        std::string packed = m.content;
        if (m.deflate) {
            z_stream s = {};
            deflateInit2(&s, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
            packed.resize(deflateBound(&s, m.content.size()));
            s.next_in = (Bytef *)m.content.data();
            s.avail_in = (uInt)m.content.size();
            s.next_out = (Bytef *)packed.data();
            s.avail_out = (uInt)packed.size();
            deflate(&s, Z_FINISH);
            packed.resize(s.total_out);
            deflateEnd(&s);
        }
        std::string common =
            raw((uint16_t)20) + raw((uint16_t)0) + raw((uint16_t)(m.deflate ? 8 : 0)) + raw((uint32_t)0) +
            raw((uint32_t)crc32(0, (const Bytef *)m.content.data(), (uInt)m.content.size())) +
            raw((uint32_t)packed.size()) + raw((uint32_t)m.content.size()) + raw((uint16_t)m.name.size()) +
            raw((uint16_t)0);
        directory += "PK\x01\x02" + raw((uint16_t)20) + common + raw((uint16_t)0) + raw((uint16_t)0) +
                     raw((uint16_t)0) + raw((uint32_t)0) + raw((uint32_t)out.size()) + m.name;
        out += "PK\x03\x04" + common + m.name + packed;
    }
    uint16_t n = (uint16_t)members.size();
    return out + directory + "PK\x05\x06" + raw((uint32_t)0) + raw(n) + raw(n) +
           raw((uint32_t)directory.size()) + raw((uint32_t)out.size()) + raw((uint16_t)0);
}

class ZipTest : public FolderTest
{
  protected:
    sc_status open(const std::string &bytes)
    {
        zip_close(z);
        return zip_open(put("a.zip", bytes).c_str(), &z);
    }
    void TearDown() override
    {
        zip_close(z);
        FolderTest::TearDown();
    }
    zip_archive *z = nullptr;
    const std::string text = std::string(300000, 'a') + "the end";
};

TEST_F(ZipTest, ExtractsStoredAndDeflated)
{
    ASSERT_EQ(open(zip_of({{"x/", "", false}, {"x/a.txt", text, true}, {"b", text, false}, {"c", "", true}})),
              SC_OK);
    ASSERT_EQ(zip_count(z), 4u);
    EXPECT_EQ(zip_find(z, "absent"), nullptr);
    ASSERT_EQ(zip_extract(z, zip_find(z, "x/a.txt"), at("out").c_str()), SC_OK) << sc_last_error();
    EXPECT_EQ(get(at("out")), text);
    ASSERT_EQ(zip_extract_all(z, at("all").c_str()), SC_OK) << sc_last_error();
    EXPECT_EQ(get(at("all/x/a.txt")), text);
    EXPECT_EQ(get(at("all/b")), text);
    EXPECT_TRUE(file_exists(at("all/c").c_str()));
}

TEST_F(ZipTest, NeverLeavesTheFolder)
{
    for (const char *name : {"../evil", "a/../../evil", "/evil", "a//b", ".", "a/..", "..\\evil", ""}) {
        ASSERT_EQ(open(zip_of({{"good", "1", false}, {name, "2", false}})), SC_OK);
        EXPECT_EQ(zip_extract_all(z, at("all").c_str()), SC_BAD_INPUT) << name;
        EXPECT_FALSE(file_exists(at("all/good").c_str()));
        EXPECT_FALSE(file_exists(at("evil").c_str()));
    }
}

TEST_F(ZipTest, RefusesDamage)
{
    const std::string whole = zip_of({{"a", "hello hello hello", true}, {"b", "stored", false}});
    for (size_t n = 0; n < whole.size(); n++)
        EXPECT_EQ(open(whole.substr(0, n)), SC_BAD_INPUT) << n;
    for (size_t n = 0; n < whole.size(); n++) {
        for (int bits : {0xff}) {
            std::string changed = whole;
            changed[n] = (char)(changed[n] ^ bits);
            if (open(changed) != SC_OK)
                continue;
            for (size_t i = 0; i < zip_count(z); i++) {
                const zip_member *m = zip_at(z, i);
                if (zip_extract(z, m, at("out").c_str()) == SC_OK) {
                    EXPECT_EQ(get(at("out")), m->size == 6 ? "stored" : "hello hello hello") << n;
                }
            }
        }
    }
}

} // namespace
