// NumPy files: what NumPy writes is read, what we write NumPy's layout has, and hostile headers are refused.
#include "fixture.h"

#include <cstdint>

extern "C" {
#include "formats/npy.h"
}

namespace
{

class NpyTest : public FolderTest
{
  protected:
    static std::string file(const std::string &dict, const std::string &data, int major = 1)
    {
        std::string text = dict;
        size_t start = major == 1 ? 10 : 12;
        while ((start + text.size() + 1) % 64 != 0)
            text += ' ';
        text += '\n';
        std::string length = major == 1 ? raw((uint16_t)text.size()) : raw((uint32_t)text.size());
        return std::string("\x93NUMPY", 6) + (char)major + '\0' + length + text + data;
    }
    static std::string dict(const std::string &descr, const std::string &shape,
                            const std::string &order = "False")
    {
        return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
    }
    sc_status open(const std::string &bytes)
    {
        npy_close(&f);
        return npy_open(put("a.npy", bytes).c_str(), &f);
    }
    void TearDown() override
    {
        npy_close(&f);
        FolderTest::TearDown();
    }
    npy_file f = {};
};

TEST_F(NpyTest, ReadsEveryTypeAndVersion)
{
    const std::vector<float> values = {1, -2, 3.5f, 0, 1e-30f, 6};
    for (int major = 1; major <= 3; major++) {
        ASSERT_EQ(open(file(dict("<f4", "(2, 3)"), raw(values), major)), SC_OK) << sc_last_error();
        EXPECT_EQ(f.type, NPY_F4);
        EXPECT_EQ(f.n_dims, 2);
        EXPECT_EQ(f.shape[0], 2);
        EXPECT_EQ(f.shape[1], 3);
        EXPECT_EQ(f.shape[2], 1);
        EXPECT_EQ(f.n_values, 6);
        EXPECT_EQ(memcmp(f.data, values.data(), 24), 0);
    }
    ASSERT_EQ(open(file(dict("<f8", "(2,)"), raw(std::vector<double>{1, 2}))), SC_OK);
    EXPECT_EQ(f.type, NPY_F8);
    ASSERT_EQ(open(file(dict("<i4", "(1, 1, 2)"), raw(std::vector<int32_t>{1, 2}))), SC_OK);
    EXPECT_EQ(f.type, NPY_I4);
    EXPECT_EQ(f.n_dims, 3);
    ASSERT_EQ(open(file(dict("<i8", "(0, 7)"), "")), SC_OK);
    EXPECT_EQ(f.n_values, 0);
}

TEST_F(NpyTest, OpenAsRefusesAnotherTypeOrRank)
{
    std::string path = put("a.npy", file(dict("<f4", "(2,)"), std::string(8, 0)));
    EXPECT_EQ(npy_open_as(path.c_str(), NPY_F8, 1, &f), SC_BAD_INPUT);
    says("float64");
    EXPECT_EQ(npy_open_as(path.c_str(), NPY_F4, 2, &f), SC_BAD_INPUT);
    says("axes");
    EXPECT_EQ(npy_open_as(path.c_str(), NPY_F4, 1, &f), SC_OK);
}

TEST_F(NpyTest, ReadsDataAtAnOddAddress)
{
    std::string text = dict("<f8", "(1,)") + "\n";
    ASSERT_NE((10 + text.size()) % 8, 0u);
    std::string bytes = std::string("\x93NUMPY\x01\0", 8) + raw((uint16_t)text.size()) + text + raw(2.5);
    ASSERT_EQ(open(bytes), SC_OK);
    EXPECT_EQ((uintptr_t)f.data % 8, 0u);
    EXPECT_EQ(*(const double *)f.data, 2.5);
}

TEST_F(NpyTest, RefusesTruncationAtEveryByteAndBytesLeftOver)
{
    std::string whole = file(dict("<i4", "(3,)"), std::string(12, 1));
    for (size_t n = 0; n < whole.size(); n++)
        EXPECT_EQ(open(whole.substr(0, n)), SC_BAD_INPUT) << n;
    EXPECT_EQ(open(whole + "x"), SC_BAD_INPUT);
    EXPECT_EQ(open(whole), SC_OK);
}

TEST_F(NpyTest, RefusesHostileHeaders)
{
    const std::string bad[] = {
        dict("<f4", "(1152921504606846976,)"),      // 2^60 floats
        dict("<f4", "(4294967296, 4294967296)"),    // 2^64
        dict("<f4", "(0, 4294967296, 4294967296)"), // hidden behind an empty axis
        dict("<f4", "(99999999999999999999,)"),     // no int64
        dict("<f4", "(-1,)"),
        dict("<f4", "(1, 1, 1, 1)"),
        dict("<f4", "()"),
        dict("<f4", "(1"),
        dict("<f4", "[1]"),
        dict(">f4", "(1,)"),
        dict("|O", "(1,)"),
        dict("<f2", "(1,)"),
        dict("<f4", "(1,)", "True"),
        dict("<f4", "(1,)", "Maybe"),
        "{'descr': '<f4', 'shape': (1,)}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
        dict("<f4", "(1,)") + " os.system('x')",
        "",
        "[]",
    };
    for (const std::string &text : bad)
        EXPECT_EQ(open(file(text, std::string(4, 0))), SC_BAD_INPUT) << text;
    EXPECT_EQ(open(file(dict("<f4", "(1,)"), std::string(4, 0), 4)), SC_BAD_INPUT);
    EXPECT_EQ(open("PK\x03\x04 something else"), SC_BAD_INPUT);
    EXPECT_EQ(npy_open(at("absent.npy").c_str(), &f), SC_BAD_INPUT);
}

TEST_F(NpyTest, WritesRowsAndFillsTheCountIn)
{
    const int64_t shape[] = {-1, 3};
    const std::vector<float> rows = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    npy_writer *w = nullptr;
    ASSERT_EQ(npy_writer_open(at("w.npy").c_str(), NPY_F4, 2, shape, &w), SC_OK) << sc_last_error();
    ASSERT_EQ(npy_writer_rows(w, rows.data(), 2), SC_OK);
    EXPECT_FALSE(file_exists(at("w.npy").c_str()));
    ASSERT_EQ(npy_writer_rows(w, rows.data() + 6, 1), SC_OK);
    ASSERT_EQ(npy_writer_commit(&w), SC_OK) << sc_last_error();
    EXPECT_EQ(w, nullptr);
    std::string bytes = get(at("w.npy"));
    EXPECT_EQ(bytes.size(), 128u + 36u);
    EXPECT_EQ(bytes.substr(10, 61), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }  ");
    EXPECT_EQ(bytes[127], '\n');
    ASSERT_EQ(npy_open_as(at("w.npy").c_str(), NPY_F4, 2, &f), SC_OK) << sc_last_error();
    EXPECT_EQ(memcmp(f.data, rows.data(), 36), 0);
}

TEST_F(NpyTest, WriterKeepsToItsPlan)
{
    const int64_t shape[] = {2};
    const int64_t values[] = {5, 6, 7};
    npy_writer *w = nullptr;
    ASSERT_EQ(npy_writer_open(at("w.npy").c_str(), NPY_I8, 1, shape, &w), SC_OK);
    ASSERT_EQ(npy_writer_rows(w, values, 1), SC_OK);
    EXPECT_EQ(npy_writer_commit(&w), SC_INTERNAL);
    EXPECT_FALSE(file_exists(at("w.npy").c_str()));
    ASSERT_EQ(npy_write(at("w.npy").c_str(), NPY_I8, 1, shape, values), SC_OK);
    ASSERT_EQ(npy_open_as(at("w.npy").c_str(), NPY_I8, 1, &f), SC_OK);
    EXPECT_EQ(f.n_values, 2);
    const int64_t huge[] = {1, INT64_MAX, 4};
    EXPECT_EQ(npy_writer_open(at("x.npy").c_str(), NPY_F4, 3, huge, &w), SC_INTERNAL);
    EXPECT_EQ(npy_writer_open(at("x.npy").c_str(), NPY_F4, 4, huge, &w), SC_INTERNAL);
}

} // namespace
