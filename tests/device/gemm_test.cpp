// gemm: every way to multiply gives the same product.
#include "fixture.h"

extern "C" {
#include "device/cpu/cpu.h"
}

namespace
{

struct Product {
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    double alpha, beta;
};

Product product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, int64_t pad = 0,
                double alpha = 1, double beta = 0)
{
    return {trans_a,     trans_b, m,   n, k, (trans_a ? m : k) + pad, (trans_b ? k : n) + 2 * pad,
            n + 3 * pad, alpha,   beta};
}

Doubles expected(const Product &p, const Doubles &a, const Doubles &b, const Doubles &c)
{
    Doubles out = c;
    for (int64_t i = 0; i < p.m; i++)
        for (int64_t j = 0; j < p.n; j++) {
            double total = 0;
            for (int64_t q = 0; q < p.k; q++)
                total += a[size_t(p.trans_a ? q * p.lda + i : i * p.lda + q)] *
                         b[size_t(p.trans_b ? j * p.ldb + q : q * p.ldb + j)];
            double &x = out[size_t(i * p.ldc + j)];
            x = p.alpha * total + (p.beta == 0 ? 0 : p.beta * x);
        }
    return out;
}

size_t size_a(const Product &p)
{
    return size_t((p.trans_a ? p.k : p.m) * p.lda);
}
size_t size_b(const Product &p)
{
    return size_t((p.trans_b ? p.n : p.k) * p.ldb);
}

std::vector<Product> products()
{
    std::vector<Product> all;
    for (bool trans_a : {false, true})
        for (bool trans_b : {false, true}) {
            all.push_back(product(trans_a, trans_b, 1, 1, 1));
            all.push_back(product(trans_a, trans_b, 1, 7, 3, 1));
            all.push_back(product(trans_a, trans_b, 3, 65, 577, 0));
            all.push_back(product(trans_a, trans_b, 5, 17, 33, 5, 0.5, 1));
            all.push_back(product(trans_a, trans_b, 97, 101, 259, 3, -1.25, 0.5));
            all.push_back(product(trans_a, trans_b, 192, 96, 512));
            all.push_back(product(trans_a, trans_b, 130, 16, 64, 0, 2, 1));
            all.push_back(product(trans_a, trans_b, 4, 9, 0, 0, 1, 0.5));
        }
    for (int64_t m : {1, 2, 3, 4, 5, 6, 14, 16, 17})
        all.push_back(product(false, true, m, 131, 203, 1, 1.5, m % 2));
    // a batch being decoded: depths of whole tiles, and rows of either side that end inside of one
    for (int64_t m : {5, 16, 17, 33, 100, 128})
        for (int64_t n : {1, 31, 64, 70})
            all.push_back(product(false, true, m, n, 96, n % 2, 1.5, m % 2));
    return all;
}

} // namespace

class Gemm : public DeviceTest
{
};
INSTANTIATE_TEST_SUITE_P(Tables, Gemm, testing::ValuesIn(settings(&ops::gemm)), setting_name);

TEST_P(Gemm, AllOrientationsTypesScalesAndLeadingDimensions)
{
    for (const Product &p : products())
        for (dtype b_type : {DTYPE_F32, DTYPE_BF16})
            for (dtype c_type : {DTYPE_F32, DTYPE_BF16}) {
                SCOPED_TRACE(testing::Message()
                             << p.trans_a << p.trans_b << " " << p.m << "x" << p.n << "x" << p.k << " b "
                             << b_type << " c " << c_type << " beta " << p.beta);
                Doubles a = random(size_a(p), 1), b = random_values(size_b(p), 2, b_type);
                Doubles c = random_values(size_t(p.m * p.ldc), 3, c_type);
                if (p.beta == 0) // what stood in C must not matter, not even a NaN
                    for (int64_t i = 0; i < p.m; i++)
                        for (int64_t j = 0; j < p.n; j++)
                            c[size_t(i * p.ldc + j)] = std::nan("");
                Tensor da = tensor(a), db(table, b_type, b), dc(table, c_type, c);
                ASSERT_OK(table->gemm(nullptr, p.trans_a, p.trans_b, p.m, p.n, p.k, float(p.alpha), da.get(),
                                      type, p.lda, db.get(), b_type, p.ldb, float(p.beta), dc.get(), c_type,
                                      p.ldc));
                expect_close(dc.values(), expected(p, a, b, c), c_type);
            }
}

TEST_P(Gemm, ARowAloneEqualsTheRowInABatch)
{
    const int64_t m = 40, n = 192, k = 576;
    Doubles a = random(m * k, 4), b = random(n * k, 5);
    Tensor da = tensor(a), db = tensor(b), all = floats(Doubles(m * n, 0)), one = floats(Doubles(n, 0));
    ASSERT_OK(table->gemm(nullptr, false, true, m, n, k, 1, da.get(), type, k, db.get(), type, k, 0,
                          all.get(), DTYPE_F32, n));
    Doubles batch = all.values();
    for (int64_t i : {int64_t{0}, int64_t{17}, m - 1}) {
        ASSERT_OK(table->gemm(nullptr, false, true, 1, n, k, 1,
                              da.as<char>() + size_t(i * k) * dtype_size(type), type, k, db.get(), type, k, 0,
                              one.get(), DTYPE_F32, n));
        Doubles row(batch.begin() + i * n, batch.begin() + (i + 1) * n);
        expect_close(one.values(), row, DTYPE_F32);
    }
}

TEST_P(Gemm, SameBytesTwice)
{
    const int64_t m = 300, n = 200, k = 700;
    Tensor a = tensor(random(m * k, 6)), b = tensor(random(n * k, 7));
    Tensor one = floats(Doubles(m * n, 0)), two = floats(Doubles(m * n, 1));
    for (Tensor *c : {&one, &two})
        ASSERT_OK(table->gemm(nullptr, true, false, m, n, k, 1, a.get(), type, m, b.get(), type, n, 0,
                              c->get(), DTYPE_F32, n));
    EXPECT_EQ(one.bytes(), two.bytes());
}

// What leaves the range of float becomes infinite in either type, and a NaN stays one.
TEST_P(Gemm, KeepsInfinitiesAndNaN)
{
    Tensor large = tensor(Doubles(4, 1e30)), none = tensor(Doubles(4, NAN));
    for (dtype out : {DTYPE_F32, DTYPE_BF16}) {
        Tensor c(table, out, Doubles(4, 0));
        ASSERT_OK(table->gemm(nullptr, false, true, 2, 2, 2, 1, large.get(), type, 2, large.get(), type, 2, 0,
                              c.get(), out, 2));
        EXPECT_EQ(c.values(), Doubles(4, INFINITY));
        ASSERT_OK(table->gemm(nullptr, false, true, 2, 2, 2, 1, none.get(), type, 2, large.get(), type, 2, 0,
                              c.get(), out, 2));
        for (double v : c.values())
            EXPECT_TRUE(std::isnan(v));
    }
}

TEST_P(Gemm, RefusesLeadingDimensionsThatDoNotFit)
{
    Tensor x = tensor(Doubles(64, 1)), c = floats(Doubles(64, 1));
    EXPECT_EQ(table->gemm(nullptr, false, true, 4, 4, 4, 1, x.get(), type, 3, x.get(), type, 4, 0, c.get(),
                          DTYPE_F32, 4),
              SC_INTERNAL);
    EXPECT_EQ(table->gemm(nullptr, false, false, 4, 4, 4, 1, x.get(), type, 4, x.get(), type, 3, 0, c.get(),
                          DTYPE_F32, 4),
              SC_INTERNAL);
    EXPECT_EQ(table->gemm(nullptr, false, true, 4, 4, 4, 1, x.get(), type, 4, x.get(), type, 4, 0, c.get(),
                          DTYPE_F32, 3),
              SC_INTERNAL);
}

// bf16 by bf16 has ways of its own on a card: few rows, and tiles of two sizes, each aligned and not.
class GemmBf16 : public DeviceTest
{
  protected:
    // Matrices begin `offset` elements into their memory; what lies between their rows is NaN, which must not matter.
    void check(const Product &p, dtype c_type, size_t offset = 0) const
    {
        SCOPED_TRACE(testing::Message() << p.trans_a << p.trans_b << " " << p.m << "x" << p.n << "x" << p.k
                                        << " ld " << p.lda << " " << p.ldb << " " << p.ldc << " c " << c_type
                                        << " offset " << offset << " beta " << p.beta);
        const Doubles a = matrix(size_a(p), p.trans_a ? p.m : p.k, p.lda, 1, offset);
        const Doubles b = matrix(size_b(p), p.trans_b ? p.k : p.n, p.ldb, 2, offset);
        const Doubles c = random_values(offset + size_t(p.m * p.ldc), 3, c_type);
        const Tensor da = tensor(a), db = tensor(b), dc(table, c_type, c);
        ASSERT_OK(table->gemm(nullptr, p.trans_a, p.trans_b, p.m, p.n, p.k, float(p.alpha),
                              da.as<uint16_t>() + offset, DTYPE_BF16, p.lda, db.as<uint16_t>() + offset,
                              DTYPE_BF16, p.ldb, float(p.beta), dc.as<char>() + offset * dtype_size(c_type),
                              c_type, p.ldc));
        const auto from = [&](const Doubles &x) { return Doubles(x.begin() + ptrdiff_t(offset), x.end()); };
        Doubles want = expected(p, from(a), from(b), from(c));
        want.insert(want.begin(), c.begin(), c.begin() + ptrdiff_t(offset));
        expect_close(dc.values(), want, c_type);
    }

    static Doubles matrix(size_t size, int64_t width, int64_t ld, unsigned seed, size_t offset)
    {
        Doubles x = random_values(offset + size, seed, DTYPE_BF16);
        for (size_t i = 0; i < size; i++)
            if (int64_t(i) % ld >= width)
                x[offset + i] = NAN;
        return x;
    }
};

static std::vector<Setting> bf16_settings()
{
    std::vector<Setting> all;
    for (const Setting &setting : settings(&ops::gemm))
        if (setting.type == DTYPE_BF16)
            all.push_back(setting);
    return all;
}
INSTANTIATE_TEST_SUITE_P(Tables, GemmBf16, testing::ValuesIn(bf16_settings()), setting_name);

// Around the edges of tiles and of the depth loaded at once, in every orientation.
TEST_P(GemmBf16, SmallTiles)
{
    for (bool trans_a : {false, true})
        for (bool trans_b : {false, true})
            for (int64_t pad : {0, 8, 3}) {
                check(product(trans_a, trans_b, 24, 40, 8, pad), DTYPE_F32);
                check(product(trans_a, trans_b, 64, 64, 32, pad), DTYPE_BF16);
                check(product(trans_a, trans_b, 72, 136, 104, pad, -0.5, 1.5), DTYPE_BF16);
                check(product(trans_a, trans_b, 65, 63, 33, pad, 2, -1), DTYPE_F32);
            }
}

// 18 tiles of 128 x 128, in two groups of rows, enough for the emulated card; a real one is given 162.
TEST_P(GemmBf16, LargeTiles)
{
    const int64_t n = std::string(table->name) == "cuda" ? 2184 : 136;
    for (bool trans_a : {false, true})
        for (bool trans_b : {false, true}) {
            check(product(trans_a, trans_b, 1096, n, 40, 8, 1, 0.5), DTYPE_F32);
            check(product(trans_a, trans_b, 1027, n - 7, 7, 0), DTYPE_BF16);
            check(product(trans_a, trans_b, 256, 256, 136, 1, 0.5), DTYPE_F32);
        }
}

// One matrix at a time that asynchronous copies cannot read, by its address, its rows or its depth.
TEST_P(GemmBf16, WhatIsNotAligned)
{
    for (bool trans : {false, true}) {
        check(product(trans, !trans, 48, 40, 64), DTYPE_BF16, 1);
        check(product(trans, !trans, 48, 40, 64), DTYPE_F32, 4);
        Product rows = product(trans, trans, 48, 40, 64);
        rows.lda += 4;
        check(rows, DTYPE_BF16);
        rows = product(trans, trans, 48, 40, 64);
        rows.ldb += 4;
        check(rows, DTYPE_BF16);
        rows = product(trans, trans, 48, 40, 64);
        rows.ldc += 2;
        check(rows, DTYPE_BF16);
        Product depth = product(false, true, 48, 40, 60);
        depth.lda = depth.ldb = 64;
        check(depth, DTYPE_F32);
    }
}

// Rows of a transposed weight: groups of 16 of them, runs of 128 along k, 8 runs a round.
TEST_P(GemmBf16, FewRows)
{
    for (int64_t m : {1, 2, 7, 8, 9, 15, 16, 17})
        for (int64_t n : {1, 15, 16, 17, 100}) {
            check(product(false, true, m, n, 8 * (m + n), 0, 1.5, m % 2), DTYPE_F32);
            check(product(false, true, m, n, 128 * m, 8, 1, m % 2 ? 0 : 0.5), DTYPE_BF16);
        }
    check(product(false, true, 3, 20, 2048 + 8), DTYPE_F32);
    check(product(false, true, 3, 20, 1024), DTYPE_F32, 1);
}

TEST_P(GemmBf16, ARowOfFewHasTheSameBytesAlone)
{
    const int64_t m = 12, n = 40, k = 1160;
    Tensor a = tensor(random(m * k, 4)), b = tensor(random(n * k, 5));
    Tensor all = floats(Doubles(m * n, 0)), one = floats(Doubles(n, 0));
    ASSERT_OK(table->gemm(nullptr, false, true, m, n, k, 1, a.get(), type, k, b.get(), type, k, 0, all.get(),
                          DTYPE_F32, n));
    const std::vector<float> batch = all.array<float>();
    for (int64_t i : {int64_t{0}, int64_t{7}, m - 1}) {
        ASSERT_OK(table->gemm(nullptr, false, true, 1, n, k, 1, a.as<uint16_t>() + i * k, type, k, b.get(),
                              type, k, 0, one.get(), DTYPE_F32, n));
        EXPECT_EQ(one.array<float>(), std::vector<float>(batch.begin() + i * n, batch.begin() + (i + 1) * n))
            << i;
    }
}

TEST_P(GemmBf16, SameBytesTwice)
{
    for (int64_t m : {5, 100, 520}) {
        const int64_t n = 136, k = 200;
        const Tensor a = tensor(random(m * k, 6)), b = tensor(random(n * k, 7));
        const Tensor one = tensor(Doubles(m * n, 0)), two = tensor(Doubles(m * n, 1));
        for (const Tensor *c : {&one, &two})
            ASSERT_OK(table->gemm(nullptr, false, true, m, n, k, 1, a.get(), type, k, b.get(), type, k, 0,
                                  c->get(), DTYPE_BF16, n));
        EXPECT_EQ(one.bytes(), two.bytes()) << m;
    }
}

// The ways that cpu_gemm chooses from, one by one, whatever this processor would choose.
TEST(GemmCpu, PlainPrimitiveAndSgemmAgree)
{
    int refused = 0, tried = 0;
    for (const Product &p : products()) {
        if (p.k == 0)
            continue;
        SCOPED_TRACE(testing::Message() << p.trans_a << p.trans_b << " " << p.m << "x" << p.n << "x" << p.k);
        Doubles a = random_values(size_a(p), 1), b = random_values(size_b(p), 2);
        Doubles c = random_values(size_t(p.m * p.ldc), 3), want = expected(p, a, b, c);
        Tensor da(cpu_ops(), DTYPE_F32, a), db(cpu_ops(), DTYPE_F32, b);
        {
            Tensor dc(cpu_ops(), DTYPE_F32, c);
            cpu_gemm_plain(p.trans_a, p.trans_b, p.m, p.n, p.k, float(p.alpha), da.get(), DTYPE_F32, p.lda,
                           db.get(), DTYPE_F32, p.ldb, float(p.beta), dc.get(), DTYPE_F32, p.ldc);
            expect_close(dc.values(), want, DTYPE_F32, 1, "plain");
        }
        for (int run = 0; run < 2; run++) { // the second run takes the cached primitive
            Tensor dc(cpu_ops(), DTYPE_F32, c);
            tried++;
            if (cpu_gemm_primitive(p.trans_a, p.trans_b, p.m, p.n, p.k, float(p.alpha), da.get(), p.lda,
                                   db.get(), p.ldb, DTYPE_F32, float(p.beta), dc.get(), DTYPE_F32, p.ldc))
                expect_close(dc.values(), want, DTYPE_F32, 1, "primitive");
            else
                refused++;
        }
        Tensor dc(cpu_ops(), DTYPE_F32, c);
        if (cpu_gemm_sgemm(p.trans_a, p.trans_b, p.m, p.n, p.k, float(p.alpha), da.as<float>(), p.lda,
                           db.as<float>(), p.ldb, float(p.beta), dc.as<float>(), p.ldc))
            expect_close(dc.values(), want, DTYPE_F32, 1, "sgemm");
    }
#ifdef SC_NO_ONEDNN
    EXPECT_EQ(refused, tried) << "a primitive without oneDNN";
#else
    EXPECT_LT(refused, tried) << "oneDNN offered no primitive at all";
#endif
}

// More shapes than the cache of primitives holds, twice over.
// On AMX's tiles a row's sums are the same whatever stands beside it, and among how many.
TEST(GemmCpu, ARowOnAmxDoesNotDependOnItsNeighbours)
{
    if (!cpu_has_amx()) // the function refuses to be there, and the ways above are all there are
        return;
    const int64_t n = 40, k = 1184;
    const Tensor a(cpu_ops(), DTYPE_BF16, random_values(size_t(GEMV_AMX_ROWS * k), 4, DTYPE_BF16));
    const Tensor b(cpu_ops(), DTYPE_BF16, random_values(size_t(n * k), 5, DTYPE_BF16));
    const auto rows = [&](int64_t from, int64_t m) {
        std::vector<float> c(size_t(m * n), NAN);
        EXPECT_TRUE(cpu_gemv_amx(m, n, k, 1, a.as<uint16_t>() + from * k, k, b.as<uint16_t>(), k, 0, c.data(),
                                 DTYPE_F32, n));
        return c;
    };
    const std::vector<float> all = rows(0, GEMV_AMX_ROWS);
    for (int64_t m : {1, 5, 12, 33})
        for (int64_t from : {int64_t{0}, int64_t{17}, GEMV_AMX_ROWS - m})
            EXPECT_EQ(rows(from, m), std::vector<float>(all.begin() + from * n, all.begin() + (from + m) * n))
                << m << " rows from " << from;
}

TEST(GemmCpu, PrimitivesAreEvictedAndBuiltAgain)
{
    const int64_t n = 24, k = 40;
    Doubles a = random_values(300 * k, 1), b = random_values(n * k, 2);
    Tensor da(cpu_ops(), DTYPE_F32, a), db(cpu_ops(), DTYPE_F32, b);
    for (int round = 0; round < 2; round++)
        for (int64_t m = 5; m < 300; m += 2) {
            Tensor dc(cpu_ops(), DTYPE_F32, Doubles(size_t(m * n), 0));
            if (!cpu_gemm_primitive(false, true, m, n, k, 1, da.get(), k, db.get(), k, DTYPE_F32, 0, dc.get(),
                                    DTYPE_F32, n))
                GTEST_SKIP() << "oneDNN offers no primitive on this processor";
            Doubles got = dc.values();
            double want = 0;
            for (int64_t q = 0; q < k; q++)
                want += a[size_t((m - 1) * k + q)] * b[size_t((n - 1) * k + q)];
            ASSERT_NEAR(got[size_t(m * n - 1)], want, 1e-4) << m;
        }
}
