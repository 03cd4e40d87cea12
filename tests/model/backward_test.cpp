// A training step against PyTorch's gradients, against finite differences, and against itself in pieces.
#include "fixture.h"

namespace
{

struct Step {
    double loss = 0;
    Floats losses;
};

Step train_step(model *m, const Ints &ids, const Ints &ends, const Ints &targets, float scale)
{
    Step s;
    const packed_batch b = batch_of(ids, ends);
    size_t n = 0;
    for (int32_t t : targets)
        n += t >= 0;
    s.losses.resize(n);
    EXPECT_OK(model_train_step(m, &b, targets.data(), scale, &s.loss, s.losses.data()));
    return s;
}

float supervised_scale(const Ints &targets)
{
    float n = 0;
    for (int32_t t : targets)
        n += t >= 0;
    return 1 / n;
}

Floats gradient(const parameter &p)
{
    return Floats(p.grad, p.grad + p.rows * p.cols);
}

std::vector<Floats> all_gradients(const model *m)
{
    std::vector<Floats> out;
    for (int64_t i = 0; i < m->n_parameters; i++)
        out.push_back(gradient(m->parameters[i]));
    return out;
}

} // namespace

class Backward : public testing::TestWithParam<const char *>
{
};

TEST_P(Backward, LossAndEveryGradientAreThoseOfPyTorch)
{
    const std::string folder = tiny(GetParam());
    const Opened m(folder);
    ASSERT_TRUE(m.ok());
    const Expected e(folder);
    const Ints ids = e.ints("ids"), targets = e.ints("targets");
    ASSERT_OK(model_grads_create(m));
    const Step s = train_step(m, ids, fixture_ends(), targets, supervised_scale(targets));
    EXPECT_NEAR(s.loss, e.floats("loss")[0], 1e-4);
    double sum = 0;
    for (float x : s.losses)
        sum += static_cast<double>(x);
    EXPECT_DOUBLE_EQ(sum, s.loss);
    for (int64_t i = 0; i < m->n_parameters; i++) {
        const parameter &p = m->parameters[i];
        const Floats want = e.floats(std::string("grad.") + p.name);
        EXPECT_LE(max_difference(gradient(p), want), 1e-5 * max_abs(want)) << p.name;
    }
}

TEST_P(Backward, GradientsAddUpOverBatches)
{
    const std::string folder = tiny(GetParam());
    const Opened m(folder);
    ASSERT_TRUE(m.ok());
    const Expected e(folder);
    const Ints ids = e.ints("ids"), targets = e.ints("targets"), ends = fixture_ends();
    const float scale = supervised_scale(targets);
    ASSERT_OK(model_grads_create(m));
    const double whole = train_step(m, ids, ends, targets, scale).loss;
    const std::vector<Floats> want = all_gradients(m);
    ASSERT_OK(model_grads_zero(m));
    double parts = 0;
    for (size_t s = 0; s + 1 < ends.size(); s++) {
        const Ints one(ids.begin() + ends[s], ids.begin() + ends[s + 1]);
        const Ints aim(targets.begin() + ends[s], targets.begin() + ends[s + 1]);
        parts += train_step(m, one, {0, static_cast<int32_t>(one.size())}, aim, scale).loss;
    }
    EXPECT_NEAR(parts, whole, 1e-4);
    const std::vector<Floats> got = all_gradients(m);
    for (size_t i = 0; i < want.size(); i++)
        EXPECT_LE(max_difference(got[i], want[i]), 2e-5 * max_abs(want[i])) << m->parameters[i].name;
}

INSTANTIATE_TEST_SUITE_P(Tiny, Backward, testing::ValuesIn(kTinyModels),
                         [](const auto &one) { return std::string(one.param); });

TEST_P(Backward, GradientsAreTheSlopesOfTheLoss)
{
    const Opened m(tiny(GetParam()));
    ASSERT_TRUE(m.ok());
    const Expected e(tiny(GetParam()));
    const Ints ids = e.ints("ids"), targets = e.ints("targets");
    ASSERT_OK(model_grads_create(m));
    train_step(m, ids, fixture_ends(), targets, 1);
    const std::vector<Floats> grads = all_gradients(m);
    for (int64_t i = 0; i < m->n_parameters; i++) {
        float *values = static_cast<float *>(m->parameters[i].value);
        size_t at = 0; /* the steepest entry: there the loss's own rounding matters least */
        for (size_t k = 0; k < grads[static_cast<size_t>(i)].size(); k++)
            if (std::fabs(grads[static_cast<size_t>(i)][k]) > std::fabs(grads[static_cast<size_t>(i)][at]))
                at = k;
        const float kept = values[at], eps = 2e-3f;
        values[at] = kept + eps;
        const double up = train_step(m, ids, fixture_ends(), targets, 0).loss;
        values[at] = kept - eps;
        const double down = train_step(m, ids, fixture_ends(), targets, 0).loss;
        values[at] = kept;
        const double slope = (up - down) / (2 * static_cast<double>(eps));
        const double grad = static_cast<double>(grads[static_cast<size_t>(i)][at]);
        EXPECT_NEAR(slope, grad, 2e-2 * std::fabs(grad) + 1e-2) << m->parameters[i].name;
    }
}

TEST(BackwardRows, OnlySupervisedRowsCount)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    const Ints ids = {5, 9, 17, 33, 65};
    ASSERT_OK(model_grads_create(m));
    const Step none = train_step(m, ids, {0, 5}, {-1, -1, -1, -1, -1}, 1);
    EXPECT_EQ(none.loss, 0);
    for (const Floats &g : all_gradients(m))
        EXPECT_EQ(max_abs(g), 0);
    /* what follows the only supervised row cannot matter */
    const Step a = train_step(m, ids, {0, 5}, {-1, 17, -1, -1, -1}, 1);
    const Step b = train_step(m, {5, 9, 100, 101, 102}, {0, 5}, {-1, 17, -1, -1, -1}, 1);
    EXPECT_EQ(a.losses, b.losses);
}

TEST(BackwardRows, ThePaddingTokenLearnsNothingAsAnInput)
{
    const TempFolder folder;
    copy_tiny("untied", folder.path());
    std::string config = read_text(folder.file("config.json"));
    const std::string none = "\"pad_token_id\": null";
    config.replace(config.find(none), none.size(), "\"pad_token_id\": 17");
    write_text(folder.file("config.json"), config);
    const Ints ids = {5, 17, 9, 17, 33}, targets = {17, 9, 17, 33, 65};
    std::vector<Floats> grads;
    for (const std::string &path : {tiny("untied"), folder.path()}) {
        const Opened m(path);
        ASSERT_TRUE(m.ok());
        ASSERT_OK(model_grads_create(m));
        train_step(m, ids, {0, 5}, targets, 1);
        EXPECT_EQ(std::string(m->embedding->name), "model.embed_tokens.weight");
        grads.push_back(gradient(*m->embedding));
        grads.push_back(gradient(*m->head));
    }
    const size_t dim = grads[0].size() / 128;
    Floats want = grads[0];
    const auto row = want.begin() + static_cast<std::ptrdiff_t>(17 * dim);
    EXPECT_GT(max_abs(Floats(row, row + static_cast<std::ptrdiff_t>(dim))), 0);
    std::fill(row, row + static_cast<std::ptrdiff_t>(dim), 0.0f);
    EXPECT_EQ(grads[2], want);
    EXPECT_EQ(grads[3], grads[1]) << "as an output it learns like any other";
}

TEST(BackwardRows, MoreRowsThanOneChunkOfLogits)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    Ints ids, ends = {0}, targets;
    for (int s = 0; s < 4; s++) {
        for (int i = 0; i < 150; i++) {
            ids.push_back((s * 31 + i * 7) % 128);
            targets.push_back((s * 17 + i * 5) % 128);
        }
        ends.push_back(static_cast<int32_t>(ids.size()));
    }
    ASSERT_OK(model_grads_create(m));
    const Step whole = train_step(m, ids, ends, targets, 1.0f / 600);
    const std::vector<Floats> want = all_gradients(m);
    ASSERT_OK(model_grads_zero(m));
    double parts = 0;
    for (size_t s = 0; s < 4; s++) {
        const Ints one(ids.begin() + ends[s], ids.begin() + ends[s + 1]);
        const Ints aim(targets.begin() + ends[s], targets.begin() + ends[s + 1]);
        parts += train_step(m, one, {0, 150}, aim, 1.0f / 600).loss;
    }
    EXPECT_NEAR(parts, whole.loss, 1e-3);
    const std::vector<Floats> got = all_gradients(m);
    for (size_t i = 0; i < want.size(); i++)
        EXPECT_LE(max_difference(got[i], want[i]), 1e-4 * max_abs(want[i])) << m->parameters[i].name;
}

TEST(BackwardErrors, ATargetOutsideTheVocabularyIsNamed)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    const Ints ids = {5, 9}, ends = {0, 2}, targets = {128, -1};
    const packed_batch b = batch_of(ids, ends);
    double loss = 0;
    EXPECT_EQ(model_train_step(m, &b, targets.data(), 1, &loss, nullptr), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("128"), std::string::npos);
}

TEST(BackwardBf16, GradientsPointTheSameWay)
{
    for (const char *name : {"tied", "qwen2", "qwen3", "gemma2", "gemma3"}) {
        const Opened exact(tiny(name)), rounded(tiny(name), "bf16");
        ASSERT_TRUE(exact.ok() && rounded.ok());
        const Expected e(tiny(name));
        const Ints ids = e.ints("ids"), targets = e.ints("targets");
        for (model *m : {static_cast<model *>(exact), static_cast<model *>(rounded)}) {
            ASSERT_OK(model_grads_create(m));
            train_step(m, ids, fixture_ends(), targets, supervised_scale(targets));
        }
        for (int64_t i = 0; i < exact->n_parameters; i++) {
            const Floats a = gradient(exact->parameters[i]), b = gradient(rounded->parameters[i]);
            EXPECT_GE(least_cosine(a, b, a.size()), 0.97) << name << " " << exact->parameters[i].name;
        }
    }
}

// Every byte: the same operations on the same numbers, only later.
TEST(BackwardRecompute, GivesTheSameBits)
{
    for (const char *kind : {"full", "lora", "dora"})
        for (const auto &[name, type] : {std::pair{"tied", "fp32"},
                                         {"tied", "bf16"},
                                         {"qwen2", "fp32"},
                                         {"qwen3", "bf16"},
                                         {"gemma2", "fp32"},
                                         {"gemma2", "bf16"},
                                         {"gemma3", "bf16"}}) {
            const Opened m(tiny(name), type);
            ASSERT_TRUE(m.ok());
            const Expected e(tiny(name));
            const Ints ids = e.ints("ids"), targets = e.ints("targets");
            lora_options o = {};
            o.rank = 4;
            o.alpha = 8;
            o.dropout = 0.2;
            o.dora = std::string(kind) == "dora";
            ASSERT_OK(std::string(kind) == "full" ? model_grads_create(m) : model_lora_create(m, &o));
            std::vector<uint64_t> keys(ids.size());
            for (size_t i = 0; i < keys.size(); i++)
                keys[i] = i;
            packed_batch b = batch_of(ids, fixture_ends());
            const Ints ends = fixture_ends();
            b.cu_seqlens = ends.data();
            b.row_keys = keys.data();
            double losses[2] = {0, 0};
            std::vector<Floats> grads[2];
            for (int pass : {0, 1}) {
                m->recompute = pass == 1;
                ASSERT_OK(model_grads_zero(m));
                ASSERT_OK(model_train_step(m, &b, targets.data(), 0.1f, &losses[pass], nullptr));
                if (m->lora != nullptr)
                    grads[pass].emplace_back(m->lora->grads, m->lora->grads + m->lora->n_values);
                else
                    grads[pass] = all_gradients(m);
                EXPECT_GT(max_abs(grads[pass].back()), 0);
            }
            EXPECT_EQ(losses[0], losses[1]) << kind << " " << name << " " << type;
            EXPECT_EQ(grads[0], grads[1]) << kind << " " << name << " " << type;
        }
}

// What one sequence is worth does not depend on what lies beside it.
TEST(BackwardRows, NoSequenceSeesAnother)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    ASSERT_OK(model_grads_create(m));
    const Ints ends = {0, 3, 6}, targets = {9, 17, -1, 65, 5, -1};
    const Step a = train_step(m, {5, 9, 17, 33, 65, 5}, ends, targets, 1);
    const Step b = train_step(m, {5, 9, 17, 80, 81, 82}, ends, targets, 1);
    EXPECT_EQ(a.losses[0], b.losses[0]);
    EXPECT_EQ(a.losses[1], b.losses[1]);
    EXPECT_NE(a.losses[2], b.losses[2]);
    const Step c = train_step(m, {33, 65, 5, 5, 9, 17}, ends, {65, 5, -1, 9, 17, -1}, 1); // positions restart
    EXPECT_NEAR(c.losses[2], a.losses[0], 1e-6);
    EXPECT_NEAR(c.losses[0], a.losses[2], 1e-6);
}

TEST(ModelLoss, IsTheLossOfTraining)
{
    for (const char *type : {"fp32", "bf16"}) {
        const Opened m(tiny("tied"), type);
        ASSERT_TRUE(m.ok());
        Ints ids, targets, ends = {0};
        for (int i = 0; i < 700; i++) { // several chunks of the head
            ids.push_back(i * 31 % 128);
            targets.push_back(i % 100 == 99 ? -1 : i * 31 % 128);
            if (i % 100 == 99)
                ends.push_back(i + 1);
        }
        ASSERT_OK(model_grads_create(m));
        const Step s = train_step(m, ids, ends, targets, 1);
        const packed_batch b = batch_of(ids, ends);
        Floats losses(s.losses.size());
        double loss = 0;
        ASSERT_OK(model_loss(m, &b, targets.data(), &loss, losses.data()));
        EXPECT_NEAR(loss, s.loss, std::string(type) == "fp32" ? 1e-3 : 1);
        EXPECT_LE(max_difference(losses, s.losses), std::string(type) == "fp32" ? 1e-5 : 0.05);
        const Ints none(ids.size(), -1);
        ASSERT_OK(model_loss(m, &b, none.data(), &loss, nullptr));
        EXPECT_EQ(loss, 0);
    }
}
