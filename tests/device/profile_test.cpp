// The table that measures: it computes what the CPU's does, and counts what was asked of it.
#include "fixture.h"

extern "C" {
#include "device/profile.h"
}

namespace
{

const profile_entry &entry(profile_family f)
{
    return profile_entries()[f];
}

TEST(Profile, EveryOperationOfModelsIsForwarded)
{
    const ops *table = profile_ops(100, 10);
    device d = {};
    d.ops = table;
    EXPECT_OK(device_runs_models(&d));
    const auto *own = reinterpret_cast<void (*const *)(void)>(table);
    const auto *cpu = reinterpret_cast<void (*const *)(void)>(cpu_ops());
    size_t timed = 0;
    for (size_t i = 1; i < sizeof(ops) / sizeof(void *); i++) {
        EXPECT_EQ(own[i] == nullptr, cpu[i] == nullptr) << i;
        timed += own[i] != cpu[i];
    }
    EXPECT_EQ(timed, 33u) << "upload to gather_logprobs";
}

TEST(Profile, CountsCallsOperationsAndBytes)
{
    const ops *table = profile_ops(100, 10);
    const int64_t m = 70, n = 24, k = 40;
    std::vector<float> a(m * k, 0.5f), b(n * k, 0.25f), c(m * n, -1), want(m * n, -2);
    for (int i = 0; i < 3; i++)
        ASSERT_OK(table->gemm(nullptr, false, true, m, n, k, 1, a.data(), DTYPE_F32, k, b.data(), DTYPE_F32,
                              k, 0, c.data(), DTYPE_F32, n));
    ASSERT_OK(cpu_ops()->gemm(nullptr, false, true, m, n, k, 1, a.data(), DTYPE_F32, k, b.data(), DTYPE_F32,
                              k, 0, want.data(), DTYPE_F32, n));
    EXPECT_EQ(c, want);
    EXPECT_STREQ(entry(PROFILE_GEMM).name, "gemm");
    EXPECT_EQ(entry(PROFILE_GEMM).calls, 3);
    EXPECT_EQ(entry(PROFILE_GEMM).operations, 3.0 * 2 * m * n * k);
    EXPECT_EQ(entry(PROFILE_GEMM).bytes, 3.0 * 4 * (m * k + n * k + m * n));
    EXPECT_GT(entry(PROFILE_GEMM).seconds, 0);
    // each call has its own floor: this one's is the bytes at 1e10 a second
    const double bytes_floor = 4e-10 * (m * k + n * k + m * n), rate_floor = 2e-11 * m * n * k;
    EXPECT_LT(rate_floor, bytes_floor);
    EXPECT_NEAR(entry(PROFILE_GEMM).floor, 3 * bytes_floor, 1e-15);
    profile_ops(1, 10); // a slower machine: there it is the operations at 1e9
    ASSERT_OK(table->gemm(nullptr, false, true, m, n, k, 1, a.data(), DTYPE_F32, k, b.data(), DTYPE_F32, k, 0,
                          c.data(), DTYPE_F32, n));
    EXPECT_NEAR(entry(PROFILE_GEMM).floor, 100 * rate_floor, 1e-12);
    ASSERT_OK(table->add(nullptr, c.data(), DTYPE_F32, want.data(), DTYPE_F32, 1, m * n));
    EXPECT_EQ(entry(PROFILE_TENSOR).calls, 1);
    EXPECT_EQ(entry(PROFILE_TENSOR).bytes, 3.0 * 4 * m * n);
    EXPECT_EQ(entry(PROFILE_ATTENTION).calls, 0);
    // two sequences of 5 and 3 tokens: 15 + 6 pairs
    const std::vector<int32_t> cu = {0, 5, 8};
    attention_shape shape = {};
    shape.cu_seqlens = cu.data();
    shape.n_seqs = 2;
    shape.n_tokens = 8;
    shape.max_seqlen = 5;
    shape.n_heads = 2;
    shape.n_kv_heads = 1;
    shape.head_dim = 8;
    shape.q_stride = 16;
    shape.kv_stride = 8;
    shape.scale = 1;
    std::vector<float> q(8 * 16, 0.1f), kv(8 * 8, 0.2f), out(8 * 16);
    std::vector<char> work(table->attention_forward_workspace(&shape) + 1);
    ASSERT_OK(table->attention_forward(nullptr, out.data(), nullptr, q.data(), kv.data(), kv.data(),
                                       DTYPE_F32, &shape, work.data()));
    EXPECT_EQ(entry(PROFILE_ATTENTION).operations, 4.0 * 21 * 2 * 8);
    EXPECT_EQ(entry(PROFILE_ATTENTION).bytes, 2.0 * 4 * 8 * 3 * 8);
    profile_clear();
    EXPECT_EQ(entry(PROFILE_GEMM).calls, 0);
    EXPECT_EQ(entry(PROFILE_GEMM).seconds, 0);
    EXPECT_STREQ(entry(PROFILE_GEMM).name, "gemm");
}

TEST(Profile, FailuresPassThrough)
{
    const ops *table = profile_ops(100, 10);
    float x = 0;
    EXPECT_EQ(table->gemm(nullptr, false, true, 2, 2, 2, 1, &x, DTYPE_F32, 1, &x, DTYPE_F32, 1, 0, &x,
                          DTYPE_F32, 1),
              SC_INTERNAL);
}

} // namespace
