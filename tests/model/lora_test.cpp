// Adapters: PEFT's files in and out, its logits and gradients, merging, and what is refused.
#include "fixture.h"

namespace
{

lora_options options_of(int32_t rank, const char *targets)
{
    lora_options o = {};
    o.rank = rank;
    o.alpha = 8;
    o.targets = targets;
    o.seed = 3;
    return o;
}

// Values of the adapter's tensors, by PEFT's names, from a file it wrote or we wrote.
Floats tensor(const std::string &folder, const std::string &name)
{
    safetensors *s = nullptr;
    EXPECT_OK(safetensors_open((folder + "/adapter_model.safetensors").c_str(), &s));
    std::unique_ptr<safetensors, SafetensorsClose> owner(s);
    const st_tensor *t = nullptr;
    EXPECT_OK(safetensors_need(s, name.c_str(), &t));
    Floats out;
    if (t != nullptr) {
        out.resize(static_cast<size_t>(t->n_values));
        EXPECT_OK(st_tensor_floats(t, 0, t->n_values, out.data()));
    }
    return out;
}

const char *const kQ0A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

} // namespace

// The model that an adapter belongs to.
static std::string base_folder(const std::string &adapter)
{
    return tiny(adapter == "qwen2_dora" ? "qwen2" : "tied");
}

// plain; with magnitudes, scaling by the root of the rank, ranks and alphas by pattern, targets by an expression; and with
// magnitudes beside biases
class LoraPeft : public testing::TestWithParam<const char *>
{
};
INSTANTIATE_TEST_SUITE_P(TinyLlama, LoraPeft, testing::Values("adapter", "dora", "qwen2_dora"),
                         [](const auto &one) { return std::string(one.param); });

TEST_P(LoraPeft, LogitsAreThoseOfPeft)
{
    const Opened m(base_folder(GetParam()));
    ASSERT_TRUE(m.ok());
    ASSERT_OK(model_lora_load(m, tiny(GetParam()).c_str()));
    const Expected e(tiny(GetParam()));
    EXPECT_LE(max_difference(logits_of(m, e.ints("ids"), fixture_ends()), e.floats("logits")), 1e-4);
}

TEST_P(LoraPeft, GradientsAreThoseOfPeft)
{
    const Opened m(base_folder(GetParam()));
    ASSERT_TRUE(m.ok());
    ASSERT_OK(model_lora_load(m, tiny(GetParam()).c_str()));
    const Expected e(tiny(GetParam()));
    const Ints ids = e.ints("ids"), targets = e.ints("targets"), ends = fixture_ends();
    const packed_batch b = batch_of(ids, ends);
    float n = 0;
    for (int32_t t : targets)
        n += t >= 0;
    double loss = 0, alone = 0;
    ASSERT_OK(model_train_step(m, &b, targets.data(), 1 / n, &loss, nullptr));
    EXPECT_NEAR(loss, e.floats("loss")[0], 1e-4);
    size_t compared = 0;
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int l = 0; l < N_LINEARS; l++) {
            int64_t out = 0, in = 0;
            linear_shape(&m->config, static_cast<linear>(l), &out, &in);
            std::string name = m->layers[i].linears[l]->name;
            name = "grad.base_model.model." + name.substr(0, name.size() - strlen("weight"));
            const lora_layer &x = m->lora->layers[i][l];
            EXPECT_EQ(m->layers[i].linears[l]->grad, nullptr) << "a frozen weight has a gradient";
            if (x.rank == 0)
                continue;
            const Floats a = e.floats(name + "lora_A.weight"), wb = e.floats(name + "lora_B.weight");
            EXPECT_LE(max_difference(Floats(x.da, x.da + x.rank * in), a), 1e-5 * max_abs(a)) << name;
            EXPECT_LE(max_difference(Floats(x.db, x.db + out * x.rank), wb), 1e-5 * max_abs(wb)) << name;
            compared++;
            if (x.magnitude == nullptr)
                continue;
            const Floats dm = e.floats(name + "lora_magnitude_vector");
            EXPECT_LE(max_difference(Floats(x.dmagnitude, x.dmagnitude + out), dm), 1e-5 * max_abs(dm))
                << name;
        }
    const std::string name = GetParam();
    EXPECT_EQ(compared, name == "adapter" ? 21u : name == "dora" ? 18u : 6u);
    ASSERT_OK(model_loss(m, &b, targets.data(), &alone, nullptr));
    EXPECT_NEAR(alone, loss, 1e-4);
}

TEST_P(LoraPeft, MergedIsTheAdapter)
{
    const Opened m(base_folder(GetParam()));
    ASSERT_TRUE(m.ok());
    ASSERT_OK(model_lora_load(m, tiny(GetParam()).c_str()));
    const Ints ids = Expected(tiny(GetParam())).ints("ids");
    const Floats with = logits_of(m, ids, fixture_ends());
    ASSERT_OK(model_lora_merge(m));
    EXPECT_EQ(m->lora, nullptr);
    EXPECT_LE(max_difference(logits_of(m, ids, fixture_ends()), with), 1e-4);
    const Opened base(base_folder(GetParam()));
    EXPECT_GT(max_difference(logits_of(base, ids, fixture_ends()), with), 0.1) << "the adapter does nothing";
}

TEST_P(LoraPeft, SavedSaysTheSame)
{
    const Opened m(base_folder(GetParam())), again(base_folder(GetParam()));
    ASSERT_TRUE(m.ok() && again.ok());
    const TempFolder t;
    ASSERT_OK(model_lora_load(m, tiny(GetParam()).c_str()));
    ASSERT_OK(model_lora_save(m, t.path().c_str()));
    ASSERT_OK(model_lora_load(again, t.path().c_str()));
    EXPECT_EQ(again->lora->rslora, m->lora->rslora);
    EXPECT_EQ(again->lora->dora, m->lora->dora);
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int l = 0; l < N_LINEARS; l++) {
            EXPECT_EQ(again->lora->layers[i][l].rank, m->lora->layers[i][l].rank) << i << " " << l;
            EXPECT_EQ(again->lora->layers[i][l].scaling, m->lora->layers[i][l].scaling) << i << " " << l;
        }
    EXPECT_EQ(logits_of(again, {5, 6, 7}, {0, 3}), logits_of(m, {5, 6, 7}, {0, 3}));
}

TEST(LoraFiles, SavedIsWhatWasLoaded)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    const TempFolder t;
    ASSERT_OK(model_lora_load(m, tiny("adapter").c_str()));
    EXPECT_EQ(m->lora->rank, 4);
    EXPECT_FLOAT_EQ(m->lora->scaling, 1.5f);
    ASSERT_OK(model_lora_save(m, t.path().c_str()));
    EXPECT_EQ(tensor(t.path(), kQ0A), tensor(tiny("adapter"), kQ0A));
    const char *const last = "base_model.model.model.layers.2.mlp.down_proj.lora_B.weight";
    EXPECT_EQ(tensor(t.path(), last), tensor(tiny("adapter"), last));
    const std::string config = read_text(t.file("adapter_config.json"));
    for (const char *part :
         {"\"peft_type\": \"LORA\"", "\"r\": 4", "\"lora_alpha\": 6", "\"bias\": \"none\"",
          "\"task_type\": \"CAUSAL_LM\"", "\"fan_in_fan_out\": false", "base_model_name_or_path"})
        EXPECT_NE(config.find(part), std::string::npos) << part << " is not in " << config;
    const Opened again(tiny("tied"));
    ASSERT_OK(model_lora_load(again, t.path().c_str()));
    EXPECT_EQ(logits_of(again, {5, 6, 7}, {0, 3}), logits_of(m, {5, 6, 7}, {0, 3}));
}

TEST(LoraCreate, StartsAsTheBaseModelAndFollowsTheSeed)
{
    const Opened base(tiny("tied")), m(tiny("tied"));
    ASSERT_TRUE(base.ok() && m.ok());
    lora_options o = options_of(4, "all-linear");
    ASSERT_OK(model_lora_create(m, &o));
    EXPECT_FLOAT_EQ(m->lora->scaling, 2);
    EXPECT_EQ(m->lora->n_values, 3 * 4 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 48) * 3));
    const Ints ids = {5, 6, 7, 8};
    EXPECT_EQ(logits_of(m, ids, {0, 4}), logits_of(base, ids, {0, 4}));
    const Floats first(m->lora->values, m->lora->values + m->lora->n_values);
    const double bound = 1 / std::sqrt(32.0);
    const Floats a(m->lora->layers[0][0].a, m->lora->layers[0][0].a + 4 * 32);
    EXPECT_LE(max_abs(a), bound);
    EXPECT_GT(max_abs(a), 0.8 * bound);
    ASSERT_OK(model_lora_create(m, &o));
    EXPECT_EQ(Floats(m->lora->values, m->lora->values + m->lora->n_values), first);
    o.seed = 4;
    ASSERT_OK(model_lora_create(m, &o));
    EXPECT_NE(Floats(m->lora->values, m->lora->values + m->lora->n_values), first);
}

TEST(LoraCreate, TargetsAreChosenByName)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    lora_options o = options_of(2, "q_proj,v_proj");
    ASSERT_OK(model_lora_create(m, &o));
    EXPECT_EQ(m->lora->n_values, 3 * 2 * ((32 + 32) + (32 + 16)));
    EXPECT_NE(m->lora->layers[1][LINEAR_V].a, nullptr);
    EXPECT_EQ(m->lora->layers[1][LINEAR_K].a, nullptr);
    EXPECT_FALSE(m->lora->targets[LINEAR_DOWN]);
    o.targets = "layers.1.self_attn.q_proj";
    ASSERT_OK(model_lora_create(m, &o));
    EXPECT_EQ(m->lora->layers[0][LINEAR_Q].a, nullptr);
    EXPECT_NE(m->lora->layers[1][LINEAR_Q].a, nullptr);
    const TempFolder t;
    ASSERT_OK(model_lora_save(m, t.path().c_str()));
    ASSERT_OK(model_lora_load(m, t.path().c_str()));
    EXPECT_EQ(m->lora->layers[0][LINEAR_Q].a, nullptr);
}

TEST(LoraCreate, BadOptionsAreNamed)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    lora_options o = options_of(4, "q_proj,key_proj");
    EXPECT_EQ(model_lora_create(m, &o), SC_USAGE);
    EXPECT_NE(std::string(sc_last_error()).find("key_proj"), std::string::npos);
    o = options_of(0, "all-linear");
    EXPECT_EQ(model_lora_create(m, &o), SC_USAGE);
    o = options_of(4, " , ");
    EXPECT_EQ(model_lora_create(m, &o), SC_USAGE);
    o = options_of(4, "all-linear");
    o.dropout = 1;
    EXPECT_EQ(model_lora_create(m, &o), SC_USAGE);
    EXPECT_EQ(m->lora, nullptr);
}

TEST(LoraDropout, DependsOnKeysNotOnPlaces)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    ASSERT_OK(model_lora_load(m, tiny("adapter").c_str()));
    m->lora->dropout = 0.3f;
    const Ints ids = {5, 6, 7, 8, 9, 10}, targets = {6, 7, -1, 9, 10, -1}, two = {0, 3, 6}, one = {0, 3};
    std::vector<uint64_t> keys = {1, 2, 3, 4, 5, 6};
    packed_batch b = batch_of(ids, two);
    b.row_keys = keys.data();
    float both[4], alone[2];
    double loss = 0;
    ASSERT_OK(model_train_step(m, &b, targets.data(), 1, &loss, both));
    const Ints second(ids.begin() + 3, ids.end()), aim(targets.begin() + 3, targets.end());
    packed_batch c = batch_of(second, one);
    c.row_keys = keys.data() + 3;
    ASSERT_OK(model_train_step(m, &c, aim.data(), 1, &loss, alone));
    EXPECT_LE(max_difference(both + 2, alone, 2), 1e-5);
    c.step = 1;
    float later[2];
    ASSERT_OK(model_train_step(m, &c, aim.data(), 1, &loss, later));
    EXPECT_GT(max_difference(later, alone, 2), 1e-4);
}
