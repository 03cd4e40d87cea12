/* A folder of its own for each test, and bytes put together by hand. */
#ifndef SC_TESTS_FORMATS_FIXTURE_H
#define SC_TESTS_FORMATS_FIXTURE_H

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" {
#include "base/file.h"
}

class FolderTest : public ::testing::Test
{
  protected:
    void SetUp() override
    {
        char name[] = "/tmp/seedcorn-test-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder = name;
    }
    void TearDown() override
    {
        file_remove_tree(folder.c_str());
    }

    std::string at(const std::string &name) const
    {
        return folder + "/" + name;
    }
    std::string put(const std::string &name, const std::string &bytes) const
    {
        std::ofstream(at(name), std::ios::binary).write(bytes.data(), (std::streamsize)bytes.size());
        return at(name);
    }
    static std::string get(const std::string &path)
    {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    }

    std::string folder;
};

template <typename T> std::string raw(T value)
{
    return std::string(reinterpret_cast<const char *>(&value), sizeof value);
}
template <typename T> std::string raw(const std::vector<T> &values)
{
    return std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
}

inline bool says(const char *word)
{
    bool found = strstr(sc_last_error(), word) != nullptr;
    if (!found)
        ADD_FAILURE() << "'" << word << "' is not in: " << sc_last_error();
    return found;
}

#endif
