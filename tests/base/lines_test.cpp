#include "support.h"

#include <sys/stat.h>

#include <chrono>
#include <cstring>
#include <thread>

#include <zlib.h>
#include <zstd.h>

namespace
{

std::string gz(const std::string &bytes, int level = 6)
{
    z_stream z = {};
    EXPECT_EQ(deflateInit2(&z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    std::string out(deflateBound(&z, bytes.size()) + 64, '\0');
    z.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(bytes.data()));
    z.avail_in = static_cast<uInt>(bytes.size());
    z.next_out = reinterpret_cast<Bytef *>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
}

std::string zst(const std::string &bytes)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    std::string out(ZSTD_compressBound(bytes.size()), '\0');
    size_t n = ZSTD_compress2(context, out.data(), out.size(), bytes.data(), bytes.size());
    EXPECT_FALSE(ZSTD_isError(n));
    out.resize(n);
    ZSTD_freeCCtx(context);
    return out;
}

/* Lines that do not compress to nothing. */
std::string many_lines(int n)
{
    std::string text;
    unsigned state = 7;
    for (int i = 0; i < n; i++) {
        text += std::to_string(i);
        for (int k = 0; k < 30; k++) {
            state = state * 1664525u + 1013904223u;
            text += static_cast<char>('!' + (state >> 24) % 90);
        }
        text += '\n';
    }
    return text;
}

struct Read {
    sc_status status = SC_OK;
    std::vector<std::string> lines;
    std::string joined;
    uint64_t consumed = 0, size = 0;
    int64_t line = 0;
    std::string error;
};

Read read_lines(const std::string &path, size_t max_line = 1 << 20)
{
    Read result;
    line_reader *r = nullptr;
    result.status = line_reader_open(path.c_str(), max_line, &r);
    while (result.status == SC_OK) {
        const char *line;
        size_t n;
        result.status = line_reader_next(r, &line, &n);
        if (result.status != SC_OK || !line)
            break;
        EXPECT_EQ(line[n], '\0');
        result.lines.emplace_back(line, n);
        result.joined += std::string(line, n) + "\n";
        EXPECT_EQ(line_reader_line(r), static_cast<int64_t>(result.lines.size()));
    }
    if (result.status != SC_OK) {
        result.error = sc_last_error();
    }
    if (r) {
        const char *line = "";
        size_t n;
        /* After the end comes the end, after an error the error. */
        EXPECT_EQ(line_reader_next(r, &line, &n), result.status);
        EXPECT_EQ(line, nullptr);
        result.consumed = line_reader_consumed(r);
        result.size = line_reader_size(r);
        result.line = line_reader_line(r);
        EXPECT_STREQ(line_reader_path(r), path.c_str());
    }
    line_reader_close(r);
    return result;
}

} // namespace

using Lines = Folder;
using Strings = std::vector<std::string>;

TEST_F(Lines, PlainWithEveryLineEnd)
{
    EXPECT_EQ(read_lines(make("a", "one\ntwo\r\n\n\r\nfive")).lines, (Strings{"one", "two", "", "", "five"}));
    EXPECT_EQ(read_lines(make("b", "")).lines, Strings{});
    EXPECT_EQ(read_lines(make("c", "\n")).lines, Strings{""});
    EXPECT_EQ(read_lines(make("d", "a\r\rb\r\n")).lines, Strings{"a\r\rb"});
    EXPECT_EQ(read_lines(make("e", std::string("a\0b\nc", 5))).lines, (Strings{std::string("a\0b", 3), "c"}));
}

TEST_F(Lines, SkipsAByteOrderMark)
{
    EXPECT_EQ(read_lines(make("a", "\xEF\xBB\xBFone\n\xEF\xBB\xBFtwo")).lines,
              (Strings{"one", "\xEF\xBB\xBFtwo"}));
    EXPECT_EQ(read_lines(make("b", gz("\xEF\xBB\xBFone\n"))).lines, Strings{"one"});
}

TEST_F(Lines, ChoosesByContentNotByName)
{
    std::string text = many_lines(20000);
    for (const std::string &path :
         {make("plain.gz", text), make("gzip.txt", gz(text)), make("zstd", zst(text))}) {
        Read read = read_lines(path);
        ASSERT_EQ(read.status, SC_OK) << read.error;
        EXPECT_TRUE(read.joined == text) << path;
        EXPECT_EQ(read.consumed, read.size);
        EXPECT_EQ(read.size, bytes_of(path).size());
    }
}

TEST_F(Lines, ManyMembersAndFrames)
{
    std::string text = many_lines(3000), gzip, zstd;
    for (size_t i = 0; i < text.size(); i += 1000) {
        gzip += gz(text.substr(i, 1000)); /* members end within lines */
        zstd += zst(text.substr(i, 1000));
    }
    gzip += gz("");
    zstd += zst("");
    EXPECT_TRUE(read_lines(make("a", gzip)).joined == text);
    EXPECT_TRUE(read_lines(make("b", zstd)).joined == text);
    /* Zero bytes after the last member are padding, for gzip as well. */
    EXPECT_TRUE(read_lines(make("c", gzip + std::string(5000, '\0'))).joined == text);
    /* pzstd begins with a skippable frame. */
    std::string skippable("\x50\x2A\x4D\x18\x04\x00\x00\x00wxyz", 12);
    EXPECT_TRUE(read_lines(make("d", skippable + zstd)).joined == text);
}

/* Members that end at every place relative to the input buffer's end. */
TEST_F(Lines, MemberBoundariesAtTheBufferEnd)
{
    std::string noise = many_lines(6000).substr(0, (1 << 17) - 60);
    std::string first = gz(noise, 0), second = gz("tail\n");
    for (int shift = -4; shift <= 4; shift++) {
        std::string cut = noise;
        std::string member = first;
        while (member.size() != static_cast<size_t>((1 << 17) + shift)) {
            cut.resize(cut.size() - (member.size() - (1 << 17) - static_cast<size_t>(shift)), 'x');
            member = gz(cut, 0);
        }
        Read read = read_lines(make("a", member + second));
        ASSERT_EQ(read.status, SC_OK) << read.error;
        EXPECT_TRUE(read.joined == cut + "tail\n") << shift;
    }
}

TEST_F(Lines, EveryTruncationIsAnError)
{
    std::string text = many_lines(40), gzip = gz(text), zstd = zst(text);
    for (size_t n = 2; n < gzip.size(); n++) {
        Read read = read_lines(make("torn.gz", gzip.substr(0, n)));
        ASSERT_EQ(read.status, SC_BAD_INPUT) << n;
        ASSERT_NE(read.error.find("torn.gz"), std::string::npos);
        ASSERT_NE(read.error.find("truncated"), std::string::npos) << n << read.error;
        ASSERT_LE(read.lines.size(), 40u);
    }
    for (size_t n = 4; n < zstd.size(); n++) {
        Read read = read_lines(make("torn.zst", zstd.substr(0, n)));
        ASSERT_EQ(read.status, SC_BAD_INPUT) << n;
        ASSERT_NE(read.error.find("torn.zst"), std::string::npos);
    }
    /* Also in a later member. */
    for (size_t n = 2; n < gzip.size(); n += 7)
        ASSERT_EQ(read_lines(make("later.gz", gzip + gzip.substr(0, n))).status, SC_BAD_INPUT) << n;
    for (size_t n = 1; n < zstd.size(); n += 7)
        ASSERT_EQ(read_lines(make("later.zst", zstd + zstd.substr(0, n))).status, SC_BAD_INPUT) << n;
    ASSERT_EQ(read_lines(make("later.gz", gzip + "\x1F")).status, SC_BAD_INPUT);
}

TEST_F(Lines, DamageIsAnError)
{
    std::string text = many_lines(5000), gzip = gz(text), zstd = zst(text);
    for (size_t place : {gzip.size() / 2, gzip.size() - 3, gzip.size() - 7}) {
        std::string bad = gzip;
        bad[place] = static_cast<char>(bad[place] ^ 0x55);
        Read read = read_lines(make("bad.gz", bad));
        EXPECT_EQ(read.status, SC_BAD_INPUT);
        EXPECT_NE(read.error.find("bad.gz"), std::string::npos) << read.error;
    }
    std::string bad = zstd;
    bad[bad.size() - 2] = static_cast<char>(bad[bad.size() - 2] ^ 0x55); /* the check sum */
    EXPECT_EQ(read_lines(make("bad.zst", bad)).status, SC_BAD_INPUT);
    EXPECT_EQ(read_lines(make("tail.gz", gzip + "tail")).status, SC_BAD_INPUT);
    EXPECT_EQ(read_lines(make("tail2.gz", gzip + std::string(3, '\0') + gzip)).status, SC_BAD_INPUT);
    EXPECT_EQ(read_lines(make("tail.zst", zstd + "tail")).status, SC_BAD_INPUT);
}

TEST_F(Lines, NamesForeignFormats)
{
    for (auto [bytes, word] : {std::pair<std::string, std::string>{"BZh91AY&SY", "bzip2"},
                               {std::string("\xFD"
                                            "7zXZ\0",
                                            6),
                                "xz"},
                               {"PK\x03\x04 and more", "zip"},
                               {"PAR1....", "Parquet"},
                               {std::string("\xFF\xFE{\0", 4), "UTF-16"}}) {
        Read read = read_lines(make("foreign", bytes));
        EXPECT_EQ(read.status, SC_BAD_INPUT);
        EXPECT_NE(read.error.find(word), std::string::npos) << read.error;
    }
}

TEST_F(Lines, LineLongerThanTheLimitNamesItsPlace)
{
    const std::string ten(10, 'x');
    EXPECT_EQ(read_lines(make("a", ten + "\n" + ten + "\r\n" + ten), 10).lines, (Strings{ten, ten, ten}));
    for (const std::string &tail :
         {ten + "x", ten + "x\n", ten + "xx\r\n", ten + "x\r\n", std::string(1 << 20, 'x')}) {
        Read read = read_lines(make("b", "short\n" + tail), 10);
        EXPECT_EQ(read.status, SC_BAD_INPUT);
        EXPECT_EQ(read.lines, Strings{"short"});
        EXPECT_NE(read.error.find("b:2:"), std::string::npos) << read.error;
    }
    EXPECT_EQ(read_lines(make("c", ten), SIZE_MAX).lines, Strings{ten});
    /* A small file that unpacks to a huge line stays within the limit. */
    EXPECT_EQ(read_lines(make("bomb.gz", gz(std::string(50 << 20, 'x'))), 1000).status, SC_BAD_INPUT);
}

TEST_F(Lines, LineAcrossManyChunks)
{
    std::string line = many_lines(20000);
    for (char &c : line)
        c = c == '\n' ? ' ' : c;
    std::string text = line + "\nnext\n";
    EXPECT_EQ(read_lines(make("a", text)).lines, (Strings{line, "next"}));
    EXPECT_EQ(read_lines(make("b", gz(text))).lines, (Strings{line, "next"}));
}

TEST_F(Lines, ReadsAPipe)
{
    for (bool packed : {false, true}) {
        std::string text = many_lines(5000), name = packed ? "gz" : "plain";
        std::string bytes = packed ? gz(text) : text;
        ASSERT_EQ(mkfifo(at(name).c_str(), 0600), 0);
        std::thread writer([&] {
            std::ofstream out(at(name), std::ios::binary);
            out << bytes.substr(0, 1) << std::flush; /* the magic bytes come one by one */
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            out << bytes.substr(1);
        });
        line_reader *r = nullptr;
        ASSERT_EQ(line_reader_open(at(name).c_str(), 1000, &r), SC_OK);
        EXPECT_EQ(line_reader_size(r), 0u);
        size_t count = 0, n;
        const char *line;
        while (line_reader_next(r, &line, &n) == SC_OK && line)
            count++;
        EXPECT_EQ(count, 5000u);
        line_reader_close(r);
        writer.join();
    }
}

TEST_F(Lines, RefusesWhatIsNoFile)
{
    EXPECT_EQ(read_lines(at("absent")).status, SC_BAD_INPUT);
    EXPECT_EQ(read_lines(folder).status, SC_BAD_INPUT);
    line_reader_close(nullptr);
}
