// What holds the house up: floors, headers that stand alone, exported names, a library that never
// prints or exits.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace
{

const fs::path source = SC_SOURCE_DIR;
const fs::path binary = SC_BINARY_DIR;

// Higher numbers may use lower ones; the same number only itself.
const std::map<std::string, int> floors = {{"base", 0},     {"formats", 1}, {"text", 2},  {"data", 2},
                                           {"net", 2},      {"device", 2},  {"model", 3}, {"distributed", 3},
                                           {"evaluate", 4}, {"select", 4},  {"train", 4}, {"synthesis", 5},
                                           {"pipeline", 6}, {"cli", 7}};

std::vector<fs::path> files_below(const fs::path &folder, const std::set<std::string> &endings)
{
    std::vector<fs::path> out;
    for (const auto &entry : fs::recursive_directory_iterator(folder))
        if (entry.is_regular_file() && endings.count(entry.path().extension().string()))
            out.push_back(entry.path());
    std::sort(out.begin(), out.end());
    return out;
}

std::string output_of(const std::string &command, int *code = nullptr)
{
    std::string text;
    std::array<char, 4096> block;
    FILE *pipe = popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr)
        return "popen failed";
    while (size_t n = fread(block.data(), 1, block.size(), pipe))
        text.append(block.data(), n);
    int result = pclose(pipe);
    if (code != nullptr)
        *code = result;
    return text;
}

std::vector<std::string> lines_of(const std::string &text)
{
    std::vector<std::string> out;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);)
        out.push_back(line);
    return out;
}

TEST(House, IncludesGoOnlyDownTheFloors)
{
    const std::regex include("^\\s*#\\s*include\\s+\"([a-z]+)/");
    int seen = 0;
    for (const auto &file : files_below(source / "src", {".c", ".h"})) {
        const std::string own = fs::relative(file, source / "src").begin()->string();
        ASSERT_TRUE(floors.count(own)) << file << " is in a folder without a floor";
        std::ifstream stream(file);
        int number = 0;
        for (std::string line; std::getline(stream, line);) {
            std::smatch match;
            number++;
            if (!std::regex_search(line, match, include) || match[1] == "seedcorn")
                continue;
            const std::string other = match[1];
            ASSERT_TRUE(floors.count(other))
                << file << ":" << number << " includes the unknown folder " << other;
            seen++;
            EXPECT_TRUE(other == own || floors.at(other) < floors.at(own))
                << file << ":" << number << ": " << own << " may not use " << other;
        }
    }
    EXPECT_GT(seen, 50) << "the test no longer finds the includes";
}

// The CUDA table knows of the library no more than the table's contract, and how a plug-in is opened.
TEST(House, KernelsKnowTheTableAlone)
{
    const std::regex include("^\\s*#\\s*include\\s+\"([^\"]+)\"");
    const std::set<std::string> known = {"device/ops.h", "device/plugin.h", "emu/emu.h"};
    int seen = 0;
    for (const auto &file : files_below(source / "kernels", {".cu", ".cuh", ".h"})) {
        std::ifstream stream(file);
        for (std::string line; std::getline(stream, line);) {
            std::smatch match;
            if (!std::regex_search(line, match, include))
                continue;
            seen++;
            EXPECT_TRUE(known.count(match[1]) || fs::exists(source / "kernels" / match[1].str()))
                << file << " includes " << match[1];
        }
    }
    EXPECT_GT(seen, 20) << "the test no longer finds the includes";
}

TEST(House, PublicHeadersCompileAlone)
{
    const auto headers = files_below(source / "include", {".h"});
    ASSERT_FALSE(headers.empty());
    for (const auto &header : headers) {
        for (const std::string compiler : {"cc -std=c11 -x c", "c++ -std=c++17 -x c++"}) {
            int code = 0;
            const std::string text =
                output_of(compiler + " -fsyntax-only -Wall -Wextra -Werror -pedantic -I" +
                              (source / "include").string() + " " + header.string(),
                          &code);
            EXPECT_EQ(code, 0) << compiler << " " << header << "\n" << text;
        }
    }
}

TEST(House, OnlySeedcornNamesAreExported)
{
    int functions = 0;
    for (const auto &line :
         lines_of(output_of("nm -D --defined-only " + (binary / "src/libseedcorn.so").string()))) {
        const std::string name = line.substr(line.find_last_of(' ') + 1);
        functions++;
        EXPECT_EQ(name.rfind("sc_", 0), 0u) << "libseedcorn.so exports " << name;
    }
    EXPECT_GT(functions, 20);
    functions = 0;
    for (const auto &line :
         lines_of(output_of("nm --extern-only --defined-only " + (binary / "libseedcorn.a").string()))) {
        if (line.size() < 19 || line[0] == 's')
            continue;
        const std::string name = line.substr(line.find_last_of(' ') + 1);
        functions++;
        EXPECT_EQ(name.rfind("sc_", 0), 0u) << "libseedcorn.a defines " << name;
    }
    EXPECT_GT(functions, 20);
}

TEST(House, EveryPublicFunctionIsExported)
{
    const std::string exported =
        output_of("nm -D --defined-only " + (binary / "src/libseedcorn.so").string());
    const std::regex declaration("SC_API[^;(]*[ *](sc_[a-z0-9_]+)\\(");
    int seen = 0;
    for (const auto &header : files_below(source / "include", {".h"})) {
        std::stringstream text;
        text << std::ifstream(header).rdbuf();
        const std::string content = text.str();
        for (std::sregex_iterator i(content.begin(), content.end(), declaration), end; i != end; ++i) {
            const std::string name = (*i)[1];
            seen++;
            EXPECT_NE(exported.find(" " + name + "\n"), std::string::npos) << header << " declares " << name;
        }
    }
    EXPECT_GT(seen, 25);
}

TEST(House, TheLibraryNeverExitsAbortsOrPrints)
{
    const std::set<std::string> forbidden = {
        "exit",    "_exit",    "_Exit",        "abort",  "quick_exit", "printf", "puts",   "putchar",
        "fprintf", "vfprintf", "__printf_chk", "perror", "vprintf",    "stderr", "stdout", "__fprintf_chk"};
    int archives = 0;
    for (const auto &archive : fs::directory_iterator(binary / "src")) {
        const std::string name = archive.path().filename().string();
        if (name.rfind("libsc_", 0) != 0 || name == "libsc_cli.a")
            continue;
        archives++;
        for (const auto &line : lines_of(output_of("nm --undefined-only " + archive.path().string()))) {
            std::string symbol = line.substr(line.find_last_of(' ') + 1);
            symbol = symbol.substr(0, symbol.find('@'));
            EXPECT_FALSE(forbidden.count(symbol)) << name << " uses " << symbol;
        }
    }
    EXPECT_GT(archives, 8);
}

TEST(House, FilesTellOneStory)
{
    for (const auto &file : files_below(source / "src", {".c", ".h"})) {
        std::ifstream stream(file);
        const auto lines = std::count(std::istreambuf_iterator<char>(stream), {}, '\n');
        EXPECT_LE(lines, 750) << file << " has grown too long";
    }
}

} // namespace
