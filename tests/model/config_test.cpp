// config.json as transformers 4 and 5 write it, weights and tokenizers that do not fit, and saving.
#include "fixture.h"

extern "C" {
#include "text/tokenizer.h"
}

namespace
{

const char *const kPlain =
    R"({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 32,
 "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128)";

// kPlain as another architecture.
std::string of(const std::string &architecture)
{
    std::string text = kPlain;
    return text.replace(text.find("LlamaForCausalLM"), strlen("LlamaForCausalLM"), architecture);
}

struct Config : testing::Test {
    TempFolder folder;
    model_config c = {};
    sc_status read(const std::string &rest, const std::string &head = kPlain)
    {
        write_text(folder.file("config.json"), head + rest + "}");
        return model_config_read(folder.path().c_str(), &c);
    }
    void refused(const std::string &rest, const std::string &part, const std::string &head = kPlain)
    {
        EXPECT_EQ(read(rest, head), SC_BAD_INPUT) << rest;
        EXPECT_NE(std::string(sc_last_error()).find(part), std::string::npos) << sc_last_error();
    }
};

} // namespace

TEST_F(Config, DefaultsAreLlamas)
{
    ASSERT_OK(read(""));
    EXPECT_EQ(c.head_dim, 8);
    EXPECT_EQ(c.rope_theta, 10000);
    EXPECT_EQ(c.max_positions, 2048);
    EXPECT_FLOAT_EQ(c.norm_eps, 1e-6f);
    EXPECT_FALSE(c.tied);
    EXPECT_EQ(c.act, ACT_SILU);
    EXPECT_EQ(c.bos_id, -1);
    EXPECT_EQ(c.pad_id, -1);
    EXPECT_EQ(c.n_eos, 0);
}

TEST_F(Config, PaddingOutsideTheTableIsNone)
{
    for (const auto &[given, id] : {std::pair{"0", 0}, {"127", 127}, {"128", -1}, {"-1", -1}, {"null", -1}}) {
        ASSERT_OK(read(std::string(R"(, "pad_token_id": )") + given));
        EXPECT_EQ(c.pad_id, id) << given;
    }
    refused(R"(, "pad_token_id": "none")", "pad_token_id");
}

TEST_F(Config, RopeOfTransformersFourAndFive)
{
    ASSERT_OK(read(R"(, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
 "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"));
    const model_config four = c;
    ASSERT_OK(read(R"(, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 32.0,
 "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"));
    for (const model_config &x : {four, c}) {
        EXPECT_EQ(x.rope_theta, 500000);
        EXPECT_TRUE(x.rope_llama3);
        EXPECT_EQ(x.rope_factor, 32);
        EXPECT_EQ(x.rope_original, 8192);
    }
    ASSERT_OK(read(R"(, "rope_theta": 100000, "rope_scaling": null)"));
    EXPECT_EQ(c.rope_theta, 100000);
    EXPECT_FALSE(c.rope_llama3);
}

TEST_F(Config, EndTokens)
{
    ASSERT_OK(read(R"(, "eos_token_id": 2, "bos_token_id": 1)"));
    EXPECT_EQ(c.n_eos, 1);
    EXPECT_EQ(c.eos_ids[0], 2);
    EXPECT_EQ(c.bos_id, 1);
    write_text(folder.file("generation_config.json"), R"({"eos_token_id": [5, 6, 7]})");
    ASSERT_OK(read(R"(, "eos_token_id": 2)"));
    EXPECT_EQ(c.n_eos, 3);
    EXPECT_EQ(c.eos_ids[2], 7);
    write_text(folder.file("generation_config.json"), R"({"eos_token_id": [5, 128]})");
    refused("", "below the vocabulary size 128");
    write_text(folder.file("generation_config.json"), R"({"eos_token_id": [1, 2, 3, 4, 5, 6, 7, 8, 9]})");
    refused("", "more than 8");
}

TEST_F(Config, WhatIsNotSupportedIsNamed)
{
    refused("", "GemmaForCausalLM", R"({"architectures": ["GemmaForCausalLM"])");
    refused("", "architectures", R"({"model_type": "llama")");
    refused(R"(, "attention_bias": true)", "attention_bias");
    refused(R"(, "mlp_bias": true)", "mlp_bias");
    refused(R"(, "sliding_window": 4096)", "sliding_window");
    refused(R"(, "quantization_config": {"bits": 4})", "quantization_config");
    refused(R"(, "hidden_act": "relu")", "relu");
    refused(R"(, "rope_scaling": {"type": "yarn", "factor": 4})", "yarn");
    refused(R"(, "partial_rotary_factor": 0.5)", "partial_rotary_factor");
    refused(R"(, "attn_logit_softcapping": 50.0)", "attn_logit_softcapping");
    refused(R"(, "final_logit_softcapping": 30.0)", "final_logit_softcapping");
    refused(R"(, "layer_types": ["full_attention", "sliding_attention"])", "sliding_attention");
    refused(R"(, "use_bidirectional_attention": true)", "use_bidirectional_attention");
    ASSERT_OK(read(R"(, "attention_bias": false, "sliding_window": null)"));
}

TEST_F(Config, FeaturesOfQwen)
{
    ASSERT_OK(read("", of("Qwen2ForCausalLM")));
    EXPECT_TRUE(c.qkv_bias && !c.qk_norm && !c.branch_norms && !c.scaled_embedding && !c.tied);
    EXPECT_EQ(c.head_dim, 8);
    EXPECT_FLOAT_EQ(c.attention_scale, 1 / std::sqrt(8.0f));
    // as Qwen2.5's own files have it: a window that is switched off
    ASSERT_OK(read(R"(, "use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 21)",
                   of("Qwen2ForCausalLM")));
    EXPECT_FALSE(c.slides[0] || c.slides[1]);
    refused(R"(, "use_sliding_window": true, "sliding_window": 32768)", "use_sliding_window",
            of("Qwen2ForCausalLM"));
    ASSERT_OK(read("", of("Qwen3ForCausalLM")));
    EXPECT_TRUE(c.qk_norm && !c.qkv_bias);
    EXPECT_EQ(c.head_dim, 128);
    ASSERT_OK(read(R"(, "head_dim": 16)", of("Qwen3ForCausalLM")));
    EXPECT_EQ(c.head_dim, 16);
    EXPECT_FLOAT_EQ(c.attention_scale, 0.25f);
    refused(R"(, "attention_bias": true)", "attention_bias", of("Qwen3ForCausalLM"));
    refused(R"(, "layer_types": ["full_attention", "chunked_attention"])", "chunked_attention",
            of("Qwen3ForCausalLM"));
}

TEST_F(Config, FeaturesOfGemma2)
{
    const std::string head = of("Gemma2ForCausalLM");
    ASSERT_OK(read("", head));
    EXPECT_TRUE(c.branch_norms && c.scaled_embedding && c.tied && !c.qkv_bias && !c.qk_norm);
    EXPECT_EQ(c.norm_shift, 1);
    EXPECT_EQ(c.head_dim, 256);
    EXPECT_EQ(c.act, ACT_GELU_TANH);
    EXPECT_EQ(c.attention_cap, 50);
    EXPECT_EQ(c.logit_cap, 30);
    EXPECT_EQ(c.window, 4096);
    EXPECT_EQ(c.max_positions, 8192);
    EXPECT_FLOAT_EQ(c.attention_scale, 1 / 16.0f);
    EXPECT_TRUE(c.slides[0] && !c.slides[1]);
    ASSERT_OK(read(R"(, "query_pre_attn_scalar": 144, "sliding_window": 7, "attn_logit_softcapping": null,
 "final_logit_softcapping": 12.5, "layer_types": ["full_attention", "sliding_attention"], "tie_word_embeddings": false)",
                   head));
    EXPECT_FLOAT_EQ(c.attention_scale, 1 / 12.0f);
    EXPECT_EQ(c.window, 7);
    EXPECT_EQ(c.attention_cap, 0);
    EXPECT_EQ(c.logit_cap, 12.5f);
    EXPECT_TRUE(!c.slides[0] && c.slides[1] && !c.tied);
    ASSERT_OK(read(R"(, "sliding_window": null)", head));
    EXPECT_FALSE(c.slides[0] || c.slides[1]);
    refused(R"(, "hidden_activation": "gelu")", "\"gelu\" in \"hidden_activation\"", head);
    refused(R"(, "attn_logit_softcapping": 0)", "attn_logit_softcapping", head);
    refused(R"(, "final_logit_softcapping": "high")", "final_logit_softcapping", head);
    refused(R"(, "sliding_window": 0)", "sliding_window", head);
    refused(R"(, "query_pre_attn_scalar": -1)", "query_pre_attn_scalar", head);
    refused(R"(, "layer_types": ["full_attention"])", "each of the 2 layers", head);
    refused(R"(, "layer_types": ["full_attention", 3])", "layer 1", head);
    refused(R"(, "layer_types": "full_attention")", "layer_types", head);
    refused(R"(, "use_bidirectional_attention": true)", "use_bidirectional_attention", head);
}

TEST_F(Config, ImpossibleNumbersAreNamed)
{
    refused(R"(, "head_dim": 7)", "even");
    refused(R"(, "rms_norm_eps": -1)", "rms_norm_eps");
    refused(R"(, "rope_theta": 0)", "rope_theta");
    refused(R"(, "max_position_embeddings": -5)", "max_position_embeddings");
    refused(R"(, "rope_scaling": {"rope_type": "llama3", "factor": 8})", "low_freq_factor");
    for (const char *key : {"num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads"}) {
        for (const char *value : {"0", "-1", "1.5", "4611686018427387904", "\"2\"", "null"}) {
            std::string head = kPlain;
            const size_t at = head.find(key) + strlen(key) + 3;
            head.replace(at, head.find_first_of(",}", at) - at, value);
            refused("", key, head);
        }
    }
    std::string head = kPlain;
    refused("", "multiple", head.replace(head.find("heads\": 2"), 9, "heads\": 3"));
    refused(", ", "config.json");
    write_text(folder.file("config.json"), "[]");
    EXPECT_EQ(model_config_read(folder.path().c_str(), &c), SC_BAD_INPUT);
    std::filesystem::remove(folder.file("config.json"));
    EXPECT_EQ(model_config_read(folder.path().c_str(), &c), SC_BAD_INPUT);
    EXPECT_EQ(model_config_read(folder.file("absent").c_str(), &c), SC_BAD_INPUT);
}

// Windows bound what attention costs.
TEST(Configs, OperationsOfLayersThatSlide)
{
    model_config c = {};
    ASSERT_OK(model_config_read((tiny("gemma2")).c_str(), &c));
    const double scores = 4.0 * c.n_heads * c.head_dim; // a key
    const double products = model_block_operations(&c, 0);
    EXPECT_DOUBLE_EQ(model_block_operations(&c, 5), products + 4 * 5 * scores);
    EXPECT_DOUBLE_EQ(model_block_operations(&c, 100), products + (2 * 6 + 2 * 100) * scores);
}

TEST_F(Config, FeaturesOfGemma3)
{
    const std::string head = of("Gemma3ForCausalLM");
    ASSERT_OK(read(
        R"(, "attn_logit_softcapping": null, "final_logit_softcapping": null, "sliding_window": 512)", head));
    EXPECT_TRUE(c.branch_norms && c.scaled_embedding && c.tied && c.qk_norm && !c.qkv_bias);
    EXPECT_EQ(c.norm_shift, 1);
    EXPECT_EQ(c.attention_cap + c.logit_cap, 0);
    EXPECT_EQ(c.rope_theta, 1000000);
    EXPECT_EQ(c.rope_theta_sliding, 10000);
    EXPECT_EQ(c.window, 512);
    EXPECT_TRUE(c.slides[0] && c.slides[1]); // five of six do
    ASSERT_OK(
        read(R"(, "sliding_window_pattern": 2, "rope_theta": 5000, "rope_local_base_freq": 300)", head));
    EXPECT_TRUE(c.slides[0] && !c.slides[1]);
    EXPECT_EQ(c.rope_theta, 5000);
    EXPECT_EQ(c.rope_theta_sliding, 300);
    ASSERT_OK(read(R"(, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 7000.0},
 "sliding_attention": {"rope_type": "default", "rope_theta": 70.0}})",
                   head));
    EXPECT_EQ(c.rope_theta, 7000);
    EXPECT_EQ(c.rope_theta_sliding, 70);
    refused(R"(, "rope_scaling": {"rope_type": "linear", "factor": 8.0})", "linear", head);
    refused(R"(, "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}})", "linear",
            head);
    refused(R"(, "rope_parameters": {"sliding_attention": {"rope_type": "llama3"}})", "llama3", head);
    refused(R"(, "rope_parameters": {"sliding_attention": 3})", "object", head);
    refused(R"(, "rope_local_base_freq": -1)", "rope_theta", head);
    refused(R"(, "sliding_window_pattern": 0)", "sliding_window_pattern", head);
    refused(R"(, "final_logit_softcapping": 30)", "final_logit_softcapping", head);
}

// --- weights -------------------------------------------------------------------------------------------

class Weights : public testing::Test
{
  protected:
    void SetUp() override
    {
        copy_tiny("untied", folder.path());
    }
    void refused(const std::string &part)
    {
        sc_common common = sc_common_default();
        common.device = "cpu";
        common.dtype = "fp32";
        device *d = nullptr;
        model *m = nullptr;
        ASSERT_OK(device_open(&common, &d));
        EXPECT_EQ(model_open(folder.path().c_str(), d, &m), SC_BAD_INPUT);
        EXPECT_EQ(m, nullptr);
        EXPECT_NE(std::string(sc_last_error()).find(part), std::string::npos) << sc_last_error();
        device_close(d);
    }
    void config(const std::string &from, const std::string &to)
    {
        replace_in(folder.file("config.json"), from, to);
    }
    TempFolder folder;
};

TEST_F(Weights, AShapeThatDoesNotFit)
{
    config("\"intermediate_size\": 48", "\"intermediate_size\": 64");
    refused("model.layers.0.mlp.gate_proj.weight has the shape [48, 32], but config.json calls for [64, 32]");
}
TEST_F(Weights, ATensorThatIsMissing)
{
    config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    refused("model.layers.2.");
}
TEST_F(Weights, ATensorTooMany)
{
    config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    refused("model.layers.1.");
}
// What a relative has beside a Llama is asked for by name, and what it has not is not passed over.
TEST_F(Weights, OfAnotherFamily)
{
    for (const auto &[from, to, part] :
         {std::tuple{"Llama", "Qwen2", "model.layers.0.self_attn.q_proj.bias"},
          {"Llama", "Qwen3", "model.layers.0.self_attn.q_norm.weight"},
          {"Llama", "Gemma2", "model.layers.0.pre_feedforward_layernorm.weight"}}) {
        config(std::string(from) + "ForCausalLM", std::string(to) + "ForCausalLM");
        refused(part);
        config(std::string(to) + "ForCausalLM", std::string(from) + "ForCausalLM");
    }
    for (const auto &[name, part] : {std::pair{"qwen2", ".bias, which a LlamaForCausalLM of 2 layers"},
                                     {"qwen3", "_norm.weight, which a LlamaForCausalLM"}}) {
        copy_tiny(name, folder.path());
        const std::string own = std::string(name == std::string("qwen2") ? "Qwen2" : "Qwen3") + "ForCausalLM";
        config(own, "LlamaForCausalLM");
        refused(part);
    }
}
TEST_F(Weights, AbsentFile)
{
    std::filesystem::remove(folder.file("model.safetensors"));
    refused("safetensors");
}
TEST_F(Weights, TruncatedAnywhere)
{
    const auto size = std::filesystem::file_size(folder.file("model.safetensors"));
    for (uintmax_t cut : {size - 1, size / 2, uintmax_t{100}, uintmax_t{7}, uintmax_t{0}}) {
        std::filesystem::resize_file(folder.file("model.safetensors"), cut);
        refused("model.safetensors");
    }
}

TEST_F(Weights, ATokenizerThatDoesNotFit)
{
    const Opened m(folder.path());
    ASSERT_TRUE(m.ok());
    const char *names[200];
    std::vector<std::string> keep;
    for (int i = 0; i < 200; i++)
        keep.push_back("t" + std::to_string(i));
    for (int i = 0; i < 200; i++)
        names[i] = keep[static_cast<size_t>(i)].c_str();
    Ints types(200, 1);
    for (size_t n : {128u, 200u}) {
        tokenizer *t = nullptr;
        ASSERT_OK(tokenizer_from_gguf(names, types.data(), n, nullptr, 0, "gpt-2", &t));
        EXPECT_EQ(model_check_tokenizer(m, t), n == 128 ? SC_OK : SC_BAD_INPUT);
        tokenizer_close(t);
    }
    EXPECT_NE(std::string(sc_last_error()).find("200 ids"), std::string::npos) << sc_last_error();
}

TEST_F(Weights, AreMappedUntilTheyAreTrained)
{
    const Opened m(folder.path());
    ASSERT_TRUE(m.ok());
    const Floats before = logits_of(m, {5, 6}, {0, 2});
    const void *mapped = m->embedding->value;
    ASSERT_OK(model_grads_create(m));
    EXPECT_NE(m->embedding->value, mapped);
    static_cast<float *>(m->final_norm->value)[0] += 1; /* would end the process in a read-only mapping */
    EXPECT_NE(logits_of(m, {5, 6}, {0, 2}), before);
    const Opened again(folder.path());
    EXPECT_EQ(logits_of(again, {5, 6}, {0, 2}), before) << "the file was changed";
    EXPECT_STREQ(again->sha256, m->sha256);
    EXPECT_EQ(strlen(m->sha256), 64u);
}

// --- saving ----------------------------------------------------------------------------------------------

TEST(Save, WhatIsSavedOpensAsTheSameModel)
{
    for (const char *name : kTinyModels) {
        const Opened m(tiny(name));
        ASSERT_TRUE(m.ok());
        const TempFolder t;
        ASSERT_OK(model_save(m, t.file("out").c_str(), DTYPE_F32, 0));
        const Opened again(t.file("out"));
        ASSERT_TRUE(again.ok());
        EXPECT_EQ(logits_of(again, {5, 6, 7}, {0, 3}), logits_of(m, {5, 6, 7}, {0, 3}));
        EXPECT_EQ(model_file_dtype(again), DTYPE_F32);
        EXPECT_EQ(read_text(t.file("out/generation_config.json")),
                  read_text(tiny(name) + "/generation_config.json"));
    }
}

TEST(Save, RoundedOnceToBf16)
{
    const Opened m(tiny("untied"));
    ASSERT_TRUE(m.ok());
    const TempFolder t;
    ASSERT_OK(model_save(m, t.file("out").c_str(), DTYPE_BF16, 0));
    EXPECT_NE(read_text(t.file("out/config.json")).find("\"dtype\": \"bfloat16\""), std::string::npos);
    const Opened again(t.file("out"));
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(model_file_dtype(again), DTYPE_BF16);
    for (int64_t i = 0; i < m->n_parameters; i++) {
        const float *a = static_cast<float *>(m->parameters[i].value);
        const float *b = static_cast<float *>(again->parameters[i].value);
        for (int64_t k = 0; k < m->parameters[i].rows * m->parameters[i].cols; k++)
            ASSERT_EQ(bf16_to_f32(f32_to_bf16(a[k])), b[k]) << m->parameters[i].name;
    }
    const TempFolder t2;
    ASSERT_OK(model_save(again, t2.file("out").c_str(), DTYPE_BF16, 0));
    EXPECT_EQ(read_text(t2.file("out/model.safetensors")), read_text(t.file("out/model.safetensors")));
}

TEST(Save, NotIntoTheFolderItCameFrom)
{
    const TempFolder t;
    copy_tiny("tied", t.path());
    const Opened m(t.path());
    ASSERT_TRUE(m.ok());
    EXPECT_EQ(model_save(m, t.file(".").c_str(), DTYPE_F32, 0), SC_USAGE);
}
