// Data sets, selections and runs for the tests of synthesis.
#ifndef SC_TESTS_SYNTHESIS_SUPPORT_H
#define SC_TESTS_SYNTHESIS_SUPPORT_H

#include <gtest/gtest.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

extern "C" {
#include "base/file.h"
#include "base/random.h"
#include "seedcorn/import.h"
#include "seedcorn/log.h"
#include "seedcorn/synth.h"
}

class Folder
{
  public:
    Folder()
    {
        char name[] = "/tmp/seedcorn-synthesis-XXXXXX";
        path_ = mkdtemp(name);
    }
    ~Folder()
    {
        file_remove_tree(path_.c_str());
    }
    std::string operator/(const std::string &name) const
    {
        return path_ + "/" + name;
    }
    std::string write(const std::string &name, const std::string &text) const
    {
        std::ofstream(path_ + "/" + name) << text;
        return path_ + "/" + name;
    }

  private:
    std::string path_;
};

inline std::string read_text(const std::string &path)
{
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

inline bool is_there(const std::string &path)
{
    struct stat s;
    return stat(path.c_str(), &s) == 0;
}

inline std::string shared(const std::string &name)
{
    return std::string(SC_SOURCE_DIR "/../shared/data/") + name;
}

// The lines of a JSONL file, as objects that live as long as the vector.
class Lines
{
  public:
    explicit Lines(const std::string &path)
    {
        std::istringstream in(read_text(path));
        for (std::string line; std::getline(in, line);) {
            json_t *value = json_loads(line.c_str(), 0, nullptr);
            EXPECT_NE(value, nullptr) << line;
            rows.push_back(value);
        }
    }
    Lines(const Lines &) = delete;
    ~Lines()
    {
        for (json_t *r : rows)
            json_decref(r);
    }
    std::vector<json_t *> rows;
};

inline std::string text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

inline std::vector<std::string> list_of(const json_t *object, const char *key)
{
    std::vector<std::string> out;
    const json_t *list = json_object_get(object, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        out.push_back(json_string_value(json_array_get(list, i)));
    return out;
}

inline void import_reviews(const std::string &reviews, const std::string &items, const std::string &out)
{
    const char *r[] = {reviews.c_str(), nullptr}, *i[] = {items.c_str(), nullptr};
    sc_import_reviews_options o = sc_import_reviews_default();
    o.reviews = r;
    o.items = i;
    o.out = out.c_str();
    sc_import_result result;
    ASSERT_EQ(sc_import_reviews(&o, &result), SC_OK) << sc_last_error();
}

// The data set of the repository, imported.
inline void import_sample(const std::string &out)
{
    import_reviews(SC_SOURCE_DIR "/data/sample/reviews.jsonl", SC_SOURCE_DIR "/data/sample/items.jsonl", out);
}

// n rows spread over the reviews of a data set.
inline std::string select_rows(const Folder &folder, const std::string &data, size_t n)
{
    std::string reviews = read_text(data + "/reviews.jsonl"), out;
    size_t all = (size_t)std::count(reviews.begin(), reviews.end(), '\n');
    std::vector<int64_t> rows(all);
    for (size_t i = 0; i < all; i++)
        rows[i] = (int64_t)i;
    random_stream r = random_at(5, RANDOM_TEST, 0, 0);
    random_shuffle(&r, rows.data(), rows.size());
    for (size_t i = 0; i < n && i < all; i++)
        out += "{\"rank\":" + std::to_string(i) + ",\"row\":" + std::to_string(rows[i]) + "}\n";
    return folder.write("selection-" + std::to_string(n) + ".jsonl", out);
}

struct Synth {
    sc_synth_options options = sc_synth_default();
    sc_synth_result result = {};
    std::string data, selection, out;
    Synth(std::string d, std::string s, std::string o)
        : data(std::move(d)), selection(std::move(s)), out(std::move(o))
    {
        options.data = data.c_str();
        options.selection = selection.c_str();
        options.out = out.c_str();
    }
    sc_status operator()()
    {
        return sc_synth(&options, &result);
    }
};

#endif
