// Generation with a cache against the model without one, and against transformers.
#include <set>

#include "fixture.h"

namespace
{

struct Reply {
    Ints ids;
    bool stopped;
};

std::vector<Reply> run(model *m, const std::vector<Ints> &prompts, const generate_options &options,
                       const std::vector<uint64_t> &keys = {})
{
    Ints ids;
    std::vector<int64_t> cu = {0};
    for (const Ints &p : prompts) {
        ids.insert(ids.end(), p.begin(), p.end());
        cu.push_back(static_cast<int64_t>(ids.size()));
    }
    std::vector<generated> rows(prompts.size());
    EXPECT_OK(generate(m, ids.data(), cu.data(), prompts.size(), keys.empty() ? nullptr : keys.data(),
                       &options, rows.data(), nullptr));
    std::vector<Reply> out;
    for (const generated &r : rows)
        out.push_back({Ints(r.ids, r.ids + r.n), r.stopped});
    generated_free(rows.data(), rows.size());
    return out;
}

generate_options greedy(int64_t max_tokens)
{
    generate_options o = {};
    o.max_tokens = max_tokens;
    o.top_p = 1;
    return o;
}

std::vector<Ints> fixture_prompts(const std::string &folder)
{
    const Ints ids = Expected(folder).ints("ids"), ends = fixture_ends();
    std::vector<Ints> out;
    for (size_t s = 0; s + 1 < ends.size(); s++)
        out.emplace_back(ids.begin() + ends[s], ids.begin() + ends[s + 1]);
    return out;
}

// One token a time through the model without a cache.
Ints recomputed(model *m, Ints tokens, int64_t n)
{
    Ints out;
    for (int64_t i = 0; i < n; i++) {
        const Floats all = logits_of(m, tokens, {0, static_cast<int32_t>(tokens.size())});
        const float *last = all.data() + (tokens.size() - 1) * static_cast<size_t>(m->config.vocab_size);
        out.push_back(static_cast<int32_t>(std::max_element(last, last + m->config.vocab_size) - last));
        tokens.push_back(out.back());
    }
    return out;
}

} // namespace

class Generate : public testing::TestWithParam<const char *>
{
};

TEST_P(Generate, TwentyGreedyTokensAreThoseOfTransformers)
{
    const std::string folder = tiny(GetParam());
    const Opened m(folder);
    ASSERT_TRUE(m.ok());
    m->config.n_eos = 0;
    const Ints want = Expected(folder).ints("greedy");
    const std::vector<Reply> got = run(m, fixture_prompts(folder), greedy(kGreedy));
    for (size_t s = 0; s < got.size(); s++) {
        const auto begin = want.begin() + static_cast<int64_t>(s) * kGreedy;
        EXPECT_EQ(got[s].ids, Ints(begin, begin + kGreedy)) << "sequence " << s;
        EXPECT_FALSE(got[s].stopped);
    }
}

TEST_P(Generate, TheCacheChangesNothing)
{
    const std::string folder = tiny(GetParam());
    const Opened m(folder);
    ASSERT_TRUE(m.ok());
    m->config.n_eos = 0;
    for (const Ints &prompt : fixture_prompts(folder))
        EXPECT_EQ(run(m, {prompt}, greedy(30))[0].ids, recomputed(m, prompt, 30));
}

INSTANTIATE_TEST_SUITE_P(Tiny, Generate, testing::ValuesIn(kTinyModels),
                         [](const auto &one) { return std::string(one.param); });

TEST(GenerateBatch, NeighboursAndPlacesDoNotMatter)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    std::vector<Ints> prompts;
    for (int i = 0; i < 23; i++) {
        Ints p;
        for (int k = 0; k <= (i * 5) % 17; k++)
            p.push_back((i * 29 + k * 13) % 125 + 3);
        prompts.push_back(p);
    }
    /* many end tokens, so that rows finish at different times and give their places up */
    const Ints stops = {5, 17, 23, 40, 77, 90, 101, 110};
    for (float temperature : {0.0f, 0.9f}) {
        generate_options o = greedy(24);
        o.temperature = temperature;
        o.top_p = 0.95f;
        o.stop_ids = stops.data();
        o.n_stop_ids = stops.size();
        std::vector<uint64_t> keys;
        for (uint64_t i = 0; i < prompts.size(); i++)
            keys.push_back(1000 + i * i);
        const std::vector<Reply> together = run(m, prompts, o, keys);
        o.max_live = 5;
        const std::vector<Reply> five = run(m, prompts, o, keys);
        size_t stopped = 0;
        for (size_t i = 0; i < prompts.size(); i++) {
            EXPECT_EQ(together[i].ids, five[i].ids) << i;
            EXPECT_EQ(together[i].ids, run(m, {prompts[i]}, o, {keys[i]})[0].ids) << i;
            stopped += together[i].stopped;
            for (int32_t id : together[i].ids)
                EXPECT_EQ(std::count(stops.begin(), stops.end(), id), 0);
            EXPECT_EQ(together[i].stopped, together[i].ids.size() < 24);
        }
        EXPECT_GT(stopped, 0u);
        EXPECT_LT(stopped, prompts.size());
    }
}

TEST_P(Generate, PromptsThatBeginAlike)
{
    const Opened m(tiny(GetParam()));
    ASSERT_TRUE(m.ok());
    m->config.n_eos = 0;
    for (int shared : {15, 16, 40}) {
        std::vector<Ints> prompts;
        for (int i = 0; i < 9; i++) {
            Ints p;
            for (int k = 0; k < shared; k++)
                p.push_back((k * 37) % 125 + 3);
            for (int k = 0; k < 1 + (i * 5) % 17; k++)
                p.push_back((i * 29 + k * 13) % 125 + 3);
            prompts.push_back(p);
        }
        prompts.push_back(prompts[0]); // shares all but its last token
        prompts[0].resize(size_t(shared) + 1);
        const std::vector<Reply> together = run(m, prompts, greedy(20));
        for (size_t i = 0; i < prompts.size(); i++) {
            EXPECT_EQ(together[i].ids, run(m, {prompts[i]}, greedy(20))[0].ids) << shared << " " << i;
            EXPECT_EQ(together[i].ids, recomputed(m, prompts[i], 20)) << shared << " " << i;
        }
    }
}

TEST(GenerateBatch, SamplingFollowsSeedAndKey)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    m->config.n_eos = 0;
    generate_options o = greedy(16);
    o.temperature = 1;
    const Ints p = {5, 6, 7};
    const std::vector<Reply> a = run(m, {p, p, p}, o, {1, 2, 1});
    EXPECT_EQ(a[0].ids, a[2].ids);
    EXPECT_NE(a[0].ids, a[1].ids);
    o.seed = 9;
    EXPECT_NE(run(m, {p}, o, {1})[0].ids, a[0].ids);
}

TEST(GenerateEnds, TheModelsOwnEndTokenAndItsPositions)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    m->config.n_eos = 0;
    const Ints p = {5, 6, 7};
    const Ints free_run = run(m, {p}, greedy(12))[0].ids;
    m->config.n_eos = 1;
    m->config.eos_ids[0] = free_run[6];
    const Reply cut = run(m, {p}, greedy(12))[0];
    const auto first = std::find(free_run.begin(), free_run.end(), free_run[6]);
    EXPECT_EQ(cut.ids, Ints(free_run.begin(), first));
    EXPECT_TRUE(cut.stopped);
    m->config.n_eos = 0;
    const Reply full = run(m, {Ints(250, 9)}, greedy(100))[0];
    EXPECT_EQ(full.ids.size(), 7u) << "256 positions take 6 tokens behind 250, and give a seventh";
    EXPECT_FALSE(full.stopped);
}

TEST(GenerateErrors, BadRequestsAreNamed)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    const Ints ids = {5, 6, 200};
    generate_options o = greedy(4);
    generated rows[2];
    const int64_t empty[] = {0, 2, 2}, bad[] = {0, 3}, good[] = {0, 2};
    EXPECT_EQ(generate(m, ids.data(), empty, 2, nullptr, &o, rows, nullptr), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("Prompt 2"), std::string::npos);
    EXPECT_EQ(generate(m, ids.data(), bad, 1, nullptr, &o, rows, nullptr), SC_BAD_INPUT);
    EXPECT_EQ(rows[0].ids, nullptr);
    const Ints longer(256, 5);
    const int64_t all[] = {0, 256};
    EXPECT_EQ(generate(m, longer.data(), all, 1, nullptr, &o, rows, nullptr), SC_BAD_INPUT);
    o.max_tokens = 0;
    EXPECT_EQ(generate(m, ids.data(), good, 1, nullptr, &o, rows, nullptr), SC_USAGE);
    EXPECT_OK(generate(m, ids.data(), good, 0, nullptr, &o, rows, nullptr));
}

// Against the model without a cache, whose logits are changed as the definition says.
TEST(GeneratePenalty, SaidTokensWeighLess)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    m->config.n_eos = 0;
    const std::vector<Ints> prompts = {{5, 6, 7, 5}, {9}, {40, 41, 42, 43, 44}};
    generate_options o = greedy(20);
    o.penalty = 1.7f;
    const std::vector<Reply> got = run(m, prompts, o);
    for (size_t i = 0; i < prompts.size(); i++) {
        Ints tokens = prompts[i], want;
        for (int k = 0; k < 20; k++) {
            Floats all = logits_of(m, tokens, {0, static_cast<int32_t>(tokens.size())});
            float *last = all.data() + (tokens.size() - 1) * static_cast<size_t>(m->config.vocab_size);
            for (int32_t id : std::set<int32_t>(tokens.begin(), tokens.end()))
                last[id] = last[id] > 0 ? last[id] / o.penalty : last[id] * o.penalty;
            want.push_back(static_cast<int32_t>(std::max_element(last, last + m->config.vocab_size) - last));
            tokens.push_back(want.back());
        }
        EXPECT_EQ(got[i].ids, want) << i;
        EXPECT_EQ(run(m, {prompts[i]}, o)[0].ids, want) << i;
        EXPECT_NE(run(m, {prompts[i]}, greedy(20))[0].ids, want) << i;
    }
    o.penalty = -1;
    generated row = {};
    const int64_t cu[] = {0, 1};
    EXPECT_EQ(generate(m, prompts[1].data(), cu, 1, nullptr, &o, &row, nullptr), SC_USAGE);
}

TEST(GenerateEnds, WhereTheCallerSays)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    m->config.n_eos = 0;
    const std::vector<Ints> prompts = {{5, 6, 7}, {8}, {9, 10}};
    const std::vector<Reply> whole = run(m, prompts, greedy(12));
    generate_options o = greedy(12);
    std::vector<int64_t> wanted = {3, 100, 1};
    o.context = &wanted;
    o.ends = [](void *context, size_t row, const generated *so_far) {
        return so_far->n >= (*static_cast<std::vector<int64_t> *>(context))[row];
    };
    const std::vector<Reply> got = run(m, prompts, o);
    for (size_t i = 0; i < prompts.size(); i++) {
        const auto n = std::min<int64_t>(wanted[i], 12);
        EXPECT_EQ(got[i].ids, Ints(whole[i].ids.begin(), whole[i].ids.begin() + n)) << i;
        EXPECT_EQ(got[i].stopped, wanted[i] <= 12) << i;
    }
}

namespace
{

// Rows of tokens, each scored from a place on.
struct Scored {
    Ints ids;
    std::vector<int64_t> cu = {0}, starts;
    void add(const Ints &prompt, const Ints &continuation)
    {
        ids.insert(ids.end(), prompt.begin(), prompt.end());
        ids.insert(ids.end(), continuation.begin(), continuation.end());
        starts.push_back(static_cast<int64_t>(prompt.size()));
        cu.push_back(static_cast<int64_t>(ids.size()));
    }
    Floats score(model *m) const
    {
        size_t n = ids.size();
        for (int64_t s : starts)
            n -= static_cast<size_t>(s);
        Floats out(n, NAN);
        EXPECT_OK(model_score(m, ids.data(), cu.data(), starts.data(), starts.size(), out.data(), nullptr));
        return out;
    }
    Floats expected(model *m) const
    {
        Floats out;
        const auto vocab = static_cast<size_t>(m->config.vocab_size);
        for (size_t i = 0; i + 1 < cu.size(); i++) {
            const Ints row(ids.begin() + cu[i], ids.begin() + cu[i + 1]);
            const Floats all = logits_of(m, row, {0, static_cast<int32_t>(row.size())});
            for (auto at = static_cast<size_t>(starts[i]); at < row.size(); at++) {
                const float *x = all.data() + (at - 1) * vocab;
                double sum = 0;
                for (size_t k = 0; k < vocab; k++)
                    sum += std::exp(static_cast<double>(x[k]));
                out.push_back(static_cast<float>(static_cast<double>(x[row[at]]) - std::log(sum)));
            }
        }
        return out;
    }
};

Ints some_ids(int n, int seed)
{
    Ints out;
    for (int i = 0; i < n; i++)
        out.push_back((i * i * 7 + i * seed + seed) % 125 + 3);
    return out;
}

} // namespace

TEST(Score, IsTheModelsOwnLogProbability)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    Scored rows;
    for (int prompt = 0; prompt < 4;
         prompt++) // candidates of a prompt follow each other; shared 50, 10, 130 and 3
        for (int candidate = 0; candidate < 5; candidate++)
            rows.add(some_ids(prompt == 0   ? 50
                              : prompt == 1 ? 10
                              : prompt == 2 ? 130
                                            : 3,
                              prompt + 1),
                     some_ids(1 + (candidate * 7) % 11, candidate + 20));
    rows.add(some_ids(40, 3), some_ids(40, 3));  // as the first candidates' prompt is not
    rows.add(some_ids(200, 8), some_ids(56, 9)); // all positions
    const Floats got = rows.score(m), want = rows.expected(m);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); i++)
        EXPECT_NEAR(got[i], want[i], 1e-5f * (1 + std::fabs(want[i]))) << i;
}

// Many batches, and many rows of which each is its own.
TEST(Score, BatchesChangeNothing)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    Scored rows;
    for (int i = 0; i < 90; i++)
        rows.add(some_ids(60 + i % 40, i % 7 + 1), some_ids(30, i));
    const Floats got = rows.score(m), want = rows.expected(m);
    for (size_t i = 0; i < got.size(); i++)
        ASSERT_NEAR(got[i], want[i], 1e-5f * (1 + std::fabs(want[i]))) << i;
}

TEST(Score, AgreesWithWhatWasGenerated)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    m->config.n_eos = 0;
    generate_options o = greedy(15);
    o.temperature = 0.8f;
    o.top_k = 20;
    o.min_p = 0.01f;
    o.logprobs = true;
    const Ints prompt = {5, 6, 7};
    const int64_t cu[] = {0, 3};
    generated row = {};
    ASSERT_OK(generate(m, prompt.data(), cu, 1, nullptr, &o, &row, nullptr));
    ASSERT_EQ(row.n, 15);
    Scored rows;
    rows.add(prompt, Ints(row.ids, row.ids + row.n));
    const Floats got = rows.score(m);
    for (size_t i = 0; i < got.size(); i++)
        EXPECT_NEAR(got[i], row.logprobs[i], 2e-5f * (1 + std::fabs(got[i]))) << i;
    generated_free(&row, 1);
}

TEST(Score, BadRowsAreNamed)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    float out[300];
    Ints ids(300, 5);
    for (const auto &[start, length] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 4}, {4, 4}, {-1, 4}, {2, 257}}) {
        const int64_t cu[] = {0, length};
        EXPECT_EQ(model_score(m, ids.data(), cu, &start, 1, out, nullptr), SC_BAD_INPUT) << start;
        EXPECT_NE(std::string(sc_last_error()).find("Row 1"), std::string::npos) << sc_last_error();
    }
    const int64_t cu[] = {0, 4}, start = 2;
    for (size_t at : {size_t(0), size_t(3)}) {
        Ints bad(4, 5);
        bad[at] = 128;
        EXPECT_EQ(model_score(m, bad.data(), cu, &start, 1, out, nullptr), SC_BAD_INPUT);
    }
    EXPECT_OK(model_score(m, ids.data(), cu, &start, 0, out, nullptr));
}
