// loss: cross-entropy over the vocabulary, and its gradient in place of the logits.
#include "fixture.h"

class Loss : public DeviceTest
{
  protected:
    // losses; logits become scale * gradient
    static Doubles twin(Doubles &logits, const std::vector<int32_t> &targets, double scale)
    {
        const size_t vocab = logits.size() / targets.size();
        Doubles losses;
        for (size_t row = 0; row < targets.size(); row++) {
            double *x = &logits[row * vocab], most = *std::max_element(x, x + vocab), total = 0;
            for (size_t i = 0; i < vocab; i++)
                total += std::exp(x[i] - most);
            losses.push_back(most + std::log(total) - x[targets[row]]);
            for (size_t i = 0; i < vocab; i++)
                x[i] = scale * (std::exp(x[i] - most) / total - (i == size_t(targets[row])));
        }
        return losses;
    }
    void check(Doubles logits, const std::vector<int32_t> &targets, float scale)
    {
        Buffer d_targets = upload_array(table, targets);
        const int64_t n = int64_t(targets.size()), vocab = int64_t(logits.size()) / n;
        Tensor x = tensor(logits), losses = floats(Doubles(targets.size(), 0));
        ASSERT_OK(table->cross_entropy(nullptr, losses.as<float>(), x.get(), type, d_targets.as<int32_t>(), n,
                                       vocab, scale, 0, false));
        EXPECT_EQ(x.values(), logits) << "the forward pass alone must leave the logits";
        Doubles forward = losses.values();
        ASSERT_OK(table->cross_entropy(nullptr, losses.as<float>(), x.get(), type, d_targets.as<int32_t>(), n,
                                       vocab, scale, 0, true));
        EXPECT_EQ(losses.values(), forward);
        Doubles gradient = logits, want = twin(gradient, targets, double(scale));
        for (size_t i = 0; i < want.size(); i++)
            EXPECT_NEAR(forward[i], want[i], 1e-5 * (1 + std::fabs(want[i]))) << i;
        expect_close(x.values(), gradient, type);
    }
};
INSTANTIATE_TEST_SUITE_P(Tables, Loss, testing::ValuesIn(settings(&ops::cross_entropy)), setting_name);

TEST_P(Loss, EqualsTheFormula)
{
    check(random(17, 1, 3.0), {5}, 1);
    check(random(3 * 17, 2, 3.0), {0, 16, 8}, 0.25f);
    check(random(5 * 49152, 3, 4.0), {0, 49151, 511, 512, 30000}, 1.0f / 3);
    check(random(2 * 513, 4), {512, 0}, -2);
    check({1.5}, {0}, 1);
}

TEST_P(Loss, ExtremeLogits)
{
    Doubles x = random(4 * 600, 5, 1000.0); // one logit takes everything
    x[100] = -INFINITY;                     // masked
    for (size_t i = 0; i < 520; i++)        // a masked beginning longer than a block
        x[600 + i] = -INFINITY;
    for (size_t i = 1200; i < 1800; i++) // all equal and large
        x[i] = 1e4 - 16;
    check(x, {3, 599, 7, 5}, 1);
}

TEST_P(Loss, GradientEqualsFiniteDifferences)
{
    Doubles x = random(2 * 9, 6);
    std::vector<int32_t> targets = {4, 8};
    auto loss = [&] {
        Doubles copy = x, losses = twin(copy, targets, 1);
        return 0.5 * (losses[0] + losses[1]);
    };
    Doubles want = gradient_of(loss, x);
    Tensor rows = tensor(x), losses = floats({0, 0});
    Buffer d_targets = upload_array(table, targets);
    ASSERT_OK(table->cross_entropy(nullptr, losses.as<float>(), rows.get(), type, d_targets.as<int32_t>(), 2,
                                   9, 0.5f, 0, true));
    expect_close(rows.values(), want, type);
}

// Refused where the host sees the targets; a card does not wait for it to look, and makes those rows NaN.
TEST_P(Loss, TargetsOutsideTheVocabulary)
{
    for (int32_t bad : {-1, 9, -100})
        for (bool backward : {false, true}) {
            Buffer targets = upload_array(table, std::vector<int32_t>{0, bad, 8});
            Tensor x = tensor(Doubles(27, 1)), losses = floats({0, 0, 0});
            const sc_status status = table->cross_entropy(nullptr, losses.as<float>(), x.get(), type,
                                                          targets.as<int32_t>(), 3, 9, 1, 0, backward);
            const Doubles found = losses.values(), logits = x.values();
            if (table == cpu_ops()) {
                EXPECT_EQ(status, SC_INTERNAL);
                EXPECT_EQ(logits, Doubles(27, 1));
                continue;
            }
            ASSERT_OK(status);
            EXPECT_TRUE(std::isfinite(found[0]) && std::isnan(found[1]) && std::isfinite(found[2])) << bad;
            for (size_t i = 0; i < logits.size(); i++)
                EXPECT_EQ(std::isnan(logits[i]), backward && i / 9 == 1) << i;
        }
}

// A NaN makes its own row's loss and gradient NaN, as on the CPU, and nobody else's.
TEST_P(Loss, NanStaysInItsRow)
{
    const size_t vocab = 1100;
    Doubles x = random(3 * vocab, 7);
    for (size_t place : {size_t(0), size_t(700), vocab - 1}) {
        Doubles broken = x;
        broken[vocab + place] = NAN;
        Tensor rows = tensor(broken), losses = floats({0, 0, 0});
        Buffer targets = upload_array(table, std::vector<int32_t>{1, 2, 3});
        ASSERT_OK(table->cross_entropy(nullptr, losses.as<float>(), rows.get(), type, targets.as<int32_t>(),
                                       3, int64_t(vocab), 1, 0, true));
        const Doubles found = losses.values(), gradient = rows.values();
        EXPECT_TRUE(std::isfinite(found[0]) && std::isnan(found[1]) && std::isfinite(found[2])) << place;
        for (size_t i = 0; i < x.size(); i++)
            ASSERT_EQ(std::isnan(gradient[i]), i / vocab == 1) << i;
    }
}

// Rows of every alignment, and more rows than blocks.
TEST_P(Loss, RowsOfAnyLengthAndNumber)
{
    for (size_t vocab : {2, 7, 8, 9, 31, 1023, 4097, 8203})
        check(random(3 * vocab, unsigned(vocab), 3.0), {0, int32_t(vocab) - 1, int32_t(vocab) / 2}, 0.5f);
    const std::vector<int32_t> targets(515, 1);
    Doubles logits = random(2 * targets.size(), 8);
    Buffer d_targets = upload_array(table, targets);
    Tensor x = tensor(logits), losses = floats(Doubles(targets.size(), 0));
    ASSERT_OK(table->cross_entropy(nullptr, losses.as<float>(), x.get(), type, d_targets.as<int32_t>(),
                                   int64_t(targets.size()), 2, 1, 0, true));
    const Doubles want = twin(logits, targets, 1);
    expect_close(losses.values(), want, DTYPE_F32);
    expect_close(x.values(), logits, type);
    Tensor none = floats({1});
    ASSERT_OK(
        table->cross_entropy(nullptr, none.as<float>(), none.get(), DTYPE_F32, nullptr, 0, 5, 1, 0, true));
}

// The gradient goes through the cap: against finite differences of the whole.
TEST_P(Loss, CappedLogits)
{
    const double cap = 3;
    for (size_t vocab : {9, 130}) {
        const std::vector<int32_t> targets = {4, int32_t(vocab) - 1};
        Doubles x = random_values(2 * vocab, 9, DTYPE_F32, 4.0);
        const auto capped = [&] {
            Doubles y = x;
            for (double &v : y)
                v = cap * std::tanh(v / cap);
            return y;
        };
        const auto loss = [&] {
            Doubles y = capped(), losses = twin(y, targets, 1);
            return 0.5 * (losses[0] + losses[1]);
        };
        const Doubles want = gradient_of(loss, x);
        Tensor logits = floats(x), losses = floats({0, 0});
        ASSERT_OK(table->cap_logits(nullptr, logits.as<float>(), int64_t(x.size()), float(cap)));
        expect_close(logits.values(), capped(), DTYPE_F32);
        Tensor rows = tensor(logits.values());
        Buffer d_targets = upload_array(table, targets);
        ASSERT_OK(table->cross_entropy(nullptr, losses.as<float>(), rows.get(), type, d_targets.as<int32_t>(),
                                       2, int64_t(vocab), 0.5f, float(cap), true));
        expect_close(rows.values(), want, type, type == DTYPE_F32 ? 1 : 8);
        EXPECT_NEAR(0.5 * (losses.values()[0] + losses.values()[1]), loss(), type == DTYPE_F32 ? 1e-5 : 2e-2);
    }
}

TEST_P(Loss, CapsOfAnyLengthFromAnyPlace)
{
    for (size_t n : {1, 3, 1024, 1030})
        for (size_t skip : {0, 1}) {
            Doubles x = random_values(n + skip, 10, DTYPE_F32, 40.0), want = x;
            for (size_t i = skip; i < want.size(); i++)
                want[i] = 30 * std::tanh(x[i] / 30);
            Tensor logits = floats(x);
            ASSERT_OK(table->cap_logits(nullptr, static_cast<float *>(logits.at(skip)), int64_t(n), 30));
            expect_close(logits.values(), want, DTYPE_F32, 0.1);
        }
    Tensor logits = floats({1, 2});
    for (float bad : {0.0f, -1.0f, NAN})
        EXPECT_EQ(table->cap_logits(nullptr, logits.as<float>(), 2, bad), SC_INTERNAL);
    ASSERT_OK(table->cap_logits(nullptr, logits.as<float>(), 0, 1));
    EXPECT_EQ(logits.values(), (Doubles{1, 2}));
}
