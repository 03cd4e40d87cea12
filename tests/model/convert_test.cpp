// GGUF to a Hugging Face folder: names, row order, settings, tokenizer, and what is refused.
#include "tiny_gguf.h"

#include <cmath>

extern "C" {
#include "base/json.h"
#include "formats/safetensors.h"
#include "model/convert.h"
#include "text/tokenizer.h"
}

namespace
{

class ConvertTest : public FolderTest
{
  protected:
    sc_status convert(const TinyGguf &g)
    {
        return model_convert_gguf(put("m.gguf", g.bytes()).c_str(), at("hf").c_str());
    }
    std::vector<float> tensor(const char *name)
    {
        safetensors *s = nullptr;
        EXPECT_EQ(safetensors_open(at("hf").c_str(), &s), SC_OK) << sc_last_error();
        const st_tensor *t = nullptr;
        EXPECT_EQ(safetensors_need(s, name, &t), SC_OK) << sc_last_error();
        std::vector<float> out(t ? (size_t)t->n_values : 0);
        if (t) {
            EXPECT_EQ(t->type, ST_F32);
            EXPECT_EQ(st_tensor_floats(t, 0, t->n_values, out.data()), SC_OK);
        }
        safetensors_close(s);
        return out;
    }
    json_t *json(const char *name)
    {
        json_t *out = nullptr;
        EXPECT_EQ(json_parse_file(at(std::string("hf/") + name).c_str(), &out), SC_OK) << sc_last_error();
        return out;
    }
    void refused(const TinyGguf &g, const char *why)
    {
        EXPECT_EQ(convert(g), SC_BAD_INPUT) << why;
        EXPECT_TRUE(says(why));
        EXPECT_FALSE(file_exists(at("hf").c_str()));
        EXPECT_FALSE(file_exists(at("hf.tmp").c_str()));
    }
};

TEST_F(ConvertTest, WritesEveryTensorUnderItsName)
{
    ASSERT_EQ(convert({}), SC_OK) << sc_last_error();
    EXPECT_EQ(tensor("model.embed_tokens.weight"), TinyGguf::values(0, 259 * 32));
    EXPECT_EQ(tensor("model.layers.0.input_layernorm.weight"), TinyGguf::values(1, 32));
    EXPECT_EQ(tensor("model.layers.0.self_attn.v_proj.weight"), TinyGguf::values(4, 16 * 32));
    EXPECT_EQ(tensor("model.layers.0.self_attn.o_proj.weight"), TinyGguf::values(5, 32 * 32));
    EXPECT_EQ(tensor("model.layers.0.post_attention_layernorm.weight"), TinyGguf::values(6, 32));
    EXPECT_EQ(tensor("model.layers.1.mlp.gate_proj.weight"), TinyGguf::values(9 + 7, 64 * 32));
    EXPECT_EQ(tensor("model.layers.1.mlp.up_proj.weight"), TinyGguf::values(9 + 8, 64 * 32));
    EXPECT_EQ(tensor("model.layers.1.mlp.down_proj.weight"), TinyGguf::values(9 + 9, 64 * 32));
    EXPECT_EQ(tensor("model.norm.weight"), TinyGguf::values(19, 32));
    safetensors *s = nullptr;
    ASSERT_EQ(safetensors_open(at("hf").c_str(), &s), SC_OK);
    EXPECT_EQ(safetensors_count(s), 20u);
    EXPECT_EQ(safetensors_find(s, "lm_head.weight"), nullptr);
    EXPECT_EQ(safetensors_find(s, "model.norm.weight")->n_dims, 1);
    EXPECT_EQ(safetensors_find(s, "model.layers.0.mlp.down_proj.weight")->shape[1], 64);
    safetensors_close(s);
}

TEST_F(ConvertTest, TurnsTheRotatedRowsBack)
{
    ASSERT_EQ(convert({}), SC_OK) << sc_last_error();
    for (auto [name, id, heads] : {std::tuple{"model.layers.0.self_attn.q_proj.weight", 2, 2},
                                   {"model.layers.1.self_attn.k_proj.weight", 12, 1}}) {
        std::vector<float> got = tensor(name), from = TinyGguf::values(id, heads * 16 * 32);
        ASSERT_EQ(got.size(), from.size());
        for (int h = 0; h < heads; h++) {
            for (int row = 0; row < 16; row++) {
                /* rotate-half: row r < 8 pairs with r + 8; ggml has the pair side by side */
                int source = row < 8 ? 2 * row : 2 * (row - 8) + 1;
                for (int c = 0; c < 32; c++)
                    ASSERT_EQ(got[(size_t)((h * 16 + row) * 32 + c)],
                              from[(size_t)((h * 16 + source) * 32 + c)]);
            }
        }
    }
}

TEST_F(ConvertTest, WritesSettingsAndTokenizer)
{
    ASSERT_EQ(convert({}), SC_OK) << sc_last_error();
    json_t *c = json("config.json");
    EXPECT_STREQ(json_string_value(json_array_get(json_object_get(c, "architectures"), 0)),
                 "LlamaForCausalLM");
    EXPECT_STREQ(json_string_value(json_object_get(c, "torch_dtype")), "float32");
    for (auto [key, value] : {std::pair{"hidden_size", 32},
                              {"intermediate_size", 64},
                              {"num_attention_heads", 2},
                              {"num_key_value_heads", 1},
                              {"num_hidden_layers", 2},
                              {"head_dim", 16},
                              {"vocab_size", 259},
                              {"max_position_embeddings", 128},
                              {"bos_token_id", 257},
                              {"eos_token_id", 258}})
        EXPECT_EQ(json_integer_value(json_object_get(c, key)), value) << key;
    EXPECT_EQ(json_real_value(json_object_get(c, "rms_norm_eps")), (double)1e-5f);
    EXPECT_EQ(json_real_value(json_object_get(c, "rope_theta")), 10000.0);
    EXPECT_TRUE(json_is_true(json_object_get(c, "tie_word_embeddings")));
    EXPECT_TRUE(json_is_null(json_object_get(c, "rope_scaling")));
    json_decref(c);
    c = json("generation_config.json");
    EXPECT_EQ(json_integer_value(json_object_get(c, "eos_token_id")), 258);
    json_decref(c);
    c = json("tokenizer_config.json");
    EXPECT_STREQ(json_string_value(json_object_get(c, "chat_template")), "{{ 'caf\xc3\xa9' }}");
    EXPECT_STREQ(json_string_value(json_object_get(c, "eos_token")), "<|im_end|>");
    json_decref(c);
    c = json("special_tokens_map.json");
    EXPECT_STREQ(json_string_value(json_object_get(c, "bos_token")), "<|im_start|>");
    json_decref(c);
    EXPECT_EQ(get(at("hf/chat_template.jinja")), "{{ 'caf\xc3\xa9' }}");
    tokenizer *t = nullptr;
    ASSERT_EQ(tokenizer_open(at("hf").c_str(), &t), SC_OK) << sc_last_error();
    token_ids ids = {};
    ASSERT_EQ(tokenizer_encode(t, "the<|im_end|>", 13, true, &ids), SC_OK);
    ASSERT_EQ(ids.n, 3u);
    EXPECT_EQ(ids.ids[0], 256);
    EXPECT_EQ(ids.ids[1], 'e');
    EXPECT_EQ(ids.ids[2], 258);
    token_ids_free(&ids);
    tokenizer_close(t);
}

TEST_F(ConvertTest, KeepsAHeadOfItsOwn)
{
    TinyGguf g;
    g.with_head = true;
    ASSERT_EQ(convert(g), SC_OK) << sc_last_error();
    EXPECT_EQ(tensor("lm_head.weight"), TinyGguf::values(20, 259 * 32));
    json_t *c = json("config.json");
    EXPECT_TRUE(json_is_false(json_object_get(c, "tie_word_embeddings")));
    json_decref(c);
}

TEST_F(ConvertTest, ReadsLlama3ScalingOffTheFactors)
{
    TinyGguf g;
    g.theta = 500000;
    for (int i = 0; i < 8; i++) {
        double wave = 2 * M_PI * std::pow(500000.0, i / 8.0), s = (8192 / wave - 1) / 3;
        g.rope_factors.push_back(wave < 2048 ? 1.0f : wave > 8192 ? 32.0f : (float)(1 / ((1 - s) / 32 + s)));
    }
    ASSERT_EQ(convert(g), SC_OK) << sc_last_error();
    json_t *c = json("config.json");
    const json_t *scaling = json_object_get(c, "rope_scaling");
    EXPECT_STREQ(json_string_value(json_object_get(scaling, "rope_type")), "llama3");
    EXPECT_EQ(json_real_value(json_object_get(scaling, "factor")), 32.0);
    EXPECT_EQ(json_integer_value(json_object_get(scaling, "original_max_position_embeddings")), 8192);
    json_decref(c);
    ASSERT_EQ(file_remove_tree(at("hf").c_str()), SC_OK);
    g.rope_factors[2] = 5;
    refused(g, "not those of Llama 3");
    g.rope_factors = {1, 2};
    refused(g, "not those of Llama 3");
    g.rope_factors = {1, 1, 1, 1, 1, 1, 1, NAN};
    refused(g, "not those of Llama 3");
}

TEST_F(ConvertTest, RefusesWhatItCannotConvert)
{
    TinyGguf g;
    g.architecture = "gemma3";
    refused(g, "\"gemma3\"");
    g = {};
    g.with_extra = true;
    refused(g, "blk.0.attn_q.bias has no place");
    g = {};
    g.q_rows = 48;
    refused(g, "attn_q.weight is 48 x 32");
    g = {};
    g.drop_norm = true;
    refused(g, "output_norm.weight");
    g = {};
    g.theta = NAN;
    refused(g, "do not fit");
}

TEST_F(ConvertTest, NeverTouchesAFolderWithFiles)
{
    ASSERT_EQ(file_make_dirs(at("hf").c_str()), SC_OK);
    ASSERT_EQ(convert({}), SC_OK) << sc_last_error(); /* an empty one is taken */
    std::string before = get(at("hf/config.json"));
    EXPECT_NE(convert({}), SC_OK);
    says("there already");
    EXPECT_EQ(get(at("hf/config.json")), before);
    EXPECT_FALSE(file_exists(at("hf.tmp").c_str()));
}

TEST_F(ConvertTest, ATruncatedFileLeavesNothing)
{
    std::string whole = TinyGguf().bytes();
    for (size_t n = 0; n < whole.size(); n += n < 4000 ? 97 : 4999) {
        put("m.gguf", whole.substr(0, n));
        EXPECT_EQ(model_convert_gguf(at("m.gguf").c_str(), at("hf").c_str()), SC_BAD_INPUT) << n;
        EXPECT_FALSE(file_exists(at("hf").c_str()));
    }
}

} // namespace
