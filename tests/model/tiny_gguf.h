// A Llama model of two layers as a GGUF file, made in memory.
#ifndef SC_TESTS_MODEL_TINY_GGUF_H
#define SC_TESTS_MODEL_TINY_GGUF_H

#include <string>
#include <vector>

#include "formats/gguf_fixture.h"

struct TinyGguf {
    static constexpr int64_t dim = 32, ffn = 64, heads = 2, kv_heads = 1, head_dim = 16, layers = 2,
                             vocab = 259;
    // Changes that a test wants to see refused.
    std::string architecture = "llama";
    int64_t q_rows = heads * head_dim;
    bool with_head = false, with_extra = false, drop_norm = false;
    std::vector<float> rope_factors;
    float theta = 10000.0f;

    // Value i of the tensor that was added as number `id`; distinct, and exact in any block type used.
    static float at(int id, int64_t i)
    {
        return (float)((i * 37 + id * 101) % 255 - 127);
    }
    static std::vector<float> values(int id, int64_t n)
    {
        std::vector<float> out((size_t)n);
        for (int64_t i = 0; i < n; i++)
            out[(size_t)i] = at(id, i);
        return out;
    }
    static std::string quantised(int id, int64_t n) // Q8_0 with a scale of 1
    {
        std::string out;
        for (int64_t i = 0; i < n; i++) {
            if (i % 32 == 0)
                out += raw((uint16_t)0x3c00);
            out += (char)(int8_t)at(id, i);
        }
        return out;
    }
    // GPT-2's alphabet for bytes, one merge and two control tokens.
    static std::vector<std::string> tokens()
    {
        std::vector<std::string> out;
        int next = 256;
        for (int b = 0; b < 256; b++) {
            bool plain = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
            int code = plain ? b : next++;
            std::string utf8;
            if (code < 0x80)
                utf8 = (char)code;
            else
                utf8 = {(char)(0xc0 | code >> 6), (char)(0x80 | (code & 63))};
            out.push_back(utf8);
        }
        out.insert(out.end(), {"th", "<|im_start|>", "<|im_end|>"});
        return out;
    }
    std::string bytes() const
    {
        GgufBuilder b;
        b.add("general.architecture", architecture);
        b.add("llama.block_count", (uint32_t)layers);
        b.add("llama.context_length", 128u);
        b.add("llama.embedding_length", (uint32_t)dim);
        b.add("llama.feed_forward_length", (uint32_t)ffn);
        b.add("llama.attention.head_count", (uint32_t)heads);
        b.add("llama.attention.head_count_kv", (uint32_t)kv_heads);
        b.add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
        b.add("llama.rope.freq_base", theta);
        b.add("tokenizer.ggml.model", std::string("gpt2"));
        b.add("tokenizer.ggml.pre", std::string("smollm"));
        b.add("tokenizer.ggml.tokens", tokens());
        std::vector<int32_t> types(vocab, 1);
        types[257] = types[258] = 3;
        b.add("tokenizer.ggml.token_type", types);
        b.add("tokenizer.ggml.merges", std::vector<std::string>{"t h"});
        b.add("tokenizer.ggml.bos_token_id", 257u);
        b.add("tokenizer.ggml.eos_token_id", 258u);
        b.add("tokenizer.chat_template", std::string("{{ 'caf\xc3\xa9' }}"));
        int id = 0;
        auto add = [&](const std::string &name, std::vector<int64_t> shape, uint32_t type) {
            int64_t n = shape[0] * (shape.size() > 1 ? shape[1] : 1);
            b.tensor(name, shape, type, type == 8 ? quantised(id, n) : raw(values(id, n)));
            id++;
        };
        add("token_embd.weight", {dim, vocab}, 8);
        for (int64_t i = 0; i < layers; i++) {
            std::string p = "blk." + std::to_string(i) + ".";
            add(p + "attn_norm.weight", {dim}, 0);
            add(p + "attn_q.weight", {dim, q_rows}, 8);
            add(p + "attn_k.weight", {dim, kv_heads * head_dim}, 0);
            add(p + "attn_v.weight", {dim, kv_heads * head_dim}, 0);
            add(p + "attn_output.weight", {heads * head_dim, dim}, 8);
            add(p + "ffn_norm.weight", {dim}, 0);
            add(p + "ffn_gate.weight", {dim, ffn}, 8);
            add(p + "ffn_up.weight", {dim, ffn}, 0);
            add(p + "ffn_down.weight", {ffn, dim}, 8);
        }
        if (!drop_norm)
            add("output_norm.weight", {dim}, 0);
        if (with_head)
            add("output.weight", {dim, vocab}, 8);
        if (with_extra)
            add("blk.0.attn_q.bias", {dim}, 0);
        if (!rope_factors.empty())
            b.tensor("rope_freqs.weight", {(int64_t)rope_factors.size()}, 0, raw(rope_factors));
        return b.bytes();
    }
};

#endif
