/* What the tests of src/data share: a folder of their own, files, JSON lines, the imports in one line. */
#pragma once

#include <gtest/gtest.h>

#include <dirent.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/dataset.h"
#include "data/dialogue.h"
#include "seedcorn/import.h"

struct JsonFree {
    void operator()(json_t *value) const
    {
        json_decref(value);
    }
};
using Json = std::unique_ptr<json_t, JsonFree>;

inline std::string bytes_of(const std::string &path)
{
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline std::string gzip(const std::string &bytes)
{
    std::string out(bytes.size() + 1000, '\0');
    z_stream z = {};
    if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return {};
    z.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(bytes.data()));
    z.avail_in = static_cast<uInt>(bytes.size());
    z.next_out = reinterpret_cast<Bytef *>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    deflate(&z, Z_FINISH);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
}

inline bool says(const std::string &words)
{
    return std::string(sc_last_error()).find(words) != std::string::npos;
}

/* A fresh folder, removed with what is in it. */
class Data : public ::testing::Test
{
  protected:
    void SetUp() override
    {
        const char *base = getenv("TMPDIR");
        std::string pattern = std::string(base ? base : "/tmp") + "/seedcorn-data-XXXXXX";
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
        std::ofstream(at(name), std::ios::binary) << bytes;
        return at(name);
    }
    std::vector<std::string> names() const
    {
        std::vector<std::string> found;
        DIR *dir = opendir(folder.c_str());
        while (const dirent *entry = dir ? readdir(dir) : nullptr) {
            if (entry->d_name[0] != '.')
                found.push_back(entry->d_name);
        }
        if (dir)
            closedir(dir);
        return found;
    }
    /* Nothing unfinished lies about. */
    bool tidy() const
    {
        for (const std::string &name : names()) {
            if (name.find(".tmp-") != std::string::npos)
                return false;
        }
        return true;
    }

    sc_status import_reviews(const std::vector<std::string> &reviews,
                             const std::vector<std::string> &items = {}, const char *format = "amazon23")
    {
        sc_import_reviews_options o = sc_import_reviews_default();
        std::vector<const char *> review_list, item_list;
        for (const std::string &path : reviews)
            review_list.push_back(path.c_str());
        for (const std::string &path : items)
            item_list.push_back(path.c_str());
        review_list.push_back(nullptr);
        item_list.push_back(nullptr);
        std::string out = at("out");
        o.reviews = review_list.data();
        o.items = items.empty() ? nullptr : item_list.data();
        o.out = out.c_str();
        o.format = format;
        result = {};
        return sc_import_reviews(&o, &result);
    }
    sc_status import_dialogues(const char *format, const std::string &input, const std::string &items = "",
                               int64_t limit = 0, int64_t seed = 0, const std::string &prompt = "")
    {
        sc_import_dialogues_options o = sc_import_dialogues_default();
        std::string out = at("out.jsonl");
        o.format = format;
        o.input = input.c_str();
        o.items = items.empty() ? nullptr : items.c_str();
        o.out = out.c_str();
        o.limit = limit;
        o.common.seed = seed;
        o.prompt = prompt.empty() ? nullptr : prompt.c_str();
        result = {};
        return sc_import_dialogues(&o, &result);
    }
    std::vector<Json> lines(const std::string &name) const
    {
        std::vector<Json> values;
        line_reader *r = nullptr;
        if (line_reader_open(at(name).c_str(), size_t{1} << 26, &r) != SC_OK)
            return values;
        json_t *value = nullptr;
        while (json_next_line(r, &value) == SC_OK && value)
            values.emplace_back(value);
        line_reader_close(r);
        return values;
    }
    Json json(const std::string &name) const
    {
        json_t *value = nullptr;
        EXPECT_EQ(json_parse_file(at(name).c_str(), &value), SC_OK) << sc_last_error();
        return Json(value);
    }
    /* "dropped/reviews/no_text" in a JSON file; -1 if absent. */
    int64_t number(const std::string &file, const std::string &path) const
    {
        Json root = json(file);
        const json_t *value = root.get();
        for (size_t start = 0; value && start <= path.size();) {
            size_t end = path.find('/', start);
            end = end == std::string::npos ? path.size() : end;
            value = json_object_get(value, path.substr(start, end - start).c_str());
            start = end + 1;
        }
        return json_is_integer(value) ? json_integer_value(value) : -1;
    }

    std::string folder;
    sc_import_result result = {};
};

inline std::string text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "(none)";
}

inline std::vector<std::string> texts(const json_t *object, const char *key)
{
    std::vector<std::string> list;
    const json_t *values = json_object_get(object, key);
    for (size_t i = 0; i < json_array_size(values); i++)
        list.push_back(json_string_value(json_array_get(values, i)));
    return list;
}

using Strings = std::vector<std::string>;

inline std::string review_line(const std::string &user, const std::string &item_id, const std::string &words,
                               double rating = 4, int64_t timestamp = 1600000000000)
{
    Json line(json_pack("{s:f, s:s, s:s, s:[], s:s, s:s, s:s, s:I, s:i, s:b}", "rating", rating, "title",
                        "A title", "text", words.c_str(), "images", "asin", item_id.c_str(), "parent_asin",
                        item_id.c_str(), "user_id", user.c_str(), "timestamp",
                        static_cast<json_int_t>(timestamp), "helpful_vote", 0, "verified_purchase", 1));
    char *dumped = json_dumps(line.get(), JSON_COMPACT);
    std::string bytes = std::string(dumped) + "\n";
    free(dumped);
    return bytes;
}
