// sc_recommend on a tiny random model: resuming gives the same bytes, other settings are refused, and constrained lists
// hold only distinct, existing, unseen titles.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <string>

extern "C" {
#include "base/json.h"
#include "formats/records.h"
#include "seedcorn/recommend.h"
}

namespace
{

namespace fs = std::filesystem;

class Recommend : public testing::Test
{
  protected:
    static constexpr int VOCAB = 600, DIM = 16, FFN = 24, ROWS = 150, TITLES = 40;

    void SetUp() override
    {
        char name[] = "/tmp/seedcorn-recommend-XXXXXX";
        folder_ = mkdtemp(name);
        fs::create_directory(path("model"));
        fs::copy_file(SC_SOURCE_DIR "/tests/fixtures/tokenizer/tiny_smollm2.json",
                      path("model/tokenizer.json"));
        write("model/chat_template.jinja",
              "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
              "+ '<|im_end|>' + "
              "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
        write("model/config.json",
              "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_act\":\"silu\","
              "\"hidden_size\":16,\"intermediate_size\":24,\"num_hidden_layers\":1,"
              "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":8,\"vocab_size\":600,"
              "\"max_position_embeddings\":256,\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,"
              "\"tie_word_embeddings\":true,\"bos_token_id\":1,\"eos_token_id\":2,"
              "\"attention_bias\":false,\"mlp_bias\":false}");
        write_weights();
        std::string lines, items;
        for (int i = 0; i < ROWS; i++)
            lines += "{\"id\":\"d" + std::to_string(i) +
                     "\",\"messages\":[{\"role\":\"user\",\"content\":\"film number " + std::to_string(i) +
                     "\"}],\"targets\":[\"x\"],\"seen\":[\"" + title(i % TITLES) + " (1999)\"]}\n";
        for (int i = 0; i < TITLES; i++)
            items +=
                "{\"parent_asin\":\"" + std::to_string(i) + "\",\"title\":\"" + title(i) + " (1999)\"}\n";
        write("d.jsonl", lines);
        write("items.jsonl", items);
        model_ = path("model"), dialogues_ = path("d.jsonl"), items_ = path("items.jsonl");
    }
    void TearDown() override
    {
        fs::remove_all(folder_);
    }
    static std::string title(int i)
    {
        return std::string(1, (char)('A' + i % 26)) + (i % 3 ? " Night " : " Star ") + std::to_string(i);
    }
    std::string path(const std::string &name) const
    {
        return folder_ + "/" + name;
    }
    void write(const std::string &name, const std::string &text)
    {
        std::ofstream(path(name), std::ios::binary) << text;
    }
    std::string read(const std::string &name)
    {
        std::ostringstream out;
        out << std::ifstream(path(name), std::ios::binary).rdbuf();
        return out.str();
    }
    void write_weights()
    {
        std::mt19937 random(1);
        std::normal_distribution<float> normal(0, 0.3f);
        std::string header, data;
        auto add = [&](const std::string &name, int rows, int cols) {
            const size_t start = data.size();
            for (int i = 0; i < rows * cols; i++) {
                const float v = name.find("norm") != std::string::npos ? 1 : normal(random);
                data.append(reinterpret_cast<const char *>(&v), 4);
            }
            const std::string shape = name.find("norm") != std::string::npos
                                          ? "[" + std::to_string(rows) + "]"
                                          : "[" + std::to_string(rows) + "," + std::to_string(cols) + "]";
            header += std::string(header.empty() ? "{" : ",") + "\"" + name +
                      "\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":[" +
                      std::to_string(start) + "," + std::to_string(data.size()) + "]}";
        };
        const std::string l = "model.layers.0.";
        add("model.embed_tokens.weight", VOCAB, DIM);
        add(l + "input_layernorm.weight", DIM, 1);
        add(l + "self_attn.q_proj.weight", 16, DIM);
        add(l + "self_attn.k_proj.weight", 8, DIM);
        add(l + "self_attn.v_proj.weight", 8, DIM);
        add(l + "self_attn.o_proj.weight", DIM, 16);
        add(l + "post_attention_layernorm.weight", DIM, 1);
        add(l + "mlp.gate_proj.weight", FFN, DIM);
        add(l + "mlp.up_proj.weight", FFN, DIM);
        add(l + "mlp.down_proj.weight", DIM, FFN);
        add("model.norm.weight", DIM, 1);
        header += "}";
        header.resize((header.size() + 7) / 8 * 8, ' ');
        const uint64_t n = header.size();
        write("model/model.safetensors", std::string(reinterpret_cast<const char *>(&n), 8) + header + data);
    }
    sc_recommend_options options(const std::string &out, bool constrained = false)
    {
        sc_recommend_options o = sc_recommend_default();
        o.common.device = "cpu", o.common.dtype = "fp32";
        o.model = model_.c_str(), o.dialogues = dialogues_.c_str(), o.max_tokens = 12;
        out_ = path(out);
        o.out = out_.c_str();
        if (constrained)
            o.items = items_.c_str(), o.constrained = true, o.beams = 5;
        return o;
    }
    // The journal that a kill after the first group leaves. A folder in the place of the output makes the last step fail,
    // which keeps the journal whole; then all but the settings and one group is cut off.
    void journal_of_first_group(const sc_recommend_options &o)
    {
        const std::string journal = out_ + ".journal";
        fs::create_directory(out_);
        ASSERT_NE(sc_recommend(&o, nullptr), SC_OK);
        fs::remove(out_);
        record_reader *r = nullptr;
        const uint8_t *payload = nullptr;
        size_t n = 0;
        uint64_t offset = 0;
        ASSERT_EQ(record_reader_open(journal.c_str(), &r), SC_OK) << sc_last_error();
        for (int i = 0; i < 3; i++)
            ASSERT_EQ(record_reader_next(r, &payload, &n, &offset), SC_OK);
        ASSERT_NE(payload, nullptr);
        record_reader_close(r);
        fs::resize_file(journal, offset);
        std::ofstream(journal, std::ios::app) << "torn"; // a record that the kill cut off
    }
    std::string folder_, model_, dialogues_, items_, out_;
};

TEST_F(Recommend, ResumesToTheSameBytes)
{
    for (bool constrained : {false, true}) {
        const std::string suffix = constrained ? "c" : "f";
        sc_recommend_result r = {};
        sc_recommend_options o = options("whole-" + suffix, constrained);
        ASSERT_EQ(sc_recommend(&o, &r), SC_OK) << sc_last_error();
        EXPECT_EQ(r.n_rows, ROWS);
        EXPECT_EQ(r.n_resumed, 0);
        EXPECT_FALSE(fs::exists(out_ + ".journal"));
        const std::string whole = read("whole-" + suffix);

        o = options("cut-" + suffix, constrained);
        journal_of_first_group(o);
        o.temperature = 0.5;
        EXPECT_EQ(sc_recommend(&o, nullptr), SC_CONFLICT);
        o.temperature = 0;
        ASSERT_EQ(sc_recommend(&o, &r), SC_OK) << sc_last_error();
        EXPECT_EQ(r.n_resumed, 64);
        EXPECT_FALSE(fs::exists(out_ + ".journal"));
        EXPECT_EQ(read("cut-" + suffix), whole);
    }
}

TEST_F(Recommend, ConstrainedListsAreDistinctExistingAndUnseen)
{
    sc_recommend_options o = options("c", true);
    ASSERT_EQ(sc_recommend(&o, nullptr), SC_OK) << sc_last_error();
    std::set<std::string> catalogue;
    for (int i = 0; i < TITLES; i++)
        catalogue.insert(title(i));
    line_reader *reader = nullptr;
    ASSERT_EQ(line_reader_open(out_.c_str(), 1 << 20, &reader), SC_OK);
    int row = 0;
    for (json_t *line; json_next_line(reader, &line) == SC_OK && line; json_decref(line), row++) {
        const json_t *titles = json_object_get(line, "titles");
        EXPECT_EQ(json_string_value(json_object_get(line, "id")), "d" + std::to_string(row));
        EXPECT_STREQ(json_string_value(json_object_get(line, "finish_reason")), "constrained");
        std::set<std::string> distinct;
        for (size_t i = 0; i < json_array_size(titles); i++) {
            const std::string t = json_string_value(json_array_get(titles, i));
            EXPECT_TRUE(catalogue.count(t)) << t;
            EXPECT_NE(t, title(row % TITLES));
            distinct.insert(t);
        }
        EXPECT_EQ(distinct.size(), 20u);
    }
    EXPECT_EQ(row, ROWS);
    line_reader_close(reader);
}

TEST_F(Recommend, AnswersOneTypedRequest)
{
    sc_recommend_options o = options("one", true);
    o.dialogues = nullptr, o.request = "something with robots";
    sc_recommend_result r = {};
    ASSERT_EQ(sc_recommend(&o, &r), SC_OK) << sc_last_error();
    EXPECT_EQ(r.n_rows, 1);
    EXPECT_NE(read("one").find("\"id\":\"request\""), std::string::npos);
}

TEST_F(Recommend, NamesWhatIsWrong)
{
    auto fails = [&](sc_recommend_options o, sc_status want, const std::string &part) {
        EXPECT_EQ(sc_recommend(&o, nullptr), want);
        EXPECT_NE(std::string(sc_last_error()).find(part), std::string::npos) << sc_last_error();
        EXPECT_FALSE(fs::exists(out_));
    };
    sc_recommend_options o = options("x");
    o.constrained = true;
    fails(o, SC_USAGE, "--items");
    o = options("x");
    o.request = "both";
    fails(o, SC_USAGE, "either");
    o = options("x");
    o.top_p = NAN;
    fails(o, SC_USAGE, "top-p");
    o = options("x");
    o.temperature = 1e39; // infinite, as a float
    fails(o, SC_USAGE, "temperature");
    o = options("x");
    o.out = o.dialogues;
    fails(o, SC_USAGE, "its own input");
    o = options("x");
    o.max_tokens = 1000;
    fails(o, SC_BAD_INPUT, "positions");
    write("d.jsonl", R"({"id": "odd", "messages": [{"role": "wizard", "content": "hm"}]})"
                     "\n");
    fails(options("x"), SC_BAD_INPUT, "d.jsonl:1");
    write("d.jsonl", "");
    fails(options("x"), SC_BAD_INPUT, "dialogues");
}

} // namespace
