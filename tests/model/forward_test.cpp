// The forward pass against transformers, and a batch against its sequences one by one.
#include "fixture.h"

extern "C" {
#include "model/internal.h"
}

class Forward : public testing::TestWithParam<const char *>
{
};

TEST_P(Forward, HiddenStatesAndLogitsAreThoseOfTransformers)
{
    const std::string folder = tiny(GetParam());
    const Opened m(folder);
    ASSERT_TRUE(m.ok());
    const Expected e(folder);
    const Ints ids = e.ints("ids");
    const auto dim = static_cast<size_t>(m->config.dim);
    EXPECT_EQ(forward(m, ids, fixture_ends(), 0), e.floats("hidden.0"));
    EXPECT_GE(least_cosine(forward(m, ids, fixture_ends(), 1), e.floats("hidden.1"), dim), 0.99999);
    EXPECT_GE(least_cosine(forward(m, ids, fixture_ends()), e.floats("hidden"), dim), 0.99999);
    EXPECT_LE(max_difference(forward(m, ids, fixture_ends()), e.floats("hidden")), 1e-4);
    EXPECT_LE(max_difference(logits_of(m, ids, fixture_ends()), e.floats("logits")), 1e-4);
}

TEST_P(Forward, ABatchIsItsSequencesOneByOne)
{
    const std::string folder = tiny(GetParam());
    const Opened m(folder);
    ASSERT_TRUE(m.ok());
    const Ints ids = Expected(folder).ints("ids"), ends = fixture_ends();
    const Floats packed = logits_of(m, ids, ends);
    for (size_t s = 0; s + 1 < ends.size(); s++) {
        const Ints one(ids.begin() + ends[s], ids.begin() + ends[s + 1]);
        const Floats alone = logits_of(m, one, {0, static_cast<int32_t>(one.size())});
        EXPECT_LE(max_difference(alone.data(), packed.data() + ends[s] * m->config.vocab_size, alone.size()),
                  1e-4)
            << "sequence " << s;
    }
}

TEST_P(Forward, TheSameBatchGivesTheSameBytes)
{
    const std::string folder = tiny(GetParam());
    const Opened m(folder);
    ASSERT_TRUE(m.ok());
    const Ints ids = Expected(folder).ints("ids");
    const Floats first = logits_of(m, ids, fixture_ends());
    logits_of(m, {5, 6, 7}, {0, 3});
    EXPECT_EQ(logits_of(m, ids, fixture_ends()), first);
}

INSTANTIATE_TEST_SUITE_P(Tiny, Forward, testing::ValuesIn(kTinyModels),
                         [](const auto &one) { return std::string(one.param); });

TEST(ForwardBf16, StaysNearTheFloatModel)
{
    for (const char *name : kTinyModels) {
        const Opened exact(tiny(name)), rounded(tiny(name), "bf16");
        ASSERT_TRUE(exact.ok() && rounded.ok());
        ASSERT_EQ(rounded->dtype, DTYPE_BF16);
        const Ints ids = Expected(tiny(name)).ints("ids");
        const Floats a = forward(exact, ids, fixture_ends()), b = forward(rounded, ids, fixture_ends());
        EXPECT_GE(least_cosine(a, b, static_cast<size_t>(exact->config.dim)), 0.99) << name;
        EXPECT_GT(max_difference(a, b), 0) << "nothing was rounded";
    }
}

// As transformers rounds it: sqrt(dim) first, then the product.
TEST(ForwardBf16, EmbeddingsAreScaledByARoundedRoot)
{
    const Opened m(tiny("gemma2"), "bf16"), exact(tiny("gemma2"));
    ASSERT_TRUE(m.ok() && exact.ok());
    for (model *one : {static_cast<model *>(m), static_cast<model *>(exact)})
        one->config.dim = 12; // whose root is no number of either type
    const float root = std::sqrt(12.0f);
    EXPECT_EQ(embedding_scale(exact), root);
    EXPECT_EQ(embedding_scale(m), bf16_to_f32(f32_to_bf16(root)));
    EXPECT_NE(embedding_scale(m), root);
}

TEST(ForwardErrors, BadBatchesAreNamed)
{
    const Opened m(tiny("tied"));
    ASSERT_TRUE(m.ok());
    void *hidden = nullptr;
    const Ints ends = {0, 2};
    for (int32_t bad : {-1, 128}) {
        const Ints ids = {5, bad};
        const packed_batch b = batch_of(ids, ends);
        EXPECT_EQ(model_forward(m, &b, -1, &hidden), SC_BAD_INPUT);
        EXPECT_NE(std::string(sc_last_error()).find("Token id " + std::to_string(bad)), std::string::npos);
    }
    const Ints good = {5, 6};
    const packed_batch b = batch_of(good, ends);
    EXPECT_EQ(model_forward(m, &b, 4, &hidden), SC_USAGE);
    EXPECT_EQ(model_forward(m, &b, -2, &hidden), SC_USAGE);
    const Ints hollow = {0, 2, 2};
    const packed_batch empty_sequence = batch_of(good, hollow);
    EXPECT_EQ(model_forward(m, &empty_sequence, -1, &hidden), SC_INTERNAL);
    const Ints longer(257, 5), all = {0, 257};
    const packed_batch too_long = batch_of(longer, all);
    EXPECT_EQ(model_forward(m, &too_long, -1, &hidden), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("256 positions"), std::string::npos) << sc_last_error();
}
