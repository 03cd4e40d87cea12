// The emulator itself: correct kernels give the results of a float64 reference under every seed, and planted bugs are
// found. Which build finds a bug depends on the bug: some make the result wrong or are diagnosed everywhere, some are
// reports of AddressSanitizer (with UndefinedBehaviorSanitizer), some of ThreadSanitizer only. A test of the last two
// kinds exists only in that build. Reports end the process, so they are asked of a child.
#include "emu/kernels_under_test.cuh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#elif __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#endif

#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#if UNDER_TSAN
// It would wait a second for the fibers to end; and one report is enough.
extern "C" EMU_EXPORT const char *__tsan_default_options()
{
    return "atexit_sleep_ms=0:halt_on_error=1";
}
#endif

namespace
{

enum { n_seeds = 5 };

// Device memory with the contents of a vector, or unwritten.
template <class T> class Device
{
  public:
    explicit Device(size_t n) : n_(n)
    {
        EXPECT_EQ(cudaSuccess, cudaMalloc(reinterpret_cast<void **>(&memory_), n * sizeof(T)));
    }
    explicit Device(const std::vector<T> &values) : Device(values.size())
    {
        EXPECT_EQ(cudaSuccess, cudaMemcpy(memory_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice));
    }
    ~Device()
    {
        cudaFree(memory_);
    }
    Device(const Device &) = delete;
    Device &operator=(const Device &) = delete;

    operator T *() const
    {
        return memory_;
    }
    std::vector<T> values() const
    {
        std::vector<T> host(n_);
        cudaMemcpy(host.data(), memory_, n_ * sizeof(T), cudaMemcpyDeviceToHost);
        return host;
    }

  private:
    T *memory_ = nullptr;
    size_t n_;
};

template <class T> std::vector<T> normal(size_t n, unsigned seed)
{
    std::mt19937 generator(seed);
    std::normal_distribution<double> distribution;
    std::vector<T> values(n);
    for (T &x : values)
        x = static_cast<T>(distribution(generator));
    return values;
}

std::vector<__nv_bfloat16> to_bf16(const std::vector<float> &x)
{
    std::vector<__nv_bfloat16> y(x.size());
    std::transform(x.begin(), x.end(), y.begin(), [](float v) { return __float2bfloat16_rn(v); });
    return y;
}

template <class T> std::vector<double> to_double(const std::vector<T> &x)
{
    std::vector<double> y(x.size());
    std::transform(x.begin(), x.end(), y.begin(), [](T v) { return static_cast<double>(v); });
    return y;
}

std::vector<double> to_double(const std::vector<__nv_bfloat16> &x)
{
    std::vector<double> y(x.size());
    std::transform(x.begin(), x.end(), y.begin(),
                   [](__nv_bfloat16 v) { return double(__bfloat162float(v)); });
    return y;
}

// |x - y| / |y|; NaN if anything is NaN.
double relative_error(const std::vector<double> &x, const std::vector<double> &y)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < y.size(); i++) {
        difference += (x[i] - y[i]) * (x[i] - y[i]);
        norm += y[i] * y[i];
    }
    return std::sqrt(difference / norm);
}

std::vector<double> multiply(const std::vector<double> &a, const std::vector<double> &b, int m, int n, int k)
{
    std::vector<double> c(size_t(m) * n);
    for (int i = 0; i < m; i++)
        for (int l = 0; l < k; l++)
            for (int j = 0; j < n; j++)
                c[size_t(i) * n + j] += a[size_t(i) * k + l] * b[size_t(l) * n + j];
    return c;
}

std::vector<double> transpose(const std::vector<double> &a, int rows, int columns)
{
    std::vector<double> t(a.size());
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            t[size_t(j) * rows + i] = a[size_t(i) * columns + j];
    return t;
}

unsigned tiles(int n, int tile)
{
    return static_cast<unsigned>((n + tile - 1) / tile);
}

// ---- runs of the kernels; each returns how wrong the result is: NaN where a NaN came out

template <Bug bug> double run_scale_add(int n)
{
    std::vector<float> x = normal<float>(size_t(n), 1), y = normal<float>(size_t(n), 2);
    Device<float> dx(x), dy(y);
    LAUNCH(scale_add<bug>, tiles(n, 64), 64, 0, nullptr, n, 3.0f, dx, dy);
    std::vector<double> expected(x.size());
    for (size_t i = 0; i < x.size(); i++)
        expected[i] = 3.0 * x[i] + y[i];
    return relative_error(to_double(dy.values()), expected);
}

template <Bug bug> double run_scale_by_four()
{
    std::vector<float> x = normal<float>(128, 1);
    Device<float> dx(x), dy(128);
    LAUNCH(scale_by_four<bug>, 1, 32, 0, nullptr, 31, 2.0f, dx, dy);
    std::vector<double> expected(124);
    for (size_t i = 0; i < expected.size(); i++)
        expected[i] = 2.0 * x[i];
    return relative_error(to_double(dy.values()), expected);
}

template <Bug bug, class T> double run_softmax(const std::vector<T> &x, int rows, int columns)
{
    Device<T> dx(x), dy(x.size());
    LAUNCH((softmax_rows<bug, T>), tiles(rows, 4), dim3(32, 4), 0, nullptr, dx, dy, rows, columns);
    std::vector<double> values = to_double(x), expected(x.size());
    for (int r = 0; r < rows; r++) {
        const double *row = &values[size_t(r) * columns];
        double largest = *std::max_element(row, row + columns), sum = 0;
        for (int c = 0; c < columns; c++)
            sum += std::exp(row[c] - largest);
        for (int c = 0; c < columns; c++)
            expected[size_t(r) * columns + c] = std::exp(row[c] - largest) / sum;
    }
    return relative_error(to_double(dy.values()), expected);
}

template <Bug bug> double run_gemm_tiled(int m, int n, int k)
{
    std::vector<float> a = normal<float>(size_t(m) * k, 3), b = normal<float>(size_t(k) * n, 4);
    Device<float> da(a), db(b), dc(size_t(m) * n);
    LAUNCH(gemm_tiled<bug>, dim3(tiles(n, 32), tiles(m, 32)), 64, 0, nullptr, da, db, dc, m, n, k);
    return relative_error(to_double(dc.values()), multiply(to_double(a), to_double(b), m, n, k));
}

template <Bug bug> double run_gemm_bf16(int m, int n, int k)
{
    auto a = to_bf16(normal<float>(size_t(m) * k, 5)), w = to_bf16(normal<float>(size_t(n) * k, 6));
    Device<__nv_bfloat16> da(a), dw(w);
    Device<float> dc(size_t(m) * n);
    EXPECT_EQ(cudaSuccess, cudaFuncSetAttribute(gemm_bf16<bug>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                bf16_shared_bytes));
    LAUNCH(gemm_bf16<bug>, dim3(tiles(n, 64), tiles(m, 64)), 128, bf16_shared_bytes, nullptr, da, dw, dc, m,
           n, k);
    return relative_error(to_double(dc.values()),
                          multiply(to_double(a), transpose(to_double(w), n, k), m, n, k));
}

double run_gemm_bf16_trans(int m, int n, int k)
{
    auto a = to_bf16(normal<float>(size_t(m) * k, 5)), b = to_bf16(normal<float>(size_t(k) * n, 6));
    Device<__nv_bfloat16> da(a), db(b);
    Device<float> dc(size_t(m) * n);
    LAUNCH(gemm_bf16_trans, dim3(tiles(n, 16), tiles(m, 16)), 32, 0, nullptr, da, db, dc, m, n, k);
    return relative_error(to_double(dc.values()), multiply(to_double(a), to_double(b), m, n, k));
}

double run_gemm_f64(int m, int n, int k)
{
    std::vector<double> a = normal<double>(size_t(m) * k, 7), b = normal<double>(size_t(k) * n, 8);
    Device<double> da(a), db(b), dc(size_t(m) * n);
    LAUNCH(gemm_f64, dim3(tiles(n, 8), tiles(m, 8)), 32, 0, nullptr, da, db, dc, m, n, k);
    return relative_error(dc.values(), multiply(a, b, m, n, k));
}

template <Bug bug> double run_statistics(int n)
{
    std::vector<float> x = normal<float>(size_t(n), 9);
    Device<float> dx(x), largest(std::vector<float>{-INFINITY}), mean(1);
    Device<double> sum(std::vector<double>{0});
    Device<unsigned> n_done(std::vector<unsigned>{0});
    LAUNCH(statistics<bug>, 7, 64, 0, nullptr, dx, n, sum, largest, mean, n_done);
    double expected = 0;
    for (float v : x)
        expected += v;
    return relative_error({sum.values()[0], double(largest.values()[0]), double(mean.values()[0])},
                          {expected, *std::max_element(x.begin(), x.end()), expected / n});
}

template <Bug bug> double run_normalize(int n, unsigned blocks)
{
    std::vector<float> x(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); i++)
        x[i] = static_cast<float>(i % 7 + 1);
    Device<float> dx(x), dy(x.size()), partial(blocks);
    LAUNCH_COOPERATIVE(normalize<bug>, blocks, 32, 0, nullptr, dx, dy, partial, n);
    double sum = 0;
    for (float v : x)
        sum += v;
    std::vector<double> expected(x.size());
    for (size_t i = 0; i < x.size(); i++)
        expected[i] = (x[i] + (bug == Bug::none ? x[x.size() - 1 - i] : 0)) / sum;
    return relative_error(to_double(dy.values()), expected);
}

template <Bug bug> double run_reverse_warps()
{
    std::vector<float> x = normal<float>(1024, 10);
    Device<float> dx(x), dy(x.size());
    LAUNCH(reverse_warps<bug>, 8, 128, 0, nullptr, dx, dy);
    std::vector<double> expected(x.size());
    for (size_t i = 0; i < x.size(); i++)
        expected[i] = x[i / 32 * 32 + 31 - i % 32];
    return relative_error(to_double(dy.values()), expected);
}

template <Bug bug> double run_through_dynamic()
{
    std::vector<float> x = normal<float>(256, 11);
    Device<float> dx(x), dy(x.size());
    LAUNCH(through_dynamic<bug>, 2, 128, 128 * sizeof(float), nullptr, dx, dy);
    return relative_error(to_double(dy.values()), to_double(x));
}

template <Bug bug> std::vector<int> run_parted_lanes()
{
    Device<int> y(64);
    LAUNCH(parted_lanes<bug>, 1, 64, 0, nullptr, y);
    return y.values();
}

class Emulator : public testing::Test
{
  protected:
    void SetUp() override
    {
        // A child that is forked would take over ThreadSanitizer's state of many fibers: it starts afresh instead.
        testing::FLAGS_gtest_death_test_style = "threadsafe";
        emu::set_seed(0);
        cudaGetLastError();
    }
    void TearDown() override
    {
        EXPECT_EQ(cudaSuccess, cudaGetLastError()) << emu::last_diagnosis();
    }
};

template <class Body> void for_each_seed(Body body)
{
    for (uint64_t seed = 0; seed < n_seeds; seed++) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        emu::set_seed(seed);
        body();
    }
    emu::set_seed(0);
}

// ---- correct kernels

TEST_F(Emulator, RunsElementwiseKernelsWithThreadsThatExitEarly)
{
    for_each_seed([] {
        EXPECT_LT(run_scale_add<Bug::none>(1000), 1e-7);
        EXPECT_LT(run_scale_by_four<Bug::none>(), 1e-7);
    });
}

TEST_F(Emulator, RunsSoftmaxByShuffles)
{
    for_each_seed([] {
        EXPECT_LT(run_softmax<Bug::none>(normal<float>(37 * 100, 1), 37, 100), 1e-6);
        EXPECT_LT(run_softmax<Bug::none>(to_bf16(normal<float>(10 * 77, 1)), 10, 77), 4e-3);
    });
}

TEST_F(Emulator, RunsTiledProductsWithAsynchronousCopies)
{
    for_each_seed([] { EXPECT_LT(run_gemm_tiled<Bug::none>(70, 65, 37), 1e-6); });
}

TEST_F(Emulator, RunsBf16MatrixProducts)
{
    for_each_seed([] {
        EXPECT_LT(run_gemm_bf16<Bug::none>(70, 72, 104), 1e-6);
        EXPECT_LT(run_gemm_bf16_trans(21, 35, 40), 1e-6);
    });
}

TEST_F(Emulator, RunsTf32MatrixProducts)
{
    const int m = 45, n = 37, k = 29;
    std::vector<float> a = normal<float>(m * k, 3), b = normal<float>(k * n, 4);
    auto cut = [](float x, bool round) {
        uint32_t bits = __float_as_uint(x);
        return double(__uint_as_float((round ? bits + 0x1000 : bits) & ~0x1fffu));
    };
    for_each_seed([&] {
        for (bool round : {false, true}) {
            Device<float> da(a), db(b), dc(m * n);
            LAUNCH(gemm_tf32, dim3(tiles(n, 8), tiles(m, 16)), 32, 0, nullptr, da, db, dc, m, n, k, round);
            std::vector<double> a_cut, b_cut;
            for (float x : a)
                a_cut.push_back(cut(x, round));
            for (float x : b)
                b_cut.push_back(cut(x, round));
            EXPECT_LT(relative_error(to_double(dc.values()), multiply(a_cut, b_cut, m, n, k)), 1e-6);
        }
    });
}

TEST_F(Emulator, RunsFloat64MatrixProducts)
{
    for_each_seed([] { EXPECT_LT(run_gemm_f64(21, 19, 13), 1e-15); });
}

TEST_F(Emulator, RunsReductionsWithAtomics)
{
    for_each_seed([] { EXPECT_LT(run_statistics<Bug::none>(5000), 1e-6); });
}

TEST_F(Emulator, RunsCooperativeKernels)
{
    for_each_seed([] {
        EXPECT_LT(run_normalize<Bug::none>(1000, 5), 1e-6);
        EXPECT_LT(run_normalize<Bug::none>(60, 1), 1e-6);
    });
}

TEST_F(Emulator, RunsWarpsThatShareMemory)
{
    for_each_seed([] {
        EXPECT_EQ(run_reverse_warps<Bug::none>(), 0);
        EXPECT_EQ(run_through_dynamic<Bug::none>(), 0);
    });
}

// Lanes may wait for their whole warp while others of it still meet under smaller masks.
TEST_F(Emulator, RunsWarpsWhoseLanesPartAndMeetAgain)
{
    for_each_seed([] { EXPECT_EQ(run_parted_lanes<Bug::none>(), std::vector<int>(64, 36 + 4)); });
}

TEST_F(Emulator, RunsBlocksThatWaitForEachOther)
{
    for_each_seed([] {
        Device<int> data(6), flags(std::vector<int>(6, 0)), y(6);
        LAUNCH_COOPERATIVE(chain, 6, 1, 0, nullptr, data, flags, y);
        EXPECT_EQ(y.values(), (std::vector<int>{15, 15, 14, 12, 9, 5}));
    });
}

TEST_F(Emulator, ShufflesAndVotesAsCudaDoes)
{
    for_each_seed([] {
        Device<double> y(8 * 32);
        LAUNCH(shuffles, 1, 32, 0, nullptr, y);
        std::vector<double> v = y.values();
        for (int lane = 0; lane < 32; lane++) {
            EXPECT_EQ(v[0 * 32 + lane], (lane + 5) % 32 + 0.5);
            EXPECT_EQ(v[1 * 32 + lane], (lane < 3 ? lane : lane - 3) + 0.5);
            EXPECT_EQ(v[2 * 32 + lane], (lane % 8 + 3 < 8 ? lane + 3 : lane) + 0.5);
            EXPECT_EQ(v[3 * 32 + lane], std::ldexp(1.0, 40) + (lane ^ 1));
            EXPECT_EQ(v[4 * 32 + lane], lane / 16 * 16 + 2.5);
            EXPECT_EQ(v[5 * 32 + lane], 11);
            EXPECT_EQ(v[6 * 32 + lane], 1);
            EXPECT_EQ(v[7 * 32 + lane], 107);
        }
    });
}

TEST_F(Emulator, RoundsToTf32AsTheCardDoes)
{
    EXPECT_EQ(to_tf32(1.0f), 0x3f800000u);
    EXPECT_EQ(to_tf32(__uint_as_float(0x3f801000u)), 0x3f802000u); // a tie goes away from zero
    EXPECT_EQ(to_tf32(__uint_as_float(0xbf801000u)), 0xbf802000u);
    EXPECT_EQ(to_tf32(__uint_as_float(0x3f800fffu)), 0x3f800000u);
    EXPECT_EQ(to_tf32(INFINITY), 0x7f800000u);
    EXPECT_EQ(to_tf32(NAN), 0x7fffffffu);
}

std::vector<int> order_of_threads(uint64_t seed)
{
    const unsigned blocks = 4, threads = 32;
    Device<int> n_taken(std::vector<int>{0}), y(2 * blocks * threads);
    emu::set_seed(seed);
    LAUNCH(take_tickets, blocks, threads, 0, nullptr, n_taken, y);
    return y.values();
}

TEST_F(Emulator, RunsThreadsInOrderOrInTheOrderOfASeed)
{
    std::vector<int> in_order = order_of_threads(0);
    for (int i = 0; i < 32; i++)
        EXPECT_EQ(i, in_order[size_t(i)]);
    EXPECT_EQ(31, in_order[32]); // the last to arrive goes on first
    EXPECT_EQ(127, in_order[3 * 64 + 31]);

    bool blocks_take_turns = false;
    for (uint64_t seed = 1; seed < n_seeds; seed++) {
        std::vector<int> order = order_of_threads(seed);
        EXPECT_EQ(order, order_of_threads(seed));
        EXPECT_NE(order, order_of_threads(seed + 1));
        int changes = 0; // of the block from one ticket to the next
        for (size_t i = 1; i < order.size(); i++)
            changes += order[i] / 32 != order[i - 1] / 32;
        blocks_take_turns = blocks_take_turns || changes > 10;
    }
    EXPECT_TRUE(blocks_take_turns);
}

TEST_F(Emulator, HasTheIntrinsicsOfCuda)
{
    EXPECT_EQ(5, __popc(0xf1u));
    EXPECT_EQ(64, __popcll(~0ull));
    EXPECT_EQ(4, __ffs(8));
    EXPECT_EQ(0, __ffs(0));
    EXPECT_EQ(31, __clz(1));
    EXPECT_EQ(32, __clz(0));
    EXPECT_EQ(0x80000000u, __brev(1));
    EXPECT_EQ(1u, __umulhi(0x80000000u, 2));
    EXPECT_EQ(0x3f800000, __float_as_int(1.0f));
    EXPECT_EQ(-2.0, __longlong_as_double(__double_as_longlong(-2.0)));
    EXPECT_EQ(1.5, __hiloint2double(__double2hiint(1.5), __double2loint(1.5)));
    EXPECT_EQ(2, __float2int_rn(2.5f));
    EXPECT_EQ(2147483647, __float2int_rz(3e9f));
    EXPECT_EQ(-2147483647 - 1, __double2int_rz(-1e300));
    EXPECT_EQ(0, __float2int_rn(NAN));
    EXPECT_EQ(0u, __float2uint_rz(-3.0f));
    EXPECT_EQ(2.0f, max(NAN, 2.0f));
    EXPECT_EQ(-1, min(-1, 2));
    // A fused product keeps what two roundings lose, and nothing else is fused.
    double x = 1 + std::ldexp(1.0, -30), product = x * x;
    EXPECT_EQ(std::ldexp(1.0, -60), __fma_rn(x, x, -product));
    EXPECT_EQ(0, __dsub_rn(__dmul_rn(x, x), product));
    EXPECT_EQ(7.0f, __bfloat162float(
                        __hfma(__float2bfloat16_rn(2), __float2bfloat16_rn(3), __float2bfloat16_rn(1))));
}

TEST_F(Emulator, HasTheAtomicsOfCuda)
{
    int i = 5;
    unsigned u = 3;
    unsigned long long l = 1ull << 40;
    float f = 1;
    double d = 1;
    EXPECT_EQ(5, atomicAdd(&i, 2));
    EXPECT_EQ(7, atomicSub(&i, 3));
    EXPECT_EQ(4, atomicMax(&i, 9));
    EXPECT_EQ(9, atomicMin(&i, -1));
    EXPECT_EQ(-1, atomicExch(&i, 6));
    EXPECT_EQ(6, atomicCAS(&i, 5, 0));
    EXPECT_EQ(6, atomicCAS(&i, 6, 12));
    EXPECT_EQ(12, atomicAnd(&i, 6));
    EXPECT_EQ(4, atomicOr(&i, 3));
    EXPECT_EQ(7, atomicXor(&i, 1));
    EXPECT_EQ(6, i);
    EXPECT_EQ(3u, atomicInc(&u, 3));
    EXPECT_EQ(0u, atomicDec(&u, 3));
    EXPECT_EQ(3u, u);
    EXPECT_EQ(1ull << 40, atomicAdd(&l, 1));
    EXPECT_EQ(1, atomicAdd(&f, 0.5f));
    EXPECT_EQ(1, atomicAdd(&d, 1));
    EXPECT_EQ(1.5f, f);
    EXPECT_EQ(2, load_relaxed(&d));
    store_relaxed(&d, 3);
    EXPECT_EQ(3, d);
}

TEST_F(Emulator, LaunchesFromSeveralHostThreads)
{
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++)
        threads.emplace_back([] { EXPECT_LT(run_scale_add<Bug::none>(300), 1e-7); });
    for (std::thread &thread : threads)
        thread.join();
}

// ---- bugs that are diagnosed in every build

template <class Run> void expect_diagnosis(Run run, const std::vector<std::string> &parts)
{
    for_each_seed([&] {
        run();
        cudaDeviceSynchronize(); // a seed may have left the kernel for later
        std::string text = cudaGetErrorString(cudaPeekAtLastError());
        EXPECT_EQ(cudaErrorLaunchFailure, cudaGetLastError());
        for (const std::string &part : parts)
            EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
    });
}

const char *const here = "kernels_under_test.cuh:";

#if !UNDER_TSAN // it is a race, too
TEST_F(Emulator, DiagnosesABarrierThatSomeThreadsPass)
{
    expect_diagnosis([] { run_gemm_tiled<Bug::divergent_barrier>(64, 64, 40); },
                     {here, "gemm_tiled", "__syncthreads()", "diverged"});
}
#endif

TEST_F(Emulator, DiagnosesABarrierThatOneThreadReachesOnceMore)
{
    expect_diagnosis([] { run_gemm_tiled<Bug::extra_barrier>(64, 64, 40); },
                     {here, "gemm_tiled", "__syncthreads()", "diverged"});
}

TEST_F(Emulator, DiagnosesDivergentShuffles)
{
    expect_diagnosis([] { run_softmax<Bug::divergent_shuffle>(normal<float>(4 * 64, 1), 4, 64); },
                     {here, "a shuffle", "diverged"});
}

TEST_F(Emulator, DiagnosesMasksThatNameExitedLanes)
{
    expect_diagnosis([] { run_parted_lanes<Bug::exited_lanes>(); }, {here, "exit", "lanes"});
}

TEST_F(Emulator, DiagnosesCallersOutsideTheirMask)
{
    expect_diagnosis([] { run_parted_lanes<Bug::lane_not_in_mask>(); },
                     {here, "lane 20", "not in the mask 0x0000ffff"});
}

TEST_F(Emulator, DiagnosesOverlappingMasks)
{
    expect_diagnosis([] { run_parted_lanes<Bug::overlapping_masks>(); },
                     {here, "overlapping mask", "a vote"});
}

TEST_F(Emulator, DiagnosesDeadlocksAndSaysWhoWaitsWhere)
{
    expect_diagnosis(
        [] {
            Device<int> y(64);
            LAUNCH(deadlock, 1, 64, 0, nullptr, y);
        },
        {here, "deadlock", "32 threads wait in __syncwarp() (mask 0xffffffff) at",
         "32 threads wait in __syncthreads() at"});
}

TEST_F(Emulator, DiagnosesGridBarriersThatNotAllReach)
{
    expect_diagnosis([] { run_normalize<Bug::divergent_grid_barrier>(100, 3); },
                     {here, "grid_barrier()", "diverged"});
    expect_diagnosis([] { run_normalize<Bug::exit_before_grid_barrier>(100, 3); },
                     {here, "grid_barrier()", "exit"});
}

TEST_F(Emulator, DiagnosesGridBarriersInOrdinaryLaunches)
{
    expect_diagnosis(
        [] {
            Device<float> x(std::vector<float>(64, 1.0f)), y(64), partial(2);
            LAUNCH(normalize<Bug::none>, 2, 32, 0, nullptr, x, y, partial, 64);
        },
        {here, "grid_barrier()", "not cooperative"});
}

TEST_F(Emulator, DiagnosesEndlessPolling)
{
    Device<int> data(2), flags(std::vector<int>(2, 0)), y(2);
    LAUNCH(chain, 2, 1, 0, nullptr, data, flags, y); // block 1 is not resident while block 0 waits for it
    EXPECT_NE(std::string(cudaGetErrorString(cudaPeekAtLastError())).find("polls"), std::string::npos);
    EXPECT_EQ(cudaErrorLaunchFailure, cudaGetLastError());
}

TEST_F(Emulator, DiagnosesMisalignedMatrixRowsAndCopies)
{
    expect_diagnosis([] { run_gemm_bf16<Bug::misaligned>(64, 64, 32); },
                     {here, "ldmatrix", "multiple of 16"});
}

// AddressSanitizer's builds report these before the emulator can: see below.
#if !UNDER_ASAN
TEST_F(Emulator, DiagnosesWritesPastTheEndOfSharedVariables)
{
    expect_diagnosis([] { run_gemm_tiled<Bug::static_overflow>(64, 64, 40); },
                     {here, "past the end", "'b_tile'"});
}

TEST_F(Emulator, DiagnosesWritesPastTheEndOfDynamicSharedMemory)
{
    expect_diagnosis([] { run_through_dynamic<Bug::dynamic_overflow>(); },
                     {"through_dynamic", "past the end of its 512 bytes of dynamic shared memory"});
}

TEST_F(Emulator, DiagnosesWritesPastTheEndOfDeviceMemory)
{
    expect_diagnosis([] { run_scale_add<Bug::write_past_end>(64); },
                     {"scale_add", "past the end of 256 bytes"});
}

TEST_F(Emulator, GivesNanForReadsPastTheEndOfDeviceMemory)
{
    for_each_seed([] { EXPECT_TRUE(std::isnan(run_scale_add<Bug::read_past_end>(64))); });
}
#endif

TEST_F(Emulator, RefusesTooMuchSharedMemory)
{
    Device<float> x(128), y(128);
    LAUNCH(through_dynamic<Bug::none>, 1, 128, 49 * 1024, nullptr, x, y);
    EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
    EXPECT_EQ(cudaErrorInvalidValue,
              cudaFuncSetAttribute(through_dynamic<Bug::none>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   99 * 1024 + 1));
    EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaFuncSetAttribute(through_dynamic<Bug::none>,
                                                cudaFuncAttributeMaxDynamicSharedMemorySize, 99 * 1024));
    LAUNCH(through_dynamic<Bug::none>, 1, 128, 99 * 1024, nullptr, x, y);
    EXPECT_EQ(cudaSuccess, cudaGetLastError());
    LAUNCH(through_dynamic<Bug::none>, 1, 128, 99 * 1024 + 1, nullptr, x, y);
    EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
}

// nvcc does not compile these, so they are not among the other kernels.
__global__ void too_much_static(float *y)
{
    SHARED(float, first, [8 * 1024]);
    SHARED(float, second, [5 * 1024]);
    first[threadIdx.x] = second[threadIdx.x] = 1;
    y[threadIdx.x] = first[threadIdx.x] + second[threadIdx.x];
}

__global__ void static_and_dynamic(float *y)
{
    SHARED(float, first, [8 * 1024]);
    DYNAMIC_SHARED(float, second);
    first[threadIdx.x] = second[threadIdx.x] = 1;
    y[threadIdx.x] = first[threadIdx.x] + second[threadIdx.x];
}

TEST_F(Emulator, DiagnosesTooMuchStaticSharedMemory)
{
    Device<float> y(32);
    expect_diagnosis([&] { LAUNCH(too_much_static, 1, 32, 0, nullptr, y); },
                     {"emu_test.cpp:", "53248 bytes of static shared memory", "'second'"});
}

TEST_F(Emulator, DiagnosesTooMuchSharedMemoryInAll)
{
    Device<float> y(32);
    LAUNCH(static_and_dynamic, 1, 32, 16 * 1024, nullptr, y);
    EXPECT_EQ(cudaSuccess, cudaGetLastError());
    emu::set_shared_limit(48 * 1024 - 4);
    expect_diagnosis([&] { LAUNCH(static_and_dynamic, 1, 32, 16 * 1024, nullptr, y); },
                     {"emu_test.cpp:", "49152 bytes of shared memory", "'first'", "49148"});
    emu::set_shared_limit(99 * 1024);
}

__global__ void odd_copies(const float *x, float *y, int to, int from)
{
    SHARED(float, buffer, [32]);
    copy_async16(&buffer[to], x + from, true);
    copy_async_commit();
    copy_async_wait<0>();
    *y = buffer[0];
}

TEST_F(Emulator, DiagnosesAsynchronousCopiesThatACardRefuses)
{
    Device<float> x(std::vector<float>(8, 1.0f)), y(1);
    LAUNCH(odd_copies, 1, 1, 0, nullptr, x, y, 0, 4);
    EXPECT_EQ(y.values()[0], 1);
    expect_diagnosis([&] { LAUNCH(odd_copies, 1, 1, 0, nullptr, x, y, 1, 0); },
                     {"emu_test.cpp:", "shared address"});
    expect_diagnosis([&] { LAUNCH(odd_copies, 1, 1, 0, nullptr, x, y, 0, 1); },
                     {"emu_test.cpp:", "global address"});
    expect_diagnosis([&] { LAUNCH(odd_copies, 1, 1, 0, nullptr, x, y, 32, 0); },
                     {"not inside the block's shared memory"});
    expect_diagnosis([&] { LAUNCH(odd_copies, 1, 1, 0, nullptr, x, y, 0, 8); },
                     {"not inside memory of cudaMalloc"});
}

TEST_F(Emulator, RefusesCooperativeLaunchesThatDoNotFit)
{
    int blocks = 0, multiprocessors = 0;
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, normalize<Bug::none>, 32, 0);
    cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0);
    auto fitting = static_cast<unsigned>(blocks * multiprocessors);
    EXPECT_EQ(fitting, 6u);
    EXPECT_LT(run_normalize<Bug::none>(600, fitting), 1e-6);
    Device<float> x(std::vector<float>(64, 1.0f)), y(64), partial(fitting + 1);
    LAUNCH_COOPERATIVE(normalize<Bug::none>, fitting + 1, 32, 0, nullptr, x, y, partial, 64);
    EXPECT_EQ(cudaErrorCooperativeLaunchTooLarge, cudaGetLastError());
}

TEST_F(Emulator, RefusesLaunchesThatNoCardTakes)
{
    Device<float> x(64), y(64);
    for (dim3 block : {dim3(0), dim3(1025), dim3(1, 1, 65)}) {
        LAUNCH(scale_add<Bug::none>, 1, block, 0, nullptr, 64, 1.0f, x, y);
        EXPECT_EQ(cudaErrorInvalidConfiguration, cudaGetLastError());
    }
    LAUNCH(scale_add<Bug::none>, dim3(1, 65536), 32, 0, nullptr, 64, 1.0f, x, y);
    EXPECT_EQ(cudaErrorInvalidConfiguration, cudaGetLastError());
}

// Kernels and copies reach hidden memory, the host's own code does not.
TEST_F(Emulator, HidesTheCardsMemoryFromTheHost)
{
    setenv("EMU_HIDE", "1", 1);
    {
        Device<float> x(std::vector<float>(64, 1.0f)), y(std::vector<float>(64, 2.0f));
        LAUNCH(scale_add<Bug::none>, 1, 64, 0, nullptr, 64, 3.0f, x, y);
        EXPECT_EQ(cudaSuccess, cudaGetLastError());
        EXPECT_EQ(y.values(), std::vector<float>(64, 5.0f));
        const volatile float *y_on_device = static_cast<float *>(y);
        EXPECT_DEATH(std::exit(y_on_device[0] == 5), "");
        EXPECT_EQ(cudaSuccess, cudaMemset(x, 0, 64 * sizeof(float)));
        EXPECT_EQ(x.values(), std::vector<float>(64, 0.0f));
    }
    unsetenv("EMU_HIDE");
}

TEST_F(Emulator, RefusesEverythingAfterAFailedKernelUntilTheErrorIsFetched)
{
    Device<float> x(std::vector<float>(64, 1.0f)), y(std::vector<float>(64, 1.0f));
    run_parted_lanes<Bug::lane_not_in_mask>();
    float value = 5;
    EXPECT_EQ(cudaErrorLaunchFailure, cudaDeviceSynchronize());
    EXPECT_EQ(cudaErrorLaunchFailure, cudaMemcpy(&value, y, sizeof value, cudaMemcpyDeviceToHost));
    LAUNCH(scale_add<Bug::none>, 1, 64, 0, nullptr, 64, 1.0f, x, y);
    EXPECT_EQ(cudaErrorLaunchFailure, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaMemcpy(&value, y, sizeof value, cudaMemcpyDeviceToHost));
    EXPECT_EQ(value, 1);
}

// ---- races. Without ThreadSanitizer they show, if at all, as a wrong result under some seed.

template <class Run> bool wrong_under_some_seed(Run run)
{
    bool wrong = false;
    for_each_seed([&] { wrong = wrong || !(run() < 1e-5); });
    return wrong;
}

#if UNDER_TSAN
#define EXPECT_RACE(run)                                                                                     \
    EXPECT_EXIT(                                                                                             \
        {                                                                                                    \
            wrong_under_some_seed([] { return run; });                                                       \
            exit(0);                                                                                         \
        },                                                                                                   \
        testing::ExitedWithCode(66), "data race")
#else
#define EXPECT_RACE(run) EXPECT_TRUE(wrong_under_some_seed([] { return run; }))
#endif

TEST_F(Emulator, FindsMissingBarriers)
{
    EXPECT_RACE(run_gemm_tiled<Bug::missing_barrier>(64, 64, 40));
}

TEST_F(Emulator, FindsMissingSecondBarriers)
{
    EXPECT_RACE(run_gemm_tiled<Bug::missing_second_barrier>(64, 64, 40));
}

TEST_F(Emulator, FindsMissingWarpBarriers)
{
    EXPECT_RACE(run_reverse_warps<Bug::missing_syncwarp>());
}

TEST_F(Emulator, FindsMissingGridBarriers)
{
    EXPECT_RACE(run_normalize<Bug::missing_grid_barrier>(100, 4));
}

// The sum is right as long as the blocks' additions do not cut into each other, which fibers never do.
#if UNDER_TSAN
TEST_F(Emulator, FindsRacesBetweenBlocks)
{
    EXPECT_RACE(run_statistics<Bug::race_between_blocks>(5000));
}
#endif

__global__ void forgotten_copy(const float *x, float *y, int waited)
{
    SHARED(float, buffer, [32]);
    copy_async16(&buffer[0], x, true);
    copy_async_commit();
    copy_async16(&buffer[4], x, false);
    copy_async_commit();
    if (waited)
        copy_async_wait<0>();
    else
        copy_async_wait<1>();
    *y = buffer[0];
}

TEST_F(Emulator, DiagnosesCopiesThatOutliveTheirThread)
{
    Device<float> x(std::vector<float>(4, 1.0f)), y(1);
    LAUNCH(forgotten_copy, 1, 1, 0, nullptr, x, y, 1);
    EXPECT_EQ(y.values()[0], 1);
    expect_diagnosis([&] { LAUNCH(forgotten_copy, 1, 1, 0, nullptr, x, y, 0); },
                     {"emu_test.cpp:", "without having waited for the asynchronous copy"});
}

// Under ThreadSanitizer the copies that a seeded run makes early are races as well, and end the process.
#if UNDER_TSAN
TEST_F(Emulator, FindsMissingWaitsForCopies)
{
    EXPECT_RACE(run_gemm_bf16<Bug::missing_copy_wait>(64, 64, 64));
}
#else
TEST_F(Emulator, GivesNanForCopiesThatNobodyWaitedFor)
{
    for_each_seed([] {
        EXPECT_TRUE(std::isnan(run_gemm_tiled<Bug::missing_copy_wait>(64, 64, 40)));
        EXPECT_TRUE(std::isnan(run_gemm_bf16<Bug::missing_copy_wait>(64, 64, 64)));
    });
}
#endif

TEST_F(Emulator, GivesNanForSharedMemoryThatNobodyWrote)
{
    for_each_seed([] { EXPECT_TRUE(std::isnan(run_statistics<Bug::uninitialised_shared>(5000))); });
}

// ---- what AddressSanitizer and UndefinedBehaviorSanitizer see, at the line where it happens

#if UNDER_ASAN
TEST_F(Emulator, AsanSeesOverrunsOfSharedMemory)
{
    EXPECT_DEATH(run_gemm_tiled<Bug::static_overflow>(64, 64, 40), "kernels_under_test.cuh.*out of bounds");
    EXPECT_DEATH(run_through_dynamic<Bug::dynamic_overflow>(), "AddressSanitizer: use-after-poison");
}

TEST_F(Emulator, AsanSeesOverrunsOfDeviceMemory)
{
    EXPECT_DEATH(run_scale_add<Bug::read_past_end>(64), "AddressSanitizer");
    EXPECT_DEATH(run_scale_add<Bug::write_past_end>(64), "AddressSanitizer");
}

TEST_F(Emulator, AsanSeesTheUseOfFreedDeviceMemory)
{
    auto use_after_free = [] {
        Device<float> x(64);
        float *stale = nullptr;
        cudaMalloc(reinterpret_cast<void **>(&stale), 64 * sizeof(float));
        cudaFree(stale);
        LAUNCH(scale_add<Bug::none>, 1, 64, 0, nullptr, 64, 1.0f, x, stale);
    };
    EXPECT_DEATH(use_after_free(), "AddressSanitizer: heap-use-after-free");
}

#if !defined(__clang__) // clang 14 does not check copies of whole structs
TEST_F(Emulator, UbsanSeesMisalignedVectors)
{
    EXPECT_DEATH(run_scale_by_four<Bug::misaligned>(), "misaligned address");
}
#endif
#endif

// ---- the CUDA runtime

TEST_F(Emulator, HasOneDevice)
{
    int n = 0, device = 5, driver = 0, runtime = 0;
    EXPECT_EQ(cudaSuccess, cudaGetDeviceCount(&n));
    EXPECT_EQ(1, n);
    EXPECT_EQ(cudaSuccess, cudaSetDevice(0));
    EXPECT_EQ(cudaSuccess, cudaGetDevice(&device));
    EXPECT_EQ(0, device);
    EXPECT_EQ(cudaErrorInvalidDevice, cudaSetDevice(1));
    EXPECT_EQ(cudaErrorInvalidDevice, cudaGetLastError());
    cudaDeviceProp properties;
    EXPECT_EQ(cudaSuccess, cudaGetDeviceProperties(&properties, 0));
    EXPECT_EQ(8, properties.major);
    EXPECT_EQ(3, properties.multiProcessorCount);
    EXPECT_EQ(size_t(99 * 1024), properties.sharedMemPerBlockOptin);
    EXPECT_EQ(cudaSuccess, cudaDriverGetVersion(&driver));
    EXPECT_EQ(cudaSuccess, cudaRuntimeGetVersion(&runtime));
    EXPECT_EQ(driver, runtime);
}

TEST_F(Emulator, CopiesMemoryAndChecksItsEnds)
{
    size_t free_before = 0, free_after = 0, total = 0;
    cudaMemGetInfo(&free_before, &total);
    Device<int> x(100);
    cudaMemGetInfo(&free_after, &total);
    EXPECT_EQ(400u, free_before - free_after);
    EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(static_cast<int *>(x)) % 256);
    EXPECT_EQ(x.values()[99], -1);
    EXPECT_EQ(cudaSuccess, cudaMemset(x, 0, 200));
    EXPECT_EQ(cudaSuccess, cudaMemsetAsync(x + 50, 1, 200, nullptr));
    EXPECT_EQ(x.values()[49], 0);
    EXPECT_EQ(x.values()[50], 0x01010101);
    int *pinned = nullptr;
    EXPECT_EQ(cudaSuccess, cudaMallocHost(reinterpret_cast<void **>(&pinned), 404));
    EXPECT_EQ(cudaSuccess, cudaMemcpyAsync(pinned, x, 400, cudaMemcpyDeviceToHost, nullptr));
    EXPECT_EQ(cudaSuccess, cudaStreamSynchronize(nullptr));
    EXPECT_EQ(pinned[99], 0x01010101);
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemcpy(pinned, x, 404, cudaMemcpyDeviceToHost));
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemcpy(pinned, x, 400, cudaMemcpyHostToDevice));
    EXPECT_EQ(cudaErrorInvalidValue, cudaMemset(x, 0, 404));
    EXPECT_EQ(cudaErrorInvalidValue, cudaFree(pinned));
    EXPECT_EQ(cudaErrorInvalidValue, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaFreeHost(pinned));
}

TEST_F(Emulator, RunsOutOfMemory)
{
    emu::set_memory_limit(1000);
    void *memory = nullptr;
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaMalloc(&memory, 1001));
    EXPECT_EQ(nullptr, memory);
    EXPECT_EQ(cudaErrorMemoryAllocation, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaMalloc(&memory, 1000));
    EXPECT_EQ(cudaSuccess, cudaFree(memory));
    emu::set_memory_limit(size_t(16) << 30);
}

TEST_F(Emulator, HasStreamsAndEvents)
{
    cudaStream_t stream;
    cudaEvent_t begin, end;
    EXPECT_EQ(cudaSuccess, cudaStreamCreate(&stream));
    EXPECT_EQ(cudaSuccess, cudaEventCreate(&begin));
    EXPECT_EQ(cudaSuccess, cudaEventCreate(&end));
    float milliseconds = -1;
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&milliseconds, begin, end));
    EXPECT_EQ(cudaErrorInvalidResourceHandle, cudaGetLastError());
    EXPECT_EQ(cudaSuccess, cudaEventRecord(begin, stream));
    EXPECT_EQ(cudaSuccess, cudaEventRecord(end, stream));
    EXPECT_EQ(cudaSuccess, cudaEventSynchronize(end));
    EXPECT_EQ(cudaSuccess, cudaStreamSynchronize(stream));
    EXPECT_EQ(cudaSuccess, cudaEventElapsedTime(&milliseconds, begin, end));
    EXPECT_GE(milliseconds, 0);
    EXPECT_EQ(cudaSuccess, cudaEventDestroy(begin));
    EXPECT_EQ(cudaSuccess, cudaEventDestroy(end));
    EXPECT_EQ(cudaSuccess, cudaStreamDestroy(stream));
}

TEST_F(Emulator, NamesErrors)
{
    EXPECT_STREQ("cudaErrorInvalidValue", cudaGetErrorName(cudaErrorInvalidValue));
    EXPECT_STREQ("no error", cudaGetErrorString(cudaSuccess));
    EXPECT_STREQ("device not ready", cudaGetErrorString(cudaErrorNotReady));
}

} // namespace
