// sample: the next token, and log-probabilities of given tokens.
#include "fixture.h"

#include <algorithm>
#include <map>
#include <set>

extern "C" {
#include "device/sample_weight.h"
}

static sample_options chosen(float temperature, float top_p, uint64_t seed, uint32_t step, int32_t top_k = 0,
                             float min_p = 0)
{
    return {temperature, top_p, seed, step, top_k, min_p};
}

class Sample : public DeviceTest
{
  protected:
    struct Drawn {
        std::vector<int32_t> ids;
        Doubles logprobs;
    };
    Drawn draw(const Doubles &logits, size_t vocab, sample_options options,
               const std::vector<uint64_t> &keys) const
    {
        return draw_on(table, logits, vocab, options, keys);
    }
    Drawn draw_on(const ops *on, const Doubles &logits, size_t vocab, sample_options options,
                  const std::vector<uint64_t> &keys) const
    {
        const size_t n = keys.size();
        Tensor x(on, type, logits), logprobs(on, DTYPE_F32, Doubles(n, 1));
        Buffer ids = upload_array(on, std::vector<int32_t>(n, -1)), d_keys = upload_array(on, keys);
        EXPECT_OK(on->sample_rows(nullptr, ids.as<int32_t>(), logprobs.as<float>(), x.get(), type, int64_t(n),
                                  int64_t(vocab), &options, d_keys.as<uint64_t>()));
        return {ids.array<int32_t>(), logprobs.values()};
    }
    static double log_softmax(const double *x, size_t vocab, size_t id)
    {
        double most = *std::max_element(x, x + vocab), total = 0;
        for (size_t i = 0; i < vocab; i++)
            total += std::exp(x[i] - most);
        return x[id] - most - std::log(total);
    }
    // n rows of one distribution, with keys 0..n-1. Every table draws the same, so of the emulator, which is slow, a few
    // have to equal the CPU's.
    std::map<int32_t, double> frequencies(const Doubles &row, float temperature, float top_p, size_t n,
                                          int32_t top_k = 0, float min_p = 0) const
    {
        const size_t few = 3;
        const bool slow = std::string(table->name) == "emu";
        const sample_options options = chosen(temperature, top_p, 77, 3, top_k, min_p);
        Doubles logits;
        std::vector<uint64_t> keys;
        for (size_t i = 0; i < n; i++) {
            logits.insert(logits.end(), row.begin(), row.end());
            keys.push_back(i);
        }
        std::map<int32_t, double> found;
        const std::vector<int32_t> ids =
            draw_on(slow ? cpu_ops() : table, logits, row.size(), options, keys).ids;
        for (int32_t id : ids)
            found[id] += 1.0 / double(n);
        if (slow) {
            keys.resize(few);
            logits.resize(few * row.size());
            EXPECT_EQ(draw(logits, row.size(), options, keys).ids,
                      std::vector<int32_t>(ids.begin(), ids.begin() + few));
        }
        return found;
    }
};
INSTANTIATE_TEST_SUITE_P(Tables, Sample, testing::ValuesIn(settings(&ops::sample_rows)), setting_name);

TEST_P(Sample, GreedyTakesTheGreatestAndTheLowestIdOfTies)
{
    const size_t vocab = 49152;
    Doubles x = random(3 * vocab, 1, 2.0);
    x[40000] = x[40001] = 64;
    x[vocab] = 64;
    x[3 * vocab - 1] = 64;
    Drawn got = draw(x, vocab, chosen(0, 1, 0, 0), {1, 2, 3});
    EXPECT_EQ(got.ids, (std::vector<int32_t>{40000, 0, int32_t(vocab) - 1}));
    for (size_t i = 0; i < 3; i++)
        EXPECT_NEAR(got.logprobs[i], log_softmax(&x[i * vocab], vocab, size_t(got.ids[i])), 1e-5);
}

TEST_P(Sample, FrequenciesFollowTheTemperature)
{
    const Doubles row = {1.0, 0.0, -INFINITY, 2.0, 0.5};
    for (double temperature : {0.5, 1.0, 2.0}) {
        std::map<int32_t, double> found = frequencies(row, float(temperature), 1, 8000);
        double total = 0;
        for (double x : row)
            total += std::exp(x / temperature);
        for (size_t i = 0; i < row.size(); i++)
            EXPECT_NEAR(found[int32_t(i)], std::exp(row[i] / temperature) / total, 0.02) << i;
        EXPECT_EQ(found[2], 0) << "a masked token was drawn";
    }
}

TEST_P(Sample, NucleusKeepsTheSmallestSetThatReachesTopP)
{
    // probabilities 0.5, 0.25, 0.125, 0.125 in a shuffled order; logits that bf16 holds, up to a factor
    const double step = double(bf16_of(std::log(2.0)));
    const Doubles row = {-2 * step, 0, -step, -2 * step, -40};
    struct {
        float top_p;
        std::vector<int32_t> kept;
    } cases[] = {{0.3f, {1}}, {0.6f, {1, 2}}, {0.8f, {0, 1, 2}}, {0.99f, {0, 1, 2, 3}}, {1e-9f, {1}}};
    for (const auto &c : cases) {
        std::map<int32_t, double> found = frequencies(row, 1, c.top_p, 4000);
        double total = 0;
        for (int32_t id : c.kept)
            total += std::exp(row[size_t(id)]);
        ASSERT_EQ(found.size(), c.kept.size()) << c.top_p;
        for (int32_t id : c.kept)
            EXPECT_NEAR(found[id], std::exp(row[size_t(id)]) / total, 0.03) << c.top_p << " " << id;
    }
}

// transformers' order: top_k, then top_p of what is left, then min_p.
TEST_P(Sample, TopKAndMinPKeepTheMostProbable)
{
    const double step =
        double(bf16_of(std::log(2.0))); // probabilities 1/2, 1/4, 1/8, 1/16, 1/16 in a shuffled order
    const Doubles row = {-2 * step, 0, -step, -3 * step, -INFINITY, -3 * step};
    struct {
        float top_p;
        int32_t top_k;
        float min_p;
        std::vector<int32_t> kept;
    } cases[] = {{1, 1, 0, {1}},
                 {1, 3, 0, {0, 1, 2}},
                 {1, 4, 0, {0, 1, 2, 3}},
                 {1, 100, 0, {0, 1, 2, 3, 5}},
                 {1, 6, 0, {0, 1, 2, 3, 5}},
                 {1, 0, 0.2f, {0, 1, 2}},
                 {1, 0, 0.3f, {1, 2}},
                 {1, 0, 1, {1}},
                 {0.6f, 2, 0, {1}}, // of 2/3 and 1/3
                 {0.6f, 0, 0, {1, 2}},
                 {0.8f, 0, 0.3f, {1, 2}},
                 {1, 2, 0.2f, {1, 2}}};
    for (const auto &c : cases) {
        SCOPED_TRACE(testing::Message() << c.top_p << " " << c.top_k << " " << c.min_p);
        std::map<int32_t, double> found = frequencies(row, 1, c.top_p, 3000, c.top_k, c.min_p);
        double total = 0;
        for (int32_t id : c.kept)
            total += std::exp(row[size_t(id)]);
        ASSERT_EQ(found.size(), c.kept.size());
        for (int32_t id : c.kept)
            EXPECT_NEAR(found[id], std::exp(row[size_t(id)]) / total, 0.04) << id;
    }
}

TEST_P(Sample, TopKEqualsASortedOneOnALargeVocabulary)
{
    const size_t vocab = 5000, k = 700;
    const Doubles x = random(vocab, 5, 1.0); // of bf16 many are equal
    Doubles held = tensor(x).values();
    std::vector<size_t> order(vocab);
    for (size_t i = 0; i < vocab; i++)
        order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return held[a] > held[b]; });
    const std::set<size_t> allowed(order.begin(), order.begin() + k);
    for (const auto &[id, frequency] : frequencies(x, 100, 1, 3000, int32_t(k)))
        EXPECT_TRUE(allowed.count(size_t(id))) << id;
}

TEST_P(Sample, NucleusEqualsASortedOneOnALargeVocabulary)
{
    const size_t vocab = 5000;
    Doubles x = random(vocab, 5, 2.0);
    std::vector<size_t> order(vocab);
    for (size_t i = 0; i < vocab; i++)
        order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
    std::vector<bool> allowed(vocab, false);
    double reached = 0;
    for (size_t id : order) {
        if (reached >= 0.5)
            break;
        allowed[id] = true;
        reached += std::exp(log_softmax(x.data(), vocab, id));
    }
    size_t distinct = 0;
    for (const auto &[id, frequency] : frequencies(x, 1, 0.5f, 600)) {
        EXPECT_TRUE(allowed[size_t(id)]) << id << " " << frequency;
        distinct++;
    }
    EXPECT_GT(distinct, 100u);
}

TEST_P(Sample, DrawsDependOnKeysAlone)
{
    const size_t vocab = 1000;
    Doubles x = random(vocab, 6), three;
    for (int i = 0; i < 3; i++)
        three.insert(three.end(), x.begin(), x.end());
    for (float top_p : {1.0f, 0.9f}) {
        Drawn batch = draw(three, vocab, chosen(1, top_p, 1, 5), {10, 11, 12});
        EXPECT_EQ(draw(x, vocab, chosen(1, top_p, 1, 5), {11}).ids[0], batch.ids[1]);
        EXPECT_EQ(draw(three, vocab, chosen(1, top_p, 1, 5), {10, 11, 12}).ids, batch.ids);
        EXPECT_NE(draw(three, vocab, chosen(1, top_p, 2, 5), {10, 11, 12}).ids, batch.ids);
        EXPECT_NE(draw(three, vocab, chosen(1, top_p, 1, 6), {10, 11, 12}).ids, batch.ids);
    }
}

// The choice is made in whole numbers, so no table may differ, whatever the order of its sums.
TEST_P(Sample, DrawsWhatTheCpuDraws)
{
    const sample_options all[] = {chosen(0, 1, 3, 1),
                                  chosen(1, 1, 3, 1),
                                  chosen(0.7f, 1, 4, 2, 0, 0.05f),
                                  chosen(1.3f, 0.9f, uint64_t(1) << 40 | 5, 3),
                                  chosen(1, 1, 6, 4, 40),
                                  chosen(2, 0.8f, 7, 5, 25, 0.02f),
                                  chosen(30, 0.5f, 8, 1u << 31),
                                  chosen(1e-30f, 1, 9, 6),
                                  chosen(1e30f, 1, 9, 7)};
    for (size_t vocab : {1, 33, 4099}) {
        Doubles x = random(2 * vocab, unsigned(vocab), 3.0);
        for (size_t i = 0; i < x.size(); i += 5)
            x[i] = i % 3 ? -INFINITY : 2.5; // masked ones, and many that are equal at an edge
        x[vocab - 1] = x[2 * vocab - 1] = 4;
        const std::vector<uint64_t> keys = {uint64_t(vocab) << 33 | 1, 12345};
        for (const sample_options &o : all) {
            SCOPED_TRACE(testing::Message()
                         << vocab << " " << o.temperature << " " << o.top_p << " " << o.top_k);
            const Drawn got = draw(x, vocab, o, keys), want = draw_on(cpu_ops(), x, vocab, o, keys);
            EXPECT_EQ(got.ids, want.ids);
            EXPECT_EQ(got.ids, draw(x, vocab, o, keys).ids);
            for (size_t i = 0; i < keys.size(); i++)
                EXPECT_NEAR(got.logprobs[i], want.logprobs[i], 1e-5) << i;
        }
    }
}

// More rows than a launch has blocks, each with the next one's answer.
TEST_P(Sample, RowsByTheHundred)
{
    const size_t n = 515, vocab = 5;
    Doubles x(n * vocab, -1);
    std::vector<uint64_t> keys(n, 7);
    std::vector<int32_t> want;
    for (size_t i = 0; i < n; i++) {
        want.push_back(int32_t(i * i % vocab));
        x[i * vocab + i * i % vocab] = 2;
    }
    EXPECT_EQ(draw(x, vocab, chosen(0, 1, 0, 0), keys).ids, want);
}

TEST(SampleWeight, IsTheExponential)
{
    for (float temperature : {0.25f, 1.0f, 8.0f})
        for (int64_t vocab : {int64_t(1), int64_t(128256), int64_t(INT32_MAX)}) {
            sample_scale s = sample_scale_of(temperature, vocab);
            s.top = 3.25f;
            const double unit = std::ldexp(1.0, 24 + s.shift), least = 1 / unit;
            EXPECT_LT(unit * double(vocab), std::ldexp(1.0, 62));
            EXPECT_EQ(double(sample_weight(&s, s.top)), unit);
            EXPECT_EQ(sample_weight(&s, -INFINITY), 0u);
            for (float x = s.top; x > -40; x -= 0.0137f) {
                const double y = (double(s.top) - double(x)) / double(temperature);
                EXPECT_NEAR(double(sample_weight(&s, x)) / unit, std::exp(-y),
                            std::exp(-y) * (4e-7 + 3e-7 * y) + least)
                    << x;
                EXPECT_EQ(sample_ranked(sample_rank(x)), x);
            }
        }
}

TEST_P(Sample, RefusesWhatIsNoDistribution)
{
    Buffer ids = upload_array(table, std::vector<int32_t>{0}),
           keys = upload_array(table, std::vector<uint64_t>{1});
    for (double bad : {double(NAN), double(INFINITY)})
        for (float temperature : {0.0f, 1.0f}) {
            Tensor x = tensor({0.5, bad, 1.5});
            const sample_options options = chosen(temperature, 1, 0, 0);
            EXPECT_EQ(table->sample_rows(nullptr, ids.as<int32_t>(), nullptr, x.get(), type, 1, 3, &options,
                                         keys.as<uint64_t>()),
                      SC_BAD_INPUT);
        }
    Tensor masked = tensor({-INFINITY, -INFINITY});
    const sample_options options = chosen(1, 1, 0, 0);
    EXPECT_EQ(table->sample_rows(nullptr, ids.as<int32_t>(), nullptr, masked.get(), type, 1, 2, &options,
                                 keys.as<uint64_t>()),
              SC_BAD_INPUT);
    Tensor x = tensor({0, 1});
    for (sample_options wrong :
         {chosen(-1, 1, 0, 0), chosen(1, 0, 0, 0), chosen(NAN, 1, 0, 0), chosen(1, 1, 0, 0, -1),
          chosen(1, 1, 0, 0, 0, -0.1f), chosen(1, 1, 0, 0, 0, 1.1f), chosen(1, 1, 0, 0, 0, NAN)})
        EXPECT_EQ(table->sample_rows(nullptr, ids.as<int32_t>(), nullptr, x.get(), type, 1, 2, &wrong,
                                     keys.as<uint64_t>()),
                  SC_USAGE);
}

TEST_P(Sample, PenalisesWhatWasSaid)
{
    Tensor logits = floats({1, -1, 2, 0.5, 4, -4, 0, 8});
    Buffer ids = upload_array(table, std::vector<int32_t>{1, 2, 3, 0, 1}),
           offsets = upload_array(table, std::vector<int64_t>{0, 2, 5});
    ASSERT_OK(
        table->penalise_rows(nullptr, logits.as<float>(), 2, 4, 2, ids.as<int32_t>(), offsets.as<int64_t>()));
    EXPECT_EQ(logits.values(), (Doubles{1, -2, 1, 0.5, 2, -8, 0, 4}));
    for (float wrong : {0.0f, -1.0f, NAN, INFINITY})
        EXPECT_EQ(table->penalise_rows(nullptr, logits.as<float>(), 2, 4, wrong, ids.as<int32_t>(),
                                       offsets.as<int64_t>()),
                  SC_USAGE);
    Buffer outside = upload_array(table, std::vector<int32_t>{4, -1, 0, 0, 0});
    EXPECT_EQ(table->penalise_rows(nullptr, logits.as<float>(), 2, 4, 2, outside.as<int32_t>(),
                                   offsets.as<int64_t>()),
              SC_INTERNAL);
}

TEST_P(Sample, GathersLogProbabilities)
{
    const size_t vocab = 49152;
    Doubles x = random(3 * vocab, 7, 3.0);
    std::vector<int32_t> rows = {2, 0, 2, 2, 0},
                         ids = {0, 49151, 17, 49151, 600}; // row 1 is asked for nothing
    Tensor logits = tensor(x), out = floats(Doubles(5, 1));
    Buffer d_rows = upload_array(table, rows), d_ids = upload_array(table, ids);
    ASSERT_OK(table->gather_logprobs(nullptr, out.as<float>(), logits.get(), type, 3, int64_t(vocab),
                                     d_rows.as<int32_t>(), d_ids.as<int32_t>(), 5));
    Doubles want;
    for (size_t j = 0; j < 5; j++)
        want.push_back(log_softmax(&x[size_t(rows[j]) * vocab], vocab, size_t(ids[j])));
    expect_close(out.values(), want, DTYPE_F32);
    rows[0] = 3;
    Buffer wrong = upload_array(table, rows);
    EXPECT_EQ(table->gather_logprobs(nullptr, out.as<float>(), logits.get(), type, 3, int64_t(vocab),
                                     wrong.as<int32_t>(), d_ids.as<int32_t>(), 5),
              SC_INTERNAL);
}
