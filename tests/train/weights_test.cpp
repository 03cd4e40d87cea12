// The optimizer's step against its recurrences in double: decay apart from the gradient or in it, and masters.
#include "train/support.h"

extern "C" {
#include "train/weights.h"
}

namespace
{

struct Twin {
    double w, m = 0, v = 0;
    void step(double g, const adamw_options &o, bool coupled)
    {
        const double decay = static_cast<double>(o.weight_decay), rate = static_cast<double>(o.lr);
        const double beta1 = static_cast<double>(o.beta1), beta2 = static_cast<double>(o.beta2);
        g = g * static_cast<double>(o.grad_scale) + (coupled ? decay * w : 0);
        m = beta1 * m + (1 - beta1) * g;
        v = beta2 * v + (1 - beta2) * g * g;
        const double c1 = 1 - std::pow(beta1, static_cast<double>(o.step));
        const double c2 = 1 - std::pow(beta2, static_cast<double>(o.step));
        w = w * (1 - (coupled ? 0 : rate * decay)) -
            rate * (m / c1) / (std::sqrt(v / c2) + static_cast<double>(o.eps));
    }
};

double gradient_at(int64_t i, int64_t step)
{
    return std::sin(static_cast<double>(i * 7 + step * 13)) * 0.01;
}

adamw_options options_at(int64_t step)
{
    adamw_options o = {};
    o.lr = 0.01f / static_cast<float>(step);
    o.beta1 = 0.9f;
    o.beta2 = 0.99f;
    o.eps = 1e-8f;
    o.weight_decay = 0.1f;
    o.step = step;
    o.grad_scale = step == 2 ? 0.25f : 1.0f;
    return o;
}

} // namespace

TEST(Weights, StepsAreAdamsInBothForms)
{
    for (bool coupled : {false, true}) {
        const Opened m(chat_model());
        ASSERT_TRUE(m.ok());
        lora_options l = {};
        l.rank = 2;
        l.alpha = 2;
        l.targets = "q_proj";
        ASSERT_OK(model_lora_create(m, &l));
        train_weights w = {};
        ASSERT_OK(train_weights_open(m, false, &w));
        std::vector<Twin> twins;
        for (int64_t i = 0; i < m->lora->n_values; i++)
            twins.push_back({static_cast<double>(m->lora->values[i])});
        for (int64_t step = 1; step <= 4; step++) {
            const adamw_options o = options_at(step);
            for (int64_t i = 0; i < m->lora->n_values; i++) {
                m->lora->grads[i] = static_cast<float>(gradient_at(i, step));
                twins[static_cast<size_t>(i)].step(static_cast<double>(m->lora->grads[i]), o, coupled);
            }
            ASSERT_OK(train_weights_step(m, &w, &o, coupled));
        }
        double most = 0;
        for (int64_t i = 0; i < m->lora->n_values; i++)
            most = std::max(
                most, std::fabs(twins[static_cast<size_t>(i)].w - static_cast<double>(m->lora->values[i])));
        EXPECT_LT(most, 2e-6) << coupled;
        train_weights_close(m, &w);
    }
}

// Many steps too small for bf16 add up in the float masters; the model's weights are their roundings.
TEST(Weights, MastersKeepWhatBf16CannotHold)
{
    const Opened m(chat_model(), "bf16");
    ASSERT_TRUE(m.ok());
    ASSERT_OK(model_grads_create(m));
    train_weights w = {};
    ASSERT_OK(train_weights_open(m, true, &w));
    ASSERT_GT(w.n, 10u);
    std::vector<Floats> before;
    for (size_t i = 0; i < w.n; i++) {
        ASSERT_NE(w.tensors[i].weights_bf16, nullptr);
        before.emplace_back(w.tensors[i].master, w.tensors[i].master + w.tensors[i].n);
    }
    for (int64_t step = 1; step <= 50; step++) {
        adamw_options o = options_at(step);
        o.lr = 1e-5f;
        o.weight_decay = 0;
        o.grad_scale = 1;
        for (size_t i = 0; i < w.n; i++)
            for (int64_t k = 0; k < w.tensors[i].n; k++)
                w.tensors[i].grad[k] = 1;
        ASSERT_OK(train_weights_step(m, &w, &o, false));
    }
    int64_t moved = 0, rounded = 0, all = 0;
    for (size_t i = 0; i < w.n; i++)
        for (int64_t k = 0; k < w.tensors[i].n; k++) {
            const uint16_t bits = static_cast<const uint16_t *>(w.tensors[i].weights_bf16)[k];
            EXPECT_EQ(bits, f32_to_bf16(w.tensors[i].master[k]));
            EXPECT_NEAR(w.tensors[i].master[k], before[i][static_cast<size_t>(k)] - 50 * 1e-5f, 2e-5);
            moved += bits != f32_to_bf16(before[i][static_cast<size_t>(k)]);
            // a single step would have been lost
            rounded += f32_to_bf16(before[i][static_cast<size_t>(k)] - 1e-5f) !=
                       f32_to_bf16(before[i][static_cast<size_t>(k)]);
            all++;
        }
    EXPECT_GT(moved, 4 * rounded);
    EXPECT_GT(moved, all / 4);
    train_weights_close(m, &w);
}
