// Products that the kernels' table leaves to cuBLASLt: the emulated table, with a library that stands in for it (fake.cpp).
// Its own program, for a process opens the library once.
#include "device/fixture.h"
#include "fake.h"

namespace
{

FakeCublasLt &fake()
{
    static FakeCublasLt *found =
        static_cast<FakeCublasLt *>(dlsym(dlopen(SC_FAKE_CUBLASLT, RTLD_NOW | RTLD_LOCAL), "fake_cublaslt"));
    return *found;
}

class CublasLt : public testing::Test
{
  protected:
    static void SetUpTestSuite()
    {
        setenv("SEEDCORN_CUBLASLT", SC_FAKE_CUBLASLT, 1);
        emulated = table_of(SC_EMU_LIBRARY);
        ASSERT_TRUE(emulated) << sc_last_error();
    }
    void SetUp() override
    {
        fake().refuses = false;
    }

    // op(A) op(B), with matrices that begin `offset` elements into their memory, is what it should be.
    static void check(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, dtype type, dtype c_type,
                      size_t offset = 0)
    {
        const Doubles a = random_values(offset + size_t(m * k), 1, type),
                      b = random_values(offset + size_t(n * k), 2, type);
        Doubles want = random_values(offset + size_t(m * n), 3, c_type);
        const Tensor da(emulated, type, a), db(emulated, type, b), dc(emulated, c_type, want);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t q = 0; q < k; q++)
                    sum += a[offset + size_t(trans_a ? q * m + i : i * k + q)] *
                           b[offset + size_t(trans_b ? j * k + q : q * n + j)];
                double &x = want[offset + size_t(i * n + j)];
                x = 2 * sum - 0.5 * x;
            }
        const auto from = [&](const Tensor &t, dtype of) { return t.as<char>() + offset * dtype_size(of); };
        ASSERT_OK(
            emulated->synchronise(nullptr)); // the stand-in multiplies at once, beside the emulated streams
        ASSERT_OK(emulated->gemm(nullptr, trans_a, trans_b, m, n, k, 2, from(da, type), type, trans_a ? m : k,
                                 from(db, type), type, trans_b ? k : n, -0.5, from(dc, c_type), c_type, n));
        expect_close(dc.values(), want, c_type);
    }

    static const ops *emulated;
};
const ops *CublasLt::emulated;

TEST_F(CublasLt, MultipliesInEveryOrientation)
{
    for (bool trans_a : {false, true})
        for (bool trans_b : {false, true}) {
            const int before = fake().multiplied;
            check(trans_a, trans_b, 18, 5, 7, DTYPE_F32, DTYPE_F32);
            check(trans_a, trans_b, 18, 5, 7, DTYPE_BF16, DTYPE_BF16);
            check(trans_a, trans_b, 18, 5, 7, DTYPE_BF16, DTYPE_F32);
            EXPECT_EQ(fake().multiplied, before + 3);
        }
    EXPECT_STREQ(emulated->gemm_library(), SC_FAKE_CUBLASLT);
}

TEST_F(CublasLt, AsksOnceForAShape)
{
    const int asked = fake().asked, multiplied = fake().multiplied;
    for (int i = 0; i < 3; i++)
        check(false, true, 20, 9, 16, DTYPE_BF16, DTYPE_BF16);
    EXPECT_EQ(fake().asked, asked + 1);
    EXPECT_EQ(fake().multiplied, multiplied + 3);
    check(false, true, 20, 9, 16, DTYPE_BF16, DTYPE_F32);
    check(false, true, 21, 9, 16, DTYPE_BF16, DTYPE_BF16);
    EXPECT_EQ(fake().asked, asked + 3);
}

// The library reads 16 bytes at once only where it may.
TEST_F(CublasLt, TellsHowAddressesAreAligned)
{
    const int asked = fake().asked;
    check(false, false, 22, 9, 16, DTYPE_BF16, DTYPE_F32, 1);
    EXPECT_EQ(fake().asked, asked + 1);
    EXPECT_EQ(fake().alignment[0], 2u);
    EXPECT_EQ(fake().alignment[1], 2u);
    EXPECT_EQ(fake().alignment[2], 4u);
    EXPECT_EQ(fake().alignment[3], 4u);
    check(false, false, 22, 9, 16, DTYPE_BF16, DTYPE_F32, 8);
    EXPECT_EQ(fake().asked, asked + 2);
    EXPECT_EQ(fake().alignment[0], 16u);
    EXPECT_EQ(fake().alignment[2], 32u);
}

TEST_F(CublasLt, WhatItRefusesIsDoneByKernels)
{
    const int asked = fake().asked, multiplied = fake().multiplied;
    fake().refuses = true;
    for (int i = 0; i < 2; i++)
        check(true, false, 23, 9, 16, DTYPE_BF16, DTYPE_BF16);
    EXPECT_EQ(fake().asked, asked + 1);
    EXPECT_EQ(fake().multiplied, multiplied);
}

TEST_F(CublasLt, IsNotAskedForFewRowsOfBf16)
{
    const int asked = fake().asked;
    check(false, true, 16, 9, 16, DTYPE_BF16, DTYPE_BF16);
    EXPECT_EQ(fake().asked, asked);
    check(false, false, 16, 9, 16, DTYPE_BF16, DTYPE_BF16);
    EXPECT_EQ(fake().asked, asked + 1);
}

// More shapes than are kept, twice over: the oldest go, with all that belongs to them.
TEST_F(CublasLt, KeepsWhatWasUsedLast)
{
    const int asked = fake().asked;
    for (int round = 0; round < 2; round++)
        for (int64_t m = 30; m < 230; m++)
            check(false, true, m, 2, 8, DTYPE_BF16, DTYPE_BF16);
    EXPECT_EQ(fake().asked, asked + 400);
    check(false, true, 229, 2, 8, DTYPE_BF16, DTYPE_BF16);
    EXPECT_EQ(fake().asked, asked + 400);
    EXPECT_EQ(fake().alive, 128 * 4);
}

} // namespace
