// Beam search over a trie against the enumeration of every title.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "fixture.h"

namespace
{

constexpr int32_t kEnd = 3;

struct TrieFree {
    void operator()(trie *t) const
    {
        trie_free(t);
    }
};
using TriePtr = std::unique_ptr<trie, TrieFree>;

TriePtr make_trie(const std::vector<Ints> &titles)
{
    std::vector<const int32_t *> ids;
    Ints lengths;
    for (const Ints &t : titles) {
        ids.push_back(t.data());
        lengths.push_back(static_cast<int32_t>(t.size()));
    }
    trie *t = nullptr;
    EXPECT_OK(trie_create(ids.data(), lengths.data(), titles.size(), &t));
    return TriePtr(t);
}

// Titles over few tokens, so that many share beginnings and some are the beginning of others.
std::vector<Ints> random_titles(size_t n, unsigned seed)
{
    std::mt19937 r(seed);
    std::set<Ints> seen;
    std::vector<Ints> out;
    while (out.size() < n) {
        Ints t(1 + r() % 5);
        for (int32_t &id : t)
            id = static_cast<int32_t>(10 + r() % 6);
        if (seen.insert(t).second)
            out.push_back(t);
    }
    return out;
}

// log P(title, end | prompt) from the model without a cache.
double title_logprob(model *m, const Ints &prompt, const Ints &title)
{
    Ints all = prompt;
    all.insert(all.end(), title.begin(), title.end());
    const Floats logits = logits_of(m, all, {0, static_cast<int32_t>(all.size())});
    const auto vocab = static_cast<size_t>(m->config.vocab_size);
    double sum = 0;
    for (size_t i = 0; i <= title.size(); i++) {
        const float *row = logits.data() + (prompt.size() - 1 + i) * vocab;
        double z = 0;
        for (size_t k = 0; k < vocab; k++)
            z += std::exp(static_cast<double>(row[k]));
        sum += static_cast<double>(row[i < title.size() ? title[i] : kEnd]) - std::log(z);
    }
    return sum;
}

std::vector<beam_result> search(model *m, const Ints &prompt, const TriePtr &t, int64_t beams, int64_t want,
                                const std::vector<uint8_t> &banned = {})
{
    std::vector<beam_result> out(static_cast<size_t>(want));
    int64_t n = 0;
    EXPECT_OK(generate_beam(m, prompt.data(), static_cast<int64_t>(prompt.size()), t.get(),
                            banned.empty() ? nullptr : banned.data(), kEnd, beams, want, out.data(), &n));
    out.resize(static_cast<size_t>(n));
    return out;
}

void expect_best(const std::vector<beam_result> &got, std::map<int32_t, double> scores, size_t want)
{
    std::vector<std::pair<double, int32_t>> order;
    for (const auto &[value, logprob] : scores)
        order.emplace_back(-logprob, value);
    std::sort(order.begin(), order.end());
    ASSERT_EQ(got.size(), std::min(want, order.size()));
    for (size_t i = 0; i < got.size(); i++) {
        EXPECT_EQ(got[i].value, order[i].second) << "place " << i;
        EXPECT_NEAR(got[i].logprob, -order[i].first, 1e-4) << "place " << i;
    }
}

} // namespace

TEST(Beam, WideEnoughItIsTheEnumeration)
{
    for (const char *name :
         {"tied", "qwen2", "qwen3", "gemma2", "gemma3"}) { // the last with windows that titles outgrow
        SCOPED_TRACE(name);
        const Opened m(tiny(name));
        ASSERT_TRUE(m.ok());
        const std::vector<Ints> titles = random_titles(60, 1);
        const TriePtr t = make_trie(titles);
        const Ints prompt = {5, 9, 17, 33};
        std::map<int32_t, double> scores;
        for (size_t i = 0; i < titles.size(); i++)
            scores[static_cast<int32_t>(i)] = title_logprob(m, prompt, titles[i]);
        expect_best(search(m, prompt, t, 60, 20), scores, 20);
        expect_best(search(m, prompt, t, 60, 100), scores, 100);
    }
}

TEST(Beam, BannedTitlesAreNotOffered)
{
    const Opened m(tiny("untied"));
    ASSERT_TRUE(m.ok());
    const std::vector<Ints> titles = random_titles(40, 2);
    const TriePtr t = make_trie(titles);
    const Ints prompt = {50, 60};
    std::vector<uint8_t> banned(titles.size());
    std::map<int32_t, double> scores;
    for (size_t i = 0; i < titles.size(); i++) {
        banned[i] = i % 3 == 0;
        if (!banned[i])
            scores[static_cast<int32_t>(i)] = title_logprob(m, prompt, titles[i]);
    }
    expect_best(search(m, prompt, t, 40, 20, banned), scores, 20);
    std::fill(banned.begin(), banned.end(), 1);
    EXPECT_TRUE(search(m, prompt, t, 10, 5, banned).empty());
    banned[7] = 0;
    const std::vector<beam_result> only = search(m, prompt, t, 10, 5, banned);
    ASSERT_EQ(only.size(), 1u);
    EXPECT_EQ(only[0].value, 7);
}

TEST(Beam, NarrowItStillFindsAsManyAsAreWanted)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    const std::vector<Ints> titles = random_titles(300, 3);
    const TriePtr t = make_trie(titles);
    for (int64_t beams : {1, 3, 20}) {
        const std::vector<beam_result> got = search(m, {9, 8, 7}, t, beams, 20);
        ASSERT_EQ(got.size(), 20u) << beams;
        std::set<int32_t> distinct;
        for (size_t i = 0; i < got.size(); i++) {
            distinct.insert(got[i].value);
            if (i > 0) {
                EXPECT_GE(got[i - 1].logprob, got[i].logprob);
            }
            EXPECT_NEAR(got[i].logprob,
                        title_logprob(m, {9, 8, 7}, titles[static_cast<size_t>(got[i].value)]), 1e-4);
        }
        EXPECT_EQ(distinct.size(), 20u);
    }
}

TEST(Beam, EqualTitlesCountOnce)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    const TriePtr t = make_trie({{10, 11}, {12}, {10, 11}, {12, 13}, {10, 11}});
    std::vector<uint8_t> banned(5);
    std::set<int32_t> got;
    for (const beam_result &r : search(m, {5}, t, 4, 10))
        got.insert(r.value);
    EXPECT_EQ(got, (std::set<int32_t>{0, 1, 3}));
    banned[0] = 1;
    got.clear();
    for (const beam_result &r : search(m, {5}, t, 4, 10, banned))
        got.insert(r.value);
    EXPECT_EQ(got, (std::set<int32_t>{1, 2, 3})) << "the lowest that is not banned";
}

TEST(Beam, TiesGoToTheLowestTitle)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    /* Tokens with equal embeddings are equal to a tied model in every respect. */
    ASSERT_OK(model_grads_create(m)); /* makes the weights our own */
    float *table = static_cast<float *>(m->embedding->value);
    for (int32_t id = 21; id < 30; id++)
        memcpy(table + id * m->config.dim, table + 20 * m->config.dim, sizeof(float) * 32);
    const TriePtr t = make_trie({{29}, {20, 25}, {24}, {20, 21}, {22}, {27, 23}});
    const std::vector<beam_result> got = search(m, {5, 6}, t, 6, 6);
    ASSERT_EQ(got.size(), 6u);
    Ints short_ones, long_ones;
    for (const beam_result &r : got)
        (r.value % 2 == 0 ? short_ones : long_ones).push_back(r.value);
    EXPECT_EQ(short_ones, (Ints{0, 2, 4}));
    EXPECT_EQ(long_ones, (Ints{1, 3, 5}));
}

TEST(BeamBatch, IsTheSearchesOneByOne)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    const std::vector<Ints> titles = random_titles(200, 4);
    const TriePtr t = make_trie(titles);
    constexpr size_t kPrompts = 70; /* more than are searched at once */
    Ints ids;
    std::vector<int64_t> cu = {0};
    std::vector<std::vector<uint8_t>> banned(kPrompts, std::vector<uint8_t>(titles.size()));
    std::vector<const uint8_t *> pointers;
    std::mt19937 r(5);
    for (size_t p = 0; p < kPrompts; p++) {
        for (size_t k = 0; k <= r() % 12; k++)
            ids.push_back(static_cast<int32_t>(3 + r() % 120));
        ids.push_back(static_cast<int32_t>(3 + p));
        cu.push_back(static_cast<int64_t>(ids.size()));
        for (uint8_t &x : banned[p])
            x = r() % 4 == 0;
        pointers.push_back(p % 5 == 0 ? nullptr : banned[p].data());
    }
    std::vector<beam_result> out(kPrompts * 10);
    std::vector<int64_t> n(kPrompts);
    ASSERT_OK(generate_beam_batch(m, ids.data(), cu.data(), kPrompts, t.get(), pointers.data(), kEnd, 12, 10,
                                  out.data(), n.data(), nullptr));
    for (size_t p = 0; p < kPrompts; p++) {
        const Ints prompt(ids.begin() + cu[p], ids.begin() + cu[p + 1]);
        const std::vector<beam_result> alone =
            search(m, prompt, t, 12, 10, pointers[p] != nullptr ? banned[p] : std::vector<uint8_t>());
        ASSERT_EQ(n[p], static_cast<int64_t>(alone.size())) << p;
        for (size_t i = 0; i < alone.size(); i++) {
            EXPECT_EQ(out[p * 10 + i].value, alone[i].value) << "prompt " << p << " place " << i;
            EXPECT_NEAR(out[p * 10 + i].logprob, alone[i].logprob, 1e-4);
        }
    }
}

TEST(BeamErrors, BadRequestsAreNamed)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    trie *none = nullptr;
    const Ints empty;
    const int32_t *const sequences[] = {empty.data()};
    const int32_t lengths[] = {0};
    EXPECT_EQ(trie_create(sequences, lengths, 1, &none), SC_BAD_INPUT);
    EXPECT_EQ(trie_create(sequences, lengths, 0, &none), SC_BAD_INPUT);
    EXPECT_EQ(none, nullptr);
    const Ints prompt = {5};
    beam_result out[4];
    int64_t n = 0;
    const TriePtr outside = make_trie({{128}}), good = make_trie({{10}});
    EXPECT_EQ(generate_beam(m, prompt.data(), 1, outside.get(), nullptr, kEnd, 4, 4, out, &n), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("128"), std::string::npos);
    EXPECT_EQ(generate_beam(m, prompt.data(), 1, good.get(), nullptr, 128, 4, 4, out, &n), SC_BAD_INPUT);
    EXPECT_EQ(generate_beam(m, prompt.data(), 0, good.get(), nullptr, kEnd, 4, 4, out, &n), SC_BAD_INPUT);
    EXPECT_EQ(generate_beam(m, prompt.data(), 1, good.get(), nullptr, kEnd, 0, 4, out, &n), SC_USAGE);
}
