// The same model on every table: the CPU's, and the kernels', as the emulator and the card run them. The emulator hides
// the card's memory from the host, so a pointer that the host must not follow ends the test.
#include "device/tables.h"
#include "fixture.h"

namespace
{

// Numbers of the device as the host sees them.
Floats fetched(const model *m, const void *device, size_t n, dtype type)
{
    const ops *table = m->device->ops;
    std::vector<char> bytes(n * dtype_size(type));
    EXPECT_OK(table->download(nullptr, bytes.data(), device, bytes.size()));
    EXPECT_OK(table->synchronise(nullptr));
    Floats out(n);
    for (size_t i = 0; i < n; i++)
        if (type == DTYPE_F32)
            std::memcpy(&out[i], bytes.data() + 4 * i, 4);
        else {
            uint16_t half;
            std::memcpy(&half, bytes.data() + 2 * i, 2);
            out[i] = bf16_to_f32(half);
        }
    return out;
}

// Euclidean: the greatest of a few differences would be chance.
double distance(const Floats &a, const Floats &b)
{
    double squares = 0;
    for (size_t i = 0; i < a.size(); i++)
        squares += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    return std::sqrt(squares);
}

class Fixture
{
  public:
    explicit Fixture(const std::string &folder)
        : e_(folder), ids(e_.ints("ids")), targets(e_.ints("targets")), ends(fixture_ends())
    {
    }

  private:
    Expected e_;

  public:
    const Ints ids, targets, ends;

    Floats hidden(model *m) const
    {
        const packed_batch b = batch_of(ids, ends);
        void *out = nullptr;
        EXPECT_OK(model_forward(m, &b, -1, &out));
        return out ? fetched(m, out, ids.size() * size_t(m->config.dim), m->dtype) : Floats();
    }
    Floats logits(model *m) const
    {
        const packed_batch b = batch_of(ids, ends);
        void *out = nullptr;
        float *found = nullptr;
        Ints rows(ids.size());
        for (size_t i = 0; i < rows.size(); i++)
            rows[i] = int32_t(i);
        EXPECT_OK(model_forward(m, &b, -1, &out));
        EXPECT_OK(model_logits(m, out, rows.data(), int64_t(rows.size()), &found));
        return found ? fetched(m, found, rows.size() * size_t(m->config.vocab_size), DTYPE_F32) : Floats();
    }
    // The loss of one step; gradients follow in m.
    double step(model *m) const
    {
        const packed_batch b = batch_of(ids, ends);
        double loss = 0;
        EXPECT_OK(model_train_step(m, &b, targets.data(), 0.05f, &loss, nullptr));
        return loss;
    }
};

std::vector<Ints> generated_by(model *m, const Fixture &f, const generate_options &options, Floats *logprobs)
{
    const std::vector<int64_t> cu(f.ends.begin(), f.ends.end());
    const std::vector<uint64_t> keys = {3, 1, 4};
    std::vector<generated> rows(cu.size() - 1);
    EXPECT_OK(generate(m, f.ids.data(), cu.data(), rows.size(), keys.data(), &options, rows.data(), nullptr));
    std::vector<Ints> out;
    for (const generated &r : rows) {
        out.emplace_back(r.ids, r.ids + r.n);
        if (r.logprobs)
            logprobs->insert(logprobs->end(), r.logprobs, r.logprobs + r.n);
    }
    generated_free(rows.data(), rows.size());
    return out;
}

} // namespace

// A Llama, and its relatives with biases, norms of heads, caps and windows.
struct TableModel {
    PresentPlugin plugin;
    std::string model;
};

static std::vector<TableModel> table_models()
{
    std::vector<TableModel> all;
    for (const PresentPlugin &plugin : present_plugins())
        for (const char *name : {"llama3", "tied", "untied", "qwen2", "qwen3", "gemma2", "gemma3"})
            all.push_back({plugin, name});
    return all;
}

static void PrintTo(const TableModel &x, std::ostream *out)
{
    *out << x.plugin.name << "_" << x.model;
}

class ModelTables : public testing::TestWithParam<TableModel>
{
    const Plugin plugin_{GetParam().plugin.path.c_str()};

  protected:
    const std::string folder_ = tiny(GetParam().model);
    const Fixture f_{folder_};
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ModelTables);
INSTANTIATE_TEST_SUITE_P(Plugins, ModelTables, testing::ValuesIn(table_models()),
                         testing::PrintToStringParamName());

TEST_P(ModelTables, HiddenStatesAndLogitsInFloat)
{
    const Opened cpu(folder_), card(folder_, "fp32", "cuda");
    ASSERT_TRUE(cpu.ok() && card.ok());
    EXPECT_LE(max_difference(f_.hidden(card), f_.hidden(cpu)), 1e-5 * max_abs(f_.hidden(cpu)));
    EXPECT_LE(max_difference(f_.logits(card), f_.logits(cpu)), 1e-4);
}

// What bf16 costs on a card is what it costs on the CPU, twice at most.
TEST_P(ModelTables, LogitsAndGradientsInBf16)
{
    const Opened exact(folder_), cpu(folder_, "bf16"), card(folder_, "bf16", "cuda");
    ASSERT_TRUE(exact.ok() && cpu.ok() && card.ok());
    const Floats want = f_.logits(exact);
    EXPECT_LE(max_difference(f_.logits(card), want), 2 * max_difference(f_.logits(cpu), want));
    for (model *m : {static_cast<model *>(exact), static_cast<model *>(cpu), static_cast<model *>(card)})
        ASSERT_OK(model_grads_create(m));
    const double loss = f_.step(exact), of_cpu = f_.step(cpu), of_card = f_.step(card);
    EXPECT_NEAR(of_card, loss, 2 * std::fabs(of_cpu - loss) + 1e-3 * loss);
    double cpu_far = 0, card_far = 0; /* of all, each against its own size */
    for (int64_t i = 0; i < exact->n_parameters; i++) {
        const size_t n = size_t(exact->parameters[i].rows * exact->parameters[i].cols);
        const Floats g = fetched(exact, exact->parameters[i].grad, n, DTYPE_F32),
                     by_cpu = fetched(cpu, cpu->parameters[i].grad, n, DTYPE_F32),
                     by_card = fetched(card, card->parameters[i].grad, n, DTYPE_F32);
        const double size = distance(g, Floats(n)), cpu_off = distance(by_cpu, g) / size,
                     card_off = distance(by_card, g) / size;
        if (GetParam().model == "llama3")
            EXPECT_LE(max_difference(by_card, g), 2 * max_difference(by_cpu, g) + 1e-3 * max_abs(g))
                << exact->parameters[i].name;
        else /* vectors of 16 numbers: which is the furthest off is chance */
            EXPECT_LE(card_off, 4 * cpu_off + 1e-3) << exact->parameters[i].name;
        cpu_far += cpu_off;
        card_far += card_off;
    }
    EXPECT_LE(card_far, 2 * cpu_far);
}

TEST_P(ModelTables, LossAndEveryGradientInFloat)
{
    for (bool recompute : {false, true}) {
        const Opened cpu(folder_), card(folder_, "fp32", "cuda");
        ASSERT_TRUE(cpu.ok() && card.ok());
        card->recompute = recompute;
        ASSERT_OK(model_grads_create(cpu));
        ASSERT_OK(model_grads_create(card));
        const double loss = f_.step(cpu);
        EXPECT_NEAR(f_.step(card), loss, 1e-5 * loss);
        for (int64_t i = 0; i < cpu->n_parameters; i++) {
            const size_t n = size_t(cpu->parameters[i].rows * cpu->parameters[i].cols);
            const Floats want = fetched(cpu, cpu->parameters[i].grad, n, DTYPE_F32);
            EXPECT_LE(max_difference(fetched(card, card->parameters[i].grad, n, DTYPE_F32), want),
                      1e-5 * max_abs(want))
                << cpu->parameters[i].name;
        }
    }
}

TEST_P(ModelTables, AdaptersAndWhatTheyBecome)
{
    for (bool dora : {false, true}) {
        const Opened cpu(folder_), card(folder_, "fp32", "cuda");
        ASSERT_TRUE(cpu.ok() && card.ok());
        lora_options o = {};
        o.rank = 4;
        o.alpha = 8;
        o.targets = "all-linear";
        o.seed = 5;
        o.dora = dora;
        for (model *m : {static_cast<model *>(cpu), static_cast<model *>(card)})
            ASSERT_OK(model_lora_create(m, &o));
        const size_t n = size_t(cpu->lora->n_values);
        EXPECT_LE(max_difference(fetched(card, card->lora->values, n, DTYPE_F32),
                                 fetched(cpu, cpu->lora->values, n, DTYPE_F32)),
                  dora ? 1e-5 : 0);
        const double loss = f_.step(cpu);
        EXPECT_NEAR(f_.step(card), loss, 1e-5 * loss);
        const Floats want = fetched(cpu, cpu->lora->grads, n, DTYPE_F32);
        EXPECT_LE(max_difference(fetched(card, card->lora->grads, n, DTYPE_F32), want), 1e-5 * max_abs(want));
        const TempFolder out;
        ASSERT_OK(model_lora_save(card, out.path().c_str()));
        const Opened again(folder_);
        ASSERT_OK(model_lora_load(again, out.path().c_str()));
        ASSERT_OK(model_lora_merge(card));
        EXPECT_LE(max_difference(f_.logits(card), f_.logits(again)), 1e-4);
    }
}

TEST_P(ModelTables, TheSameTokens)
{
    const Opened cpu(folder_), card(folder_, "fp32", "cuda");
    ASSERT_TRUE(cpu.ok() && card.ok());
    generate_options o = {};
    o.max_tokens = 12;
    o.top_p = 1;
    o.logprobs = true;
    o.max_live = 2; // so that a place is given on
    for (float temperature : {0.0f, 0.8f}) {
        o.temperature = temperature;
        o.top_k = temperature > 0 ? 20 : 0;
        o.penalty = temperature > 0 ? 1.2f : 1;
        Floats want, found;
        EXPECT_EQ(generated_by(card, f_, o, &found), generated_by(cpu, f_, o, &want));
        EXPECT_LE(max_difference(found, want), 1e-4);
    }
}

TEST_P(ModelTables, ScoresAndBeams)
{
    const Opened cpu(folder_), card(folder_, "fp32", "cuda");
    ASSERT_TRUE(cpu.ok() && card.ok());
    const std::vector<int64_t> cu(f_.ends.begin(), f_.ends.end()), starts = {1, 3, 10};
    size_t n = 0;
    for (size_t i = 0; i < starts.size(); i++)
        n += size_t(cu[i + 1] - cu[i] - starts[i]);
    Floats want(n), found(n);
    ASSERT_OK(model_score(cpu, f_.ids.data(), cu.data(), starts.data(), 3, want.data(), nullptr));
    ASSERT_OK(model_score(card, f_.ids.data(), cu.data(), starts.data(), 3, found.data(), nullptr));
    EXPECT_LE(max_difference(found, want), 1e-4);

    const Ints a = {5, 9, 11}, b = {5, 9, 30}, c = {7, 2}, d = {64, 8, 8, 8};
    const int32_t *const sequences[] = {a.data(), b.data(), c.data(), d.data()};
    const int32_t lengths[] = {3, 3, 2, 4};
    trie *t = nullptr;
    ASSERT_OK(trie_create(sequences, lengths, 4, &t));
    beam_result best[2][3];
    int64_t n_best[2] = {0, 0};
    int at = 0;
    for (model *m : {static_cast<model *>(cpu), static_cast<model *>(card)}) {
        EXPECT_OK(generate_beam(m, f_.ids.data(), 13, t, nullptr, 3, 4, 3, best[at], &n_best[at]));
        at++;
    }
    trie_free(t);
    ASSERT_EQ(n_best[0], 3);
    ASSERT_EQ(n_best[1], 3);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(best[1][i].value, best[0][i].value);
        EXPECT_NEAR(best[1][i].logprob, best[0][i].logprob, 1e-4);
    }
}

// Saved from a card, a model is the file that it came from.
TEST_P(ModelTables, AFolderOfAModelOnTheCard)
{
    const Opened card(folder_, "fp32", "cuda");
    ASSERT_TRUE(card.ok());
    const TempFolder out;
    const std::string to = out.file("model");
    ASSERT_OK(model_save(card, to.c_str(), DTYPE_F32, 0));
    const Opened again(to), before(folder_);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(f_.logits(again), f_.logits(before));
}

// Where memory is short, the sentence, and no crash.
TEST_P(ModelTables, ACardThatIsTooSmall)
{
    if (GetParam().plugin.name != "emu")
        GTEST_SKIP() << "needs the emulator, whose memory can be limited";
    setenv("EMU_MEMORY", "20000", 1);
    sc_common common = sc_common_default();
    common.device = "cuda";
    common.dtype = "fp32";
    device *d = nullptr;
    model *m = nullptr;
    EXPECT_OK(device_open(&common, &d));
    const sc_status status = model_open(folder_.c_str(), d, &m);
    unsetenv("EMU_MEMORY");
    EXPECT_EQ(status, SC_MEMORY) << sc_last_error();
    EXPECT_NE(std::string(sc_last_error()).find("card"), std::string::npos) << sc_last_error();
    model_close(m);
    device_close(d);
}
