// Models without files: weights are a function of the seed, on every device and in every type.
#include "model/fixture.h"

extern "C" {
#include "model/internal.h"
}

namespace
{

struct Random {
    explicit Random(const std::string &config, uint64_t seed = 0, const char *type = "fp32", int threads = 2)
    {
        sc_common common = sc_common_default();
        common.device = "cpu";
        common.dtype = type;
        common.threads = threads;
        EXPECT_OK(device_open(&common, &d));
        status = model_open_random(config.c_str(), d, seed, &m);
    }
    ~Random()
    {
        model_close(m);
        device_close(d);
    }
    Random(const Random &) = delete;
    Random &operator=(const Random &) = delete;
    Floats values(int64_t i) const
    {
        const parameter &p = m->parameters[i];
        Floats out;
        for (int64_t j = 0; j < p.rows * p.cols; j++)
            out.push_back(m->dtype == DTYPE_F32 ? static_cast<const float *>(p.value)[j]
                                                : bf16_to_f32(static_cast<const uint16_t *>(p.value)[j]));
        return out;
    }

    device *d = nullptr;
    model *m = nullptr;
    sc_status status;
};

const std::string config = tiny("llama3") + "/config.json";

TEST(RandomWeights, AreNormalAndNormsAreOne)
{
    const Random r(config);
    ASSERT_OK(r.status);
    EXPECT_EQ(r.m->config.n_eos, 0);
    double sum = 0, squares = 0, n = 0;
    for (int64_t i = 0; i < r.m->n_parameters; i++)
        for (float x : r.values(i)) {
            if (r.m->parameters[i].cols == 1) {
                ASSERT_EQ(x, 1) << r.m->parameters[i].name;
                continue;
            }
            sum += x;
            squares += x * x;
            n++;
        }
    EXPECT_NEAR(sum / n, 0, 5 * 0.02 / std::sqrt(n));
    EXPECT_NEAR(squares / n, 0.0004, 5 * 0.0004 * std::sqrt(2 / n));
    EXPECT_NE(r.values(2), r.values(5)) << "parameters differ";
}

TEST(RandomWeights, NormsMultiplyByOneAndBiasesAreZero)
{
    for (const char *name : {"qwen2", "qwen3", "gemma2", "gemma3"}) {
        const Random r(tiny(name) + "/config.json");
        ASSERT_OK(r.status);
        const bool gemma = std::string(name).find("gemma") == 0;
        for (int64_t i = 0; i < r.m->n_parameters; i++)
            if (r.m->parameters[i].cols == 1) {
                const bool bias = std::string(r.m->parameters[i].name).find(".bias") != std::string::npos;
                for (float x : r.values(i))
                    ASSERT_EQ(x, bias || gemma ? 0 : 1) << r.m->parameters[i].name;
            }
        for (float x : logits_of(r.m, {5, 6, 7, 8}, {0, 4}))
            ASSERT_TRUE(std::isfinite(x));
    }
}

TEST(RandomWeights, AreAFunctionOfTheSeed)
{
    const Random a(config, 7), b(config, 7, "fp32", 1), other(config, 8), rounded(config, 7, "bf16");
    ASSERT_OK(a.status);
    ASSERT_OK(rounded.status);
    for (int64_t i = 0; i < a.m->n_parameters; i++) {
        const Floats values = a.values(i), bf16 = rounded.values(i);
        EXPECT_EQ(values, b.values(i));
        if (a.m->parameters[i].cols > 1) {
            EXPECT_NE(values, other.values(i));
        }
        for (size_t j = 0; j < values.size(); j++)
            ASSERT_EQ(bf16[j], bf16_to_f32(f32_to_bf16(values[j])));
    }
}

TEST(RandomWeights, AreTrainedAndGoOnForEver)
{
    const Random r(config);
    ASSERT_OK(r.status);
    const Ints ids = {3, 9, 27, 81, 5, 15}, ends = {0, 6}, targets = {9, 27, 81, 5, 15, -1};
    const packed_batch batch = batch_of(ids, ends);
    double loss = 0;
    ASSERT_OK(model_grads_create(r.m));
    ASSERT_OK(model_train_step(r.m, &batch, targets.data(), 0.2f, &loss, nullptr));
    EXPECT_NEAR(loss / 5, std::log(128), 0.5) << "weights this small know nothing";
    const int64_t prompt[] = {0, 6};
    const uint64_t key = 0;
    generate_options options = {};
    options.max_tokens = 12;
    options.top_p = 1;
    generated out = {};
    ASSERT_OK(generate(r.m, ids.data(), prompt, 1, &key, &options, &out, nullptr));
    EXPECT_EQ(out.n, 12);
    generated_free(&out, 1);
}

TEST(RandomWeights, AConfigThatIsNoneIsASentence)
{
    const TempFolder folder;
    const std::string bad = folder.file("config.json");
    const Random missing(bad);
    EXPECT_EQ(missing.status, SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find(bad), std::string::npos);
    write_text(bad, "[]");
    const Random list(bad);
    EXPECT_EQ(list.status, SC_BAD_INPUT);
    EXPECT_STREQ(sc_last_error(), (bad + ": a JSON object is expected.").c_str());
    write_text(bad, read_text(config));
    replace_in(bad, "LlamaForCausalLM", "GPT2LMHeadModel");
    const Random other(bad);
    EXPECT_EQ(other.status, SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("GPT2LMHeadModel"), std::string::npos);
}

// The configs that the benchmark on a card takes are those of the models: 1,235.8 and 3,212.7 million weights.
// The shapes of bench/configs have the numbers of weights that the models are known by.
TEST(RandomWeights, TheBenchmarksConfigsHaveTheModelsShapes)
{
    sc_common common = sc_common_default();
    common.device = "cpu";
    device *d = nullptr;
    ASSERT_OK(device_open(&common, &d));
    for (const auto &[name, weights] : {std::pair{"llama-3.2-1b", INT64_C(1235814400)},
                                        {"llama-3.2-3b", INT64_C(3212749824)},
                                        {"qwen2.5-0.5b", INT64_C(494032768)},
                                        {"qwen3-0.6b", INT64_C(596049920)},
                                        {"gemma-3-270m", INT64_C(268098176)},
                                        {"gemma-2-2b", INT64_C(2614341888)}}) {
        const std::string path = std::string(SC_SOURCE_DIR "/bench/configs/") + name + ".json";
        model *m = nullptr;
        ASSERT_OK(weights_begin(path.c_str(), d, &m));
        EXPECT_OK(model_config_read_file(path.c_str(), &m->config));
        EXPECT_OK(weights_list(m));
        int64_t n = 0;
        for (int64_t i = 0; i < m->n_parameters; i++)
            n += m->parameters[i].rows * m->parameters[i].cols;
        EXPECT_EQ(n, weights) << name;
        EXPECT_EQ(m->config.rope_llama3, std::string(name).find("llama") == 0);
        EXPECT_TRUE(m->config.tied);
        model_close(m);
    }
    device_close(d);
}

} // namespace
