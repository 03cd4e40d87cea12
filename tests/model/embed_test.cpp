// embed over a small data set: what is written, how it resumes, and what is refused.
#include "fixture.h"

#include <chrono>
#include <filesystem>
#include <thread>

extern "C" {
#include "formats/npy.h"
#include "seedcorn/embed.h"
#include "seedcorn/log.h"
#include "text/tokenizer.h"
}

namespace
{

constexpr int kRows = 150; /* three groups */

std::string review_text(int i)
{
    std::string s;
    for (int k = 0; k < 1 + (i * 7) % 23; k++)
        s += std::string(k > 0 ? " " : "") + static_cast<char>('a' + (i + k * 3) % 26);
    return s;
}

class Embed : public testing::Test
{
  protected:
    void SetUp() override
    {
        copy_tiny("tied", folder.file("model"));
        std::string reviews, items;
        for (int i = 0; i < kRows; i++)
            reviews += "{\"review_id\": \"r" + std::to_string(i) +
                       "\", \"rating\": 4.0, \"title\": \"t\", \"text\": \"" + review_text(i) +
                       "\", \"asin\": \"i" + std::to_string(i % 3) + "\", \"parent_asin\": \"i" +
                       std::to_string(i % 3) + "\", \"user_id\": \"u" + std::to_string(i) +
                       "\", \"timestamp\": " + std::to_string(1000 + i) + "}\n";
        for (int i = 0; i < 3; i++)
            items += "{\"parent_asin\": \"i" + std::to_string(i) + "\", \"title\": \"film " +
                     std::to_string(i) + "\"}\n";
        std::filesystem::create_directory(folder.file("data"));
        write_text(folder.file("data/reviews.jsonl"), reviews);
        write_text(folder.file("data/items.jsonl"), items);
        /* a vocabulary of the 26 letters and the blank, each byte its own token */
        std::vector<std::string> tokens;
        for (int i = 0; i < 128; i++)
            tokens.push_back("<" + std::to_string(i) + ">");
        for (int i = 33; i < 127; i++)
            tokens[static_cast<size_t>(i)] = std::string(1, static_cast<char>(i));
        tokens[10] = "\u010a"; /* the line end and the blank in the byte-level alphabet */
        tokens[32] = "\u0120";
        std::vector<const char *> names;
        for (const std::string &t : tokens)
            names.push_back(t.c_str());
        Ints types(128, 1);
        tokenizer *t = nullptr;
        ASSERT_OK(tokenizer_from_gguf(names.data(), types.data(), names.size(), nullptr, 0, "gpt-2", &t));
        ASSERT_OK(tokenizer_save(t, folder.file("model/tokenizer.json").c_str()));
        tokenizer_close(t);
        data = folder.file("data");
        model_path = folder.file("model");
        out = folder.file("out/embeddings.npy");
        options = sc_embed_default();
        options.common.device = "cpu";
        options.common.dtype = "fp32";
        options.common.threads = 2;
        options.data = data.c_str();
        options.model = model_path.c_str();
        options.out = out.c_str();
    }
    void TearDown() override
    {
        sc_cancel_reset();
        sc_progress_set(nullptr, nullptr);
    }
    Floats rows()
    {
        npy_file f = {};
        EXPECT_OK(npy_open_as(out.c_str(), NPY_F4, 2, &f));
        const float *v = static_cast<const float *>(f.data);
        Floats all(v, v + f.n_values);
        EXPECT_EQ(f.shape[1], 32);
        npy_close(&f);
        return all;
    }
    Ints bytes(const std::string &text)
    {
        return Ints(text.begin(), text.end());
    }
    TempFolder folder;
    std::string data, model_path, out;
    sc_embed_options options;
};

} // namespace

TEST_F(Embed, RowsAreTheMeansOfTheirHiddenStates)
{
    sc_embed_result r = {};
    ASSERT_OK(sc_embed(&options, &r));
    EXPECT_EQ(r.n_rows, kRows);
    EXPECT_EQ(r.dim, 32);
    EXPECT_EQ(r.n_cut, 0);
    const Floats all = rows();
    ASSERT_EQ(all.size(), size_t{kRows} * 32);
    const Opened m(model_path);
    ASSERT_TRUE(m.ok());
    int64_t tokens = 0;
    for (int i = 0; i < kRows; i++) {
        const Ints ids = bytes("t\n" + review_text(i));
        tokens += static_cast<int64_t>(ids.size());
        const Floats hidden = forward(m, ids, {0, static_cast<int32_t>(ids.size())});
        Floats mean(32);
        for (size_t k = 0; k < hidden.size(); k++)
            mean[k % 32] += hidden[k] / static_cast<float>(ids.size());
        EXPECT_LE(max_difference(mean.data(), all.data() + i * 32, 32), 1e-4) << "row " << i;
    }
    EXPECT_EQ(r.n_tokens, tokens);
    const std::string json = read_text(folder.file("out/embeddings.json"));
    for (const char *part :
         {"\"pooling\": \"mean\"", "\"layer\": -1", "\"n_cut\": 0", "\"model_sha256\"", "\"rows\": 150"})
        EXPECT_NE(json.find(part), std::string::npos) << part << " is not in " << json;
    EXPECT_FALSE(std::filesystem::exists(out + ".partial"));
    EXPECT_FALSE(std::filesystem::exists(out + ".partial.json"));
}

TEST_F(Embed, LastTokenUnitLengthOtherLayerAndCut)
{
    options.pooling = "last";
    options.normalize = "unit";
    options.layer = 1;
    options.max_tokens = 5;
    sc_embed_result r = {};
    ASSERT_OK(sc_embed(&options, &r));
    EXPECT_GT(r.n_cut, 100);
    const Floats all = rows();
    const Opened m(model_path);
    for (int i : {0, 1, 77, 149}) {
        Ints ids = bytes("t\n" + review_text(i));
        ids.resize(std::min<size_t>(ids.size(), 5));
        const Floats hidden = forward(m, ids, {0, static_cast<int32_t>(ids.size())}, 1);
        Floats last(hidden.end() - 32, hidden.end());
        double squares = 0;
        for (float x : last)
            squares += static_cast<double>(x) * static_cast<double>(x);
        for (float &x : last)
            x = static_cast<float>(static_cast<double>(x) / std::sqrt(squares));
        EXPECT_LE(max_difference(last.data(), all.data() + i * 32, 32), 1e-5) << "row " << i;
    }
}

TEST_F(Embed, HowUnlikelyTheTokensAre)
{
    options.pooling = "nll";
    sc_embed_result r = {};
    ASSERT_OK(sc_embed(&options, &r));
    EXPECT_EQ(r.dim, 1);
    npy_file f = {};
    ASSERT_OK(npy_open_as(out.c_str(), NPY_F4, 2, &f));
    ASSERT_EQ(f.shape[0], kRows);
    ASSERT_EQ(f.shape[1], 1);
    const float *all = static_cast<const float *>(f.data);
    const Opened m(model_path);
    for (int i = 0; i < kRows; i++) {
        const Ints ids = bytes("t\n" + review_text(i));
        const size_t n = ids.size();
        const Floats values = logits_of(m, ids, {0, static_cast<int32_t>(n)});
        const size_t vocab = values.size() / n;
        double sum = 0;
        for (size_t t = 0; t + 1 < n; t++) {
            double z = 0;
            for (size_t v = 0; v < vocab; v++)
                z += std::exp(static_cast<double>(values[t * vocab + v]));
            sum += std::log(z) - static_cast<double>(values[t * vocab + static_cast<size_t>(ids[t + 1])]);
        }
        EXPECT_NEAR(all[i], sum / static_cast<double>(n - 1), 1e-4) << "row " << i;
    }
    npy_close(&f);
    options.normalize = "unit";
    EXPECT_EQ(sc_embed(&options, nullptr), SC_USAGE);
}

TEST_F(Embed, ItemsAndBoth)
{
    options.text = "item";
    sc_embed_result r = {};
    ASSERT_OK(sc_embed(&options, &r));
    EXPECT_EQ(r.n_rows, 3);
    options.text = "both";
    ASSERT_OK(sc_embed(&options, &r));
    EXPECT_EQ(r.n_rows, kRows);
}

TEST_F(Embed, AStoppedCallGoesOnToTheSameBytes)
{
    ASSERT_OK(sc_embed(&options, nullptr));
    const std::string whole = read_text(out);
    std::filesystem::remove(out);
    /* Asks to stop a little later each time, until a call is caught with a group done and others not. */
    sc_status stopped = SC_OK;
    for (int delay = 0; delay < 500 && stopped != SC_INTERRUPTED; delay++) {
        std::filesystem::remove(out);
        std::thread asker([delay] {
            std::this_thread::sleep_for(std::chrono::milliseconds(delay));
            sc_cancel();
        });
        stopped = sc_embed(&options, nullptr);
        asker.join();
        sc_cancel_reset();
        std::error_code none;
        const bool group_done =
            std::filesystem::file_size(out + ".partial", none) >= 64 * 32 * sizeof(float) && !none;
        if (stopped == SC_INTERRUPTED && !group_done) {
            std::filesystem::remove(out + ".partial");
            std::filesystem::remove(out + ".partial.json");
            stopped = SC_OK;
        }
    }
    ASSERT_EQ(stopped, SC_INTERRUPTED) << "no call could be stopped between its groups";
    EXPECT_FALSE(std::filesystem::exists(out));
    options.pooling = "last";
    options.max_tokens = 9;
    EXPECT_EQ(sc_embed(&options, nullptr), SC_CONFLICT);
    EXPECT_NE(std::string(sc_last_error()).find("pooling (\"mean\", now \"last\"), max_tokens ("),
              std::string::npos)
        << sc_last_error();
    options.pooling = "mean";
    options.max_tokens = 256;
    sc_embed_result r = {};
    ASSERT_OK(sc_embed(&options, &r));
    EXPECT_GE(r.n_resumed, 64);
    EXPECT_EQ(read_text(out), whole);
}

TEST_F(Embed, AnAdapterChangesTheVectors)
{
    ASSERT_OK(sc_embed(&options, nullptr));
    const Floats base = rows();
    const std::string adapter = tiny("adapter");
    options.adapter = adapter.c_str();
    ASSERT_OK(sc_embed(&options, nullptr));
    EXPECT_GT(max_difference(rows(), base), 1e-2);
    EXPECT_NE(read_text(folder.file("out/embeddings.json")).find("adapter_sha256"), std::string::npos);
}

TEST_F(Embed, ANaNNamesItsRow)
{
    std::string weights = read_text(model_path + "/model.safetensors");
    safetensors *s = nullptr;
    ASSERT_OK(safetensors_open(model_path.c_str(), &s));
    const st_tensor *t = safetensors_find(s, "model.embed_tokens.weight");
    ASSERT_NE(t, nullptr);
    const size_t at =
        static_cast<size_t>(static_cast<const uint8_t *>(t->data) - safetensors_file_map(s, 0)->data);
    safetensors_close(s);
    const float nan = NAN;
    memcpy(weights.data() + at + 'z' * 32 * sizeof(float), &nan, sizeof nan); /* the row of the letter z */
    write_text(model_path + "/model.safetensors", weights);
    int first = 0;
    while (review_text(first).find('z') == std::string::npos)
        first++;
    EXPECT_EQ(sc_embed(&options, nullptr), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("row " + std::to_string(first + 1) + " ("), std::string::npos)
        << sc_last_error();
    EXPECT_FALSE(std::filesystem::exists(out));
    EXPECT_FALSE(std::filesystem::exists(out + ".partial"));
}

TEST_F(Embed, BadOptionsAreNamed)
{
    options.pooling = "mena";
    EXPECT_EQ(sc_embed(&options, nullptr), SC_USAGE);
    EXPECT_NE(std::string(sc_last_error()).find("mean"), std::string::npos);
    options.pooling = "mean";
    options.layer = 4;
    EXPECT_EQ(sc_embed(&options, nullptr), SC_USAGE);
    options.layer = -1;
    options.max_tokens = 0;
    EXPECT_EQ(sc_embed(&options, nullptr), SC_USAGE);
    options.max_tokens = 256;
    options.model = "/nowhere";
    EXPECT_EQ(sc_embed(&options, nullptr), SC_BAD_INPUT);
    options.model = model_path.c_str();
    write_text(folder.file("data/reviews.jsonl"), "");
    EXPECT_EQ(sc_embed(&options, nullptr), SC_BAD_INPUT);
    EXPECT_FALSE(std::filesystem::exists(out));
}
