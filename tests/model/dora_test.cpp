// DoRA made here: where it starts, its gradients as slopes, and its merge into rounded weights.
#include "fixture.h"

namespace
{

lora_options dora_options(bool rslora = false)
{
    lora_options o = {};
    o.rank = 4;
    o.alpha = 8;
    o.targets = "all-linear";
    o.seed = 3;
    o.dora = true;
    o.rslora = rslora;
    return o;
}

// Every tensor away from where it starts, so that each has a gradient.
void shake(model *m)
{
    for (int64_t i = 0; i < m->lora->n_values; i++)
        m->lora->values[i] =
            m->lora->values[i] * (1 + 0.1f * static_cast<float>(i % 7)) + 0.01f * static_cast<float>(i % 5);
    EXPECT_OK(model_lora_refresh(m));
}

struct Batch {
    Ints ids, targets, ends = fixture_ends();
    Batch() : ids(Expected(tiny("tied")).ints("ids")), targets(Expected(tiny("tied")).ints("targets"))
    {
    }
    double step(model *m, float scale) const
    {
        const packed_batch b = batch_of(ids, ends);
        double loss = 0;
        EXPECT_OK(model_train_step(m, &b, targets.data(), scale, &loss, nullptr));
        return loss;
    }
};

} // namespace

TEST(DoraCreate, StartsAsTheBaseModel)
{
    const Opened base(tiny("tied")), m(tiny("tied"));
    ASSERT_TRUE(base.ok() && m.ok());
    const lora_options o = dora_options(), rooted = dora_options(true);
    ASSERT_OK(model_lora_create(m, &o));
    EXPECT_FLOAT_EQ(m->lora->scaling, 2);
    EXPECT_EQ(logits_of(m, {5, 6, 7, 8}, {0, 4}), logits_of(base, {5, 6, 7, 8}, {0, 4}));
    const parameter *w = m->layers[1].linears[LINEAR_UP];
    for (int64_t r = 0; r < w->rows; r++) {
        double squares = 0;
        for (int64_t c = 0; c < w->cols; c++)
            squares += std::pow(static_cast<double>(static_cast<float *>(w->value)[r * w->cols + c]), 2);
        EXPECT_NEAR(m->lora->layers[1][LINEAR_UP].magnitude[r], std::sqrt(squares), 1e-5);
    }
    ASSERT_OK(model_lora_create(m, &rooted));
    EXPECT_FLOAT_EQ(m->lora->scaling, 4);
    EXPECT_FLOAT_EQ(m->lora->layers[2][LINEAR_DOWN].scaling, 4);
}

// The lengths are constants to the gradient, so they are not found anew while a value is moved.
TEST(DoraFinite, GradientsAreTheSlopesOfTheLoss)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    const lora_options o = dora_options(true);
    ASSERT_OK(model_lora_create(m, &o));
    shake(m);
    const Batch batch;
    batch.step(m, 1);
    for (int32_t i = 0; i < m->config.n_layers; i++)
        for (int l = 0; l < N_LINEARS; l++) {
            const lora_layer &x = m->lora->layers[i][l];
            const parameter *w = m->layers[i].linears[l];
            struct {
                float *values, *grads;
                int64_t n;
            } const parts[] = {{x.a, x.da, x.rank * w->cols},
                               {x.b, x.db, x.rank * w->rows},
                               {x.magnitude, x.dmagnitude, w->rows}};
            for (const auto &part : parts) {
                int64_t at = 0; // the steepest entry: there the loss's own rounding matters least
                for (int64_t k = 0; k < part.n; k++)
                    if (std::fabs(part.grads[k]) > std::fabs(part.grads[at]))
                        at = k;
                const float kept = part.values[at], eps = 2e-3f;
                const double grad = static_cast<double>(part.grads[at]);
                Floats grads(m->lora->grads, m->lora->grads + m->lora->n_values);
                part.values[at] = kept + eps;
                const double up = batch.step(m, 0);
                part.values[at] = kept - eps;
                const double down = batch.step(m, 0);
                part.values[at] = kept;
                std::copy(grads.begin(), grads.end(), m->lora->grads);
                EXPECT_NEAR((up - down) / (2 * static_cast<double>(eps)), grad, 2e-2 * std::fabs(grad) + 1e-2)
                    << w->name << " " << &part - parts;
            }
        }
}

TEST(DoraBf16, GradientsPointTheSameWayAndMergeIsTheAdapter)
{
    const Opened exact(tiny("tied")), rounded(tiny("tied"), "bf16");
    ASSERT_TRUE(exact.ok() && rounded.ok());
    const lora_options o = dora_options();
    const Batch batch;
    for (model *m : {static_cast<model *>(exact), static_cast<model *>(rounded)}) {
        ASSERT_OK(model_lora_create(m, &o));
        shake(m);
        batch.step(m, 1.0f / 20);
    }
    const size_t n = static_cast<size_t>(exact->lora->n_values);
    const Floats a(exact->lora->grads, exact->lora->grads + n),
        b(rounded->lora->grads, rounded->lora->grads + n);
    EXPECT_GE(least_cosine(a, b, n), 0.97);
    const Floats with = logits_of(rounded, {5, 6, 7, 8}, {0, 4});
    ASSERT_OK(model_lora_merge(rounded));
    const Floats merged = logits_of(rounded, {5, 6, 7, 8}, {0, 4});
    EXPECT_GE(least_cosine(with, merged, with.size()), 0.999);
}

TEST(DoraDevice, OneThatLacksTheOperationsIsNamed)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    ops without = *m->device->ops;
    const ops *kept = m->device->ops;
    without.dora_norm = nullptr;
    without.name = "other";
    m->device->ops = &without;
    const lora_options o = dora_options();
    EXPECT_EQ(model_lora_create(m, &o), SC_DEVICE);
    EXPECT_NE(std::string(sc_last_error()).find("DoRA"), std::string::npos) << sc_last_error();
    m->device->ops = kept;
}
