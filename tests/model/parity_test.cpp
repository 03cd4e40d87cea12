// SmolLM2-135M-Instruct against what transformers computed with it (fixtures/smollm2_parity). Skips where the
// model is absent: it takes the folder in SEEDCORN_TEST_MODEL, or what `seedcorn pull` leaves in the cache.
#include "fixture.h"

namespace
{

std::string model_folder()
{
    if (const char *named = std::getenv("SEEDCORN_TEST_MODEL"))
        return named;
    const char *home = std::getenv("HOME");
    return std::string(home != nullptr ? home : "") + "/.cache/seedcorn/smollm2-135m-instruct";
}

struct JsonFree {
    void operator()(json_t *j) const
    {
        json_decref(j);
    }
};

Ints ints_of(const json_t *list)
{
    Ints out;
    for (size_t i = 0; i < json_array_size(list); i++)
        out.push_back(static_cast<int32_t>(json_integer_value(json_array_get(list, i))));
    return out;
}

Floats floats_of(const json_t *list)
{
    Floats out;
    for (size_t i = 0; i < json_array_size(list); i++)
        out.push_back(static_cast<float>(json_number_value(json_array_get(list, i))));
    return out;
}

} // namespace

class Parity : public testing::Test
{
  protected:
    static void SetUpTestSuite()
    {
        if (!std::filesystem::exists(model_folder() + "/model.safetensors"))
            return;
        opened = new Opened(model_folder());
        cases.reset(json_load_file(SC_SOURCE_DIR "/tests/fixtures/smollm2_parity/parity.json", 0, nullptr));
    }
    static void TearDownTestSuite()
    {
        delete opened;
        opened = nullptr;
        cases.reset();
    }
    void SetUp() override
    {
        if (opened == nullptr)
            GTEST_SKIP() << "SmolLM2-135M-Instruct is not in " << model_folder()
                         << "; `seedcorn pull smollm2-135m-instruct` puts it there";
        ASSERT_TRUE(opened->ok());
        ASSERT_NE(cases, nullptr);
    }
    static size_t count()
    {
        return json_array_size(json_object_get(cases.get(), "cases"));
    }
    static const json_t *get(size_t i, const char *key)
    {
        return json_object_get(json_array_get(json_object_get(cases.get(), "cases"), i), key);
    }
    static Opened *opened;
    static std::unique_ptr<json_t, JsonFree> cases;
};
Opened *Parity::opened = nullptr;
std::unique_ptr<json_t, JsonFree> Parity::cases;

TEST_F(Parity, HiddenStatesAndNextTokenLogits)
{
    model *m = *opened;
    const auto dim = static_cast<size_t>(m->config.dim);
    Ints ids, ends = {0};
    for (size_t i = 0; i < count(); i++) {
        const Ints one = ints_of(get(i, "ids"));
        ids.insert(ids.end(), one.begin(), one.end());
        ends.push_back(static_cast<int32_t>(ids.size()));
    }
    const Floats hidden = forward(m, ids, ends);
    const packed_batch b = batch_of(ids, ends);
    void *device_hidden = nullptr;
    ASSERT_OK(model_forward(m, &b, -1, &device_hidden));
    Ints rows;
    for (size_t i = 1; i < ends.size(); i++)
        rows.push_back(ends[i] - 1);
    float *logits = nullptr;
    ASSERT_OK(model_logits(m, device_hidden, rows.data(), static_cast<int64_t>(rows.size()), &logits));
    for (size_t i = 0; i < count(); i++) {
        const auto last = hidden.begin() + rows[i] * m->config.dim;
        EXPECT_GE(least_cosine(Floats(last, last + m->config.dim), floats_of(get(i, "hidden_last")), dim),
                  0.99999);
        Floats mean(dim);
        for (int32_t t = ends[i]; t < ends[i + 1]; t++)
            for (size_t k = 0; k < dim; k++)
                mean[k] +=
                    hidden[static_cast<size_t>(t) * dim + k] / static_cast<float>(ends[i + 1] - ends[i]);
        EXPECT_GE(least_cosine(mean, floats_of(get(i, "hidden_mean")), dim), 0.99999);
        const Ints top = ints_of(get(i, "top_ids"));
        const Floats values = floats_of(get(i, "top_logits"));
        for (size_t k = 0; k < top.size(); k++)
            EXPECT_NEAR(logits[i * static_cast<size_t>(m->config.vocab_size) + static_cast<size_t>(top[k])],
                        values[k], 1e-3);
    }
}

TEST_F(Parity, FortyEightGreedyTokens)
{
    model *m = *opened;
    m->config.n_eos = 0; // transformers was asked for 48 tokens whatever they are
    Ints ids;
    std::vector<int64_t> cu = {0};
    for (size_t i = 0; i < count(); i++) {
        const Ints one = ints_of(get(i, "ids"));
        ids.insert(ids.end(), one.begin(), one.end());
        cu.push_back(static_cast<int64_t>(ids.size()));
    }
    generate_options o = {};
    o.max_tokens = 48;
    o.top_p = 1;
    std::vector<generated> rows(count());
    ASSERT_OK(generate(m, ids.data(), cu.data(), count(), nullptr, &o, rows.data(), nullptr));
    for (size_t i = 0; i < count(); i++)
        EXPECT_EQ(Ints(rows[i].ids, rows[i].ids + rows[i].n), ints_of(get(i, "greedy"))) << "case " << i;
    generated_free(rows.data(), rows.size());
}
