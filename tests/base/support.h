/* What the tests of the ground floor share: a folder of their own, files, a child process. */
#pragma once

#include <gtest/gtest.h>

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "base/file.h"

/* A fresh folder, removed with what is in it. */
class Folder : public ::testing::Test
{
  protected:
    void SetUp() override
    {
        const char *base = getenv("TMPDIR");
        std::string pattern = std::string(base ? base : "/tmp") + "/seedcorn-base-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        folder = pattern;
    }
    void TearDown() override
    {
        EXPECT_EQ(file_remove_tree(folder.c_str()), SC_OK) << sc_last_error();
    }
    std::string at(const std::string &name) const
    {
        return folder + "/" + name;
    }
    std::string make(const std::string &name, const std::string &bytes) const
    {
        /* Removed first: some file systems sync a file that is cut to nothing and written again. */
        unlink(at(name).c_str());
        std::ofstream(at(name), std::ios::binary) << bytes;
        return at(name);
    }
    std::string folder;
};

inline std::string bytes_of(const std::string &path)
{
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline std::vector<std::string> names_in(const std::string &folder)
{
    std::vector<std::string> names;
    DIR *dir = opendir(folder.c_str());
    if (!dir)
        return names;
    while (const dirent *entry = readdir(dir)) {
        std::string name = entry->d_name;
        if (name != "." && name != "..")
            names.push_back(name);
    }
    closedir(dir);
    return names;
}

/* Runs `body` in a child process and returns what it returned (0..255), or -1 if it died. */
inline int in_child(const std::function<int()> &body)
{
    pid_t child = fork();
    if (child == 0)
        _exit(body());
    int state = 0;
    if (child < 0 || waitpid(child, &state, 0) != child || !WIFEXITED(state))
        return -1;
    return WEXITSTATUS(state);
}

inline bool says(const std::string &words)
{
    return std::string(sc_last_error()).find(words) != std::string::npos;
}
