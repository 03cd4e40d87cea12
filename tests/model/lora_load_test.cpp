// Adapters of others: what PEFT's configuration can say, what is read, and what is refused by name.
#include "fixture.h"

extern "C" {
#include "model/lora.h"
}

namespace
{

class LoraLoad : public testing::Test
{
  protected:
    void SetUp() override
    {
        copy_tiny("adapter", folder.path());
    }
    void refused(const std::string &part)
    {
        const Opened m(tiny("tied"));
        ASSERT_TRUE(m.ok());
        EXPECT_EQ(model_lora_load(m, folder.path().c_str()), SC_BAD_INPUT);
        EXPECT_NE(std::string(sc_last_error()).find(part), std::string::npos) << sc_last_error();
        EXPECT_EQ(m->lora, nullptr);
    }
    void config(const std::string &from, const std::string &to)
    {
        replace_in(folder.file("adapter_config.json"), from, to);
    }
    // The seven targets of the fixture as they stand in its file.
    void targets(const std::string &to)
    {
        std::string text = read_text(tiny("adapter") + "/adapter_config.json");
        const size_t at = text.find("\"target_modules\": ["), end = text.find(']', at);
        ASSERT_NE(end, std::string::npos);
        write_text(folder.file("adapter_config.json"),
                   text.replace(at, end + 1 - at, "\"target_modules\": " + to));
    }
    // The tensors of the fixture, those whose name has `part` in it, in another type.
    void rewrite(const std::string &part, st_type type)
    {
        safetensors *s = nullptr;
        ASSERT_OK(safetensors_open((tiny("adapter") + "/adapter_model.safetensors").c_str(), &s));
        std::unique_ptr<safetensors, SafetensorsClose> owner(s);
        std::vector<st_plan> plan;
        std::vector<const st_tensor *> tensors;
        for (size_t i = 0; i < safetensors_count(s); i++) {
            const st_tensor *t = safetensors_at(s, i);
            if (std::string(t->name).find(part) == std::string::npos)
                continue;
            st_plan one = {};
            one.name = t->name;
            one.type = type;
            one.n_dims = t->n_dims;
            std::copy(t->shape, t->shape + ST_MAX_DIMS, one.shape);
            plan.push_back(one);
            tensors.push_back(t);
        }
        safetensors_writer *w = nullptr;
        const std::string path = folder.file("adapter_model.safetensors");
        ASSERT_OK(safetensors_writer_open(path.c_str(), plan.data(), plan.size(), 0, &w));
        for (const st_tensor *t : tensors)
            for (int64_t i = 0; i < t->n_values; i++) {
                float value = 0;
                ASSERT_OK(st_tensor_floats(t, i, 1, &value));
                const _Float16 half = static_cast<_Float16>(value);
                const uint16_t bits = f32_to_bf16(value);
                ASSERT_OK(safetensors_writer_data(w,
                                                  type == ST_F32   ? static_cast<const void *>(&value)
                                                  : type == ST_F16 ? static_cast<const void *>(&half)
                                                                   : &bits,
                                                  st_type_size(type)));
            }
        ASSERT_OK(safetensors_writer_commit(&w));
    }
    static Floats logits(model *m)
    {
        return logits_of(m, {5, 6, 7, 8, 9}, {0, 5});
    }
    TempFolder folder;
};

TEST_F(LoraLoad, HalfPrecisionTensors)
{
    const Opened exact(tiny("tied"));
    ASSERT_TRUE(exact.ok());
    ASSERT_OK(model_lora_load(exact, folder.path().c_str()));
    for (st_type type : {ST_BF16, ST_F16}) {
        const Opened m(tiny("tied"));
        rewrite("", type);
        ASSERT_OK(model_lora_load(m, folder.path().c_str()));
        const double off = max_difference(logits(m), logits(exact));
        EXPECT_GT(off, 0) << st_type_name(type);
        EXPECT_LT(off, type == ST_BF16 ? 0.05 : 0.01) << st_type_name(type);
        for (int64_t i = 0; i < m->lora->n_values; i++) {
            const float want = exact->lora->values[i], got = m->lora->values[i];
            ASSERT_NEAR(got, want, std::fabs(want) * (type == ST_BF16 ? 1.0 / 256 : 1.0 / 1024)) << i;
        }
    }
}

TEST_F(LoraLoad, AnExpressionNamesTheTargets)
{
    rewrite("self_attn.q_proj", ST_F32);
    targets("\".*\\\\.self_attn\\\\.q_proj\"");
    const Opened m(tiny("tied"));
    ASSERT_OK(model_lora_load(m, folder.path().c_str()));
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int l = 0; l < N_LINEARS; l++)
            EXPECT_EQ(m->lora->layers[i][l].rank, l == LINEAR_Q ? 4 : 0);
}

TEST_F(LoraLoad, SomeBlocksAndSomeModulesLeftOut)
{
    rewrite("layers.1.self_attn", ST_F32);
    config("\"layers_to_transform\": null", "\"layers_to_transform\": [1]");
    config("\"exclude_modules\": null",
           "\"exclude_modules\": [\"mlp.gate_proj\", \"up_proj\", \"down_proj\"]");
    const Opened m(tiny("tied"));
    ASSERT_OK(model_lora_load(m, folder.path().c_str()));
    EXPECT_EQ(m->lora->layers[0][LINEAR_Q].rank, 0);
    EXPECT_EQ(m->lora->layers[1][LINEAR_Q].rank, 4);
    EXPECT_EQ(m->lora->layers[1][LINEAR_GATE].rank, 0);
}

TEST_F(LoraLoad, WordsForOtherArchitecturesAreLeftOut)
{
    config("\"q_proj\"", "\"query_key_value\", \"q_proj\"");
    const Opened m(tiny("tied"));
    EXPECT_OK(model_lora_load(m, folder.path().c_str()));
}

TEST_F(LoraLoad, FanInFanOutChangesNothingForLinearLayers)
{
    const Opened m(tiny("tied")), plain(tiny("tied"));
    ASSERT_OK(model_lora_load(plain, folder.path().c_str()));
    config("\"fan_in_fan_out\": false", "\"fan_in_fan_out\": true");
    ASSERT_OK(model_lora_load(m, folder.path().c_str()));
    EXPECT_EQ(logits(m), logits(plain));
}

TEST_F(LoraLoad, PatternsTakeTheFirstKeyThatFits)
{
    config("\"alpha_pattern\": {}",
           "\"alpha_pattern\": {\"layers.0.self_attn.q_proj\": 12, \"q_proj\": 3, \"proj\": 99}");
    const Opened m(tiny("tied"));
    ASSERT_OK(model_lora_load(m, folder.path().c_str()));
    EXPECT_FLOAT_EQ(m->lora->layers[0][LINEAR_Q].scaling, 3);
    EXPECT_FLOAT_EQ(m->lora->layers[1][LINEAR_Q].scaling, 0.75f);
    EXPECT_FLOAT_EQ(m->lora->layers[1][LINEAR_K].scaling, 1.5f) << "a key fits from a dot on";
}

TEST_F(LoraLoad, OtherKind)
{
    config("\"LORA\"", "\"IA3\"");
    refused("IA3");
}
TEST_F(LoraLoad, Bias)
{
    config("\"bias\": \"none\"", "\"bias\": \"lora_only\"");
    refused("lora_only");
}
TEST_F(LoraLoad, ModulesToSave)
{
    config("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]");
    refused("modules_to_save");
}
TEST_F(LoraLoad, BaseWeightsThatWereChanged)
{
    config("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_16\"");
    refused("pissa_niter_16");
}
TEST_F(LoraLoad, Rank)
{
    config("\"r\": 4", "\"r\": 8");
    refused("[4, 32]");
}
TEST_F(LoraLoad, HugeRank)
{
    config("\"r\": 4", "\"r\": 4611686018427387904");
    refused("rank");
}
TEST_F(LoraLoad, RankOfAnotherPattern)
{
    config("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 2}");
    refused("[4, 32]");
}
TEST_F(LoraLoad, RankThatIsNone)
{
    config("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 2.5}");
    refused("2.5");
}
TEST_F(LoraLoad, PatternThatIsNoNumber)
{
    config("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": \"much\"}");
    refused("q_proj");
}
TEST_F(LoraLoad, UnreadableExpression)
{
    config("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj(\": 2}");
    refused("q_proj(");
}
TEST_F(LoraLoad, UnknownTargets)
{
    targets("[\"query\", \"value\"]");
    refused("query");
    targets("\".*attention.*\"");
    refused(".*attention.*");
    targets("[]");
    refused("target_modules");
    targets("[7]");
    refused("no string");
}
TEST_F(LoraLoad, MagnitudesThatAreNotThere)
{
    config("\"use_dora\": false", "\"use_dora\": true");
    refused("lora_magnitude_vector");
}
TEST_F(LoraLoad, TensorsThatNobodyAskedFor)
{
    config("    \"q_proj\",\n", "");
    refused("42 tensors");
    refused("q_proj.lora_A.weight");
}
TEST_F(LoraLoad, MissingWeights)
{
    std::filesystem::remove(folder.file("adapter_model.safetensors"));
    refused("not an adapter folder");
    write_text(folder.file("adapter_model.bin"), "x");
    refused("save_pretrained");
}
TEST_F(LoraLoad, TruncatedWeights)
{
    std::filesystem::resize_file(folder.file("adapter_model.safetensors"), 20000);
    refused("adapter_model.safetensors");
}
TEST_F(LoraLoad, NotANumber)
{
    std::string bytes = read_text(folder.file("adapter_model.safetensors"));
    const uint32_t nan = 0x7fc00000;
    memcpy(bytes.data() + bytes.size() - 4, &nan, 4);
    write_text(folder.file("adapter_model.safetensors"), bytes);
    refused("NaN");
}

} // namespace
