// Rows alike in words and in meaning, against all pairs.
#include <map>
#include <numeric>
#include <sstream>

#include "fixture.h"

extern "C" {
#include "select/duplicates.h"
}

namespace
{

using Set = std::set<std::string>;

// Runs of three words, or the whole where there are fewer.
Set runs(const std::string &text)
{
    std::vector<std::string> words(1);
    for (unsigned char c : text)
        if (std::isalnum(c) || c >= 0x80)
            words.back() += (char)std::tolower(c);
        else if (!words.back().empty())
            words.emplace_back();
    if (words.back().empty())
        words.pop_back();
    Set out;
    for (size_t i = 0; i + 3 <= words.size(); i++)
        out.insert(words[i] + " " + words[i + 1] + " " + words[i + 2]);
    std::string whole;
    for (const std::string &w : words)
        whole += w + " ";
    if (out.empty() && !words.empty())
        out.insert(whole);
    return out;
}

double jaccard(const Set &a, const Set &b)
{
    double common = 0;
    for (const std::string &s : a)
        common += (double)b.count(s);
    const double all = (double)(a.size() + b.size()) - common;
    return all > 0 ? common / all : 0;
}

struct Reviews {
    std::vector<std::string> texts;
    std::vector<review> rows;
    dataset data = {};
    char none[1] = "";
    explicit Reviews(std::vector<std::string> t) : texts(std::move(t)), rows(texts.size())
    {
        for (size_t i = 0; i < texts.size(); i++)
            rows[i].title = none, rows[i].text = texts[i].data();
        data.reviews = rows.data(), data.n_reviews = rows.size();
    }
    std::vector<uint8_t> dropped(double threshold, std::vector<int32_t> order = {},
                                 std::vector<uint8_t> before = {})
    {
        if (order.empty()) {
            order.resize(rows.size());
            std::iota(order.begin(), order.end(), 0);
        }
        before.resize(rows.size());
        const int64_t was = std::accumulate(before.begin(), before.end(), 0);
        int64_t n = -1;
        EXPECT_EQ(duplicates_by_text(&data, order.data(), threshold, before.data(), &n), SC_OK)
            << sc_last_error();
        EXPECT_EQ(std::accumulate(before.begin(), before.end(), 0), was + n);
        return before;
    }
};

TEST(DuplicatesByText, CaseAndPunctuationDoNotCount)
{
    Reviews r({"A slow, sad film.", "a SLOW sad... film", "A slow and sad film", "Great!", "great", "", "  ",
               "Gr\xc3\xb6\xc3\x9f"});
    EXPECT_EQ(r.dropped(0.9), (std::vector<uint8_t>{0, 1, 0, 0, 1, 0, 0, 0}));
    EXPECT_EQ(r.dropped(0.9, {1, 0, 2, 4, 3, 5, 6, 7}), (std::vector<uint8_t>{1, 0, 0, 1, 0, 0, 0, 0}));
    EXPECT_EQ(r.dropped(0.9, {}, {1, 0, 0, 1, 0, 0, 0, 0}), (std::vector<uint8_t>{1, 0, 0, 1, 0, 0, 0, 0}));
}

TEST(DuplicatesByText, FindsWhatAllPairsFind)
{
    std::mt19937 random(5);
    std::vector<std::string> texts;
    for (int i = 0; i < 400; i++) {
        std::string text;
        if (i >= 100 && i % 2 == 0) { // an earlier one with some words changed
            std::istringstream in(texts[random() % 100]);
            const unsigned change = 1 + random() % 60;
            for (std::string word; in >> word;)
                text += (random() % change == 0 ? "other" + std::to_string(random() % 1000) : word) + " ";
        } else {
            for (unsigned w = 0; w < 5 + random() % 120; w++)
                text += "w" + std::to_string(random() % 300) + " ";
        }
        texts.push_back(text);
    }
    Reviews r(texts);
    std::vector<Set> sets;
    for (const std::string &t : texts)
        sets.push_back(runs(t));
    for (double threshold : {0.75, 0.9, 1.0}) {
        std::vector<uint8_t> want(400);
        int n = 0;
        for (size_t i = 0; i < 400; i++)
            for (size_t j = 0; j < i && !want[i]; j++)
                n += want[i] = !want[j] && jaccard(sets[i], sets[j]) >= threshold;
        EXPECT_EQ(r.dropped(threshold), want) << threshold;
        EXPECT_EQ(n > 5 || threshold == 1.0, true) << "the data has none";
    }
}

TEST(DuplicatesByCosine, FindsWhatAllPairsFind)
{
    for (int64_t n : {1, 300, 1200}) {
        Data d = normal_rows("pairs", n, 9, 71);
        std::mt19937 random(6);
        std::normal_distribution<float> normal;
        for (int64_t i = 20; i < n; i += 3)
            for (int64_t j = 0; j < 9; j++)
                d.x[i * 9 + j] =
                    5 * (d.x[(int64_t)(random() % (unsigned)i) * 9 + j] + 0.05f * normal(random));
        if (n > 10)
            std::fill_n(&d.x[4 * 9], 9, 0.0f), std::fill_n(&d.x[7 * 9], 9, 0.0f);
        std::vector<int32_t> order(n);
        std::iota(order.rbegin(), order.rend(), 0); // the last row first
        for (double threshold : {0.99, 0.9995, 1.0}) {
            std::vector<uint8_t> got[2];
            for (int threads : {1, 2}) {
                device *dev = open_device(threads);
                int64_t count = -1;
                got[threads - 1].assign(n, 0);
                got[threads - 1][0] = n > 10;
                ASSERT_EQ(duplicates_by_cosine(dev, d.x.data(), n, 9, order.data(), threshold,
                                               got[threads - 1].data(), &count),
                          SC_OK);
                EXPECT_EQ(count + (n > 10),
                          std::accumulate(got[threads - 1].begin(), got[threads - 1].end(), 0));
                device_close(dev);
            }
            EXPECT_EQ(got[0], got[1]);
            std::vector<uint8_t> want(n);
            want[0] = n > 10;
            for (int64_t k = 0; k < n; k++)
                for (int64_t l = 0; l < k && !want[order[k]]; l++) {
                    const float *a = &d.x[order[k] * 9], *b = &d.x[order[l] * 9];
                    double dot = 0, aa = 0, bb = 0;
                    for (int j = 0; j < 9; j++)
                        dot += (double)a[j] * b[j], aa += (double)a[j] * a[j], bb += (double)b[j] * b[j];
                    want[order[k]] = !want[order[l]] && aa > 0 && bb > 0 &&
                                     dot / (std::sqrt(aa) * std::sqrt(bb)) >= threshold;
                }
            EXPECT_EQ(got[0], want) << n << " " << threshold;
        }
    }
}

} // namespace
