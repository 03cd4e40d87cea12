// Speed of the device's operations at the shapes of SmolLM2-135M: hidden 576, ffn 1536, 9 heads and 3 key heads
// of 64, vocabulary 49,152. Counters: GFLOP/s of arithmetic, GB/s of memory. Fewer threads by OMP_NUM_THREADS.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

extern "C" {
#include "device/device.h"
}

namespace
{

enum { HIDDEN = 576, FFN = 1536, HEADS = 9, KV_HEADS = 3, HEAD_DIM = 64, VOCAB = 49152 };

// Values of either type; std::vector would be filled twice and is not aligned.
class Array
{
  public:
    Array(dtype type, int64_t n, float spread = 1.0f) : type_(type)
    {
        if (cpu_ops()->alloc(&data_, static_cast<size_t>(n) * dtype_size(type)) != SC_OK)
            throw std::bad_alloc();
        std::mt19937 engine(static_cast<unsigned>(n));
        std::uniform_real_distribution<float> uniform(-spread, spread);
        for (int64_t i = 0; i < n; i++) {
            float value = uniform(engine);
            if (type == DTYPE_F32)
                static_cast<float *>(data_)[i] = value;
            else
                static_cast<uint16_t *>(data_)[i] = f32_to_bf16(value);
        }
    }
    ~Array()
    {
        cpu_ops()->release(data_);
    }
    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;
    void *get() const
    {
        return data_;
    }
    float *floats() const
    {
        return static_cast<float *>(data_);
    }
    dtype type() const
    {
        return type_;
    }

  private:
    dtype type_;
    void *data_ = nullptr;
};

void rate(benchmark::State &state, const char *name, double per_iteration)
{
    state.counters[name] =
        benchmark::Counter(per_iteration * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

// y = x W^T: m tokens, k in, n out
void gemm(benchmark::State &state, bool trans_a, bool trans_b, dtype type)
{
    const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
    Array a(type, m * k), b(type, n * k), c(DTYPE_F32, m * n);
    for (auto _ : state) {
        sc_status status =
            cpu_ops()->gemm(nullptr, trans_a, trans_b, m, n, k, 1, a.get(), type, trans_a ? m : k, b.get(),
                            type, trans_b ? k : n, 0, c.get(), DTYPE_F32, n);
        if (status != SC_OK)
            state.SkipWithError(sc_last_error());
    }
    rate(state, "GFLOP/s", 2.0 * double(m) * double(n) * double(k));
    if (m <= 4)
        rate(state, "GB/s", double(n) * double(k) * double(dtype_size(type)));
}

struct Packed {
    std::vector<int32_t> cu;
    attention_shape shape;
    Packed(int64_t n_seqs, int64_t length) : cu(static_cast<size_t>(n_seqs) + 1), shape()
    {
        for (size_t i = 0; i < cu.size(); i++)
            cu[i] = static_cast<int32_t>(i) * static_cast<int32_t>(length);
        shape.cu_seqlens = cu.data();
        shape.n_seqs = n_seqs;
        shape.n_tokens = n_seqs * length;
        shape.max_seqlen = length;
        shape.n_heads = HEADS;
        shape.n_kv_heads = KV_HEADS;
        shape.head_dim = HEAD_DIM;
        shape.q_stride = HEADS * HEAD_DIM;
        shape.kv_stride = KV_HEADS * HEAD_DIM;
        shape.scale = 0.125f;
    }
    // one product of scores' size, causal: half of length^2 * dim multiply-adds
    double product() const
    {
        return double(shape.n_seqs) * HEADS * HEAD_DIM * double(shape.max_seqlen) *
               double(shape.max_seqlen + 1);
    }
};

void attention(benchmark::State &state, bool backward, dtype type)
{
    const ops *table = cpu_ops();
    Packed packed(state.range(0), state.range(1));
    const attention_shape &shape = packed.shape;
    const int64_t wide = shape.n_tokens * shape.q_stride, narrow = shape.n_tokens * shape.kv_stride;
    Array q(type, wide), k(type, narrow), v(type, narrow), out(type, wide), dout(type, wide), dq(type, wide),
        dk(type, narrow), dv(type, narrow), lse(DTYPE_F32, HEADS * shape.n_tokens);
    Array workspace(DTYPE_F32, static_cast<int64_t>(table->attention_backward_workspace(&shape) / 4 +
                                                    table->attention_forward_workspace(&shape) / 4 + 1));
    table->attention_forward(nullptr, out.get(), lse.floats(), q.get(), k.get(), v.get(), type, &shape,
                             workspace.get());
    for (auto _ : state) {
        sc_status status = backward
                               ? table->attention_backward(nullptr, dq.get(), dk.get(), dv.get(), dout.get(),
                                                           out.get(), lse.floats(), q.get(), k.get(), v.get(),
                                                           type, &shape, workspace.get())
                               : table->attention_forward(nullptr, out.get(), lse.floats(), q.get(), k.get(),
                                                          v.get(), type, &shape, workspace.get());
        if (status != SC_OK)
            state.SkipWithError(sc_last_error());
    }
    rate(state, "GFLOP/s", (backward ? 5.0 : 2.0) * packed.product());
}

void attention_decode(benchmark::State &state, dtype type)
{
    const int64_t queries = state.range(0), length = state.range(1);
    const int64_t wide = HEADS * HEAD_DIM, narrow = KV_HEADS * HEAD_DIM;
    Array q(type, queries * wide), k(type, queries * length * narrow), v(type, queries * length * narrow),
        out(type, queries * wide);
    std::vector<int32_t> rows(static_cast<size_t>(queries * length));
    std::vector<int64_t> offsets(static_cast<size_t>(queries) + 1);
    for (size_t i = 0; i < rows.size(); i++)
        rows[i] = static_cast<int32_t>(i);
    for (size_t i = 0; i < offsets.size(); i++)
        offsets[i] = static_cast<int64_t>(i) * length;
    attention_cached_shape shape = {rows.data(), offsets.data(), queries, HEADS, KV_HEADS, HEAD_DIM,
                                    wide,        narrow,         0.125f,  0,     0};
    for (auto _ : state)
        cpu_ops()->attention_cached(nullptr, out.get(), q.get(), k.get(), v.get(), type, &shape, nullptr);
    rate(state, "GB/s", 2.0 * double(queries * length * narrow) * double(dtype_size(type)));
}

void norm(benchmark::State &state, bool backward, dtype type)
{
    const ops *table = cpu_ops();
    const int64_t n = state.range(0), dim = HIDDEN;
    Array x(type, n * dim), y(type, n * dim), dx(type, n * dim), w(type, dim), dw(DTYPE_F32, dim),
        rstd(DTYPE_F32, n);
    Array workspace(DTYPE_F32, static_cast<int64_t>(table->rmsnorm_backward_workspace(n, dim) / 4));
    table->rmsnorm_forward(nullptr, y.get(), rstd.floats(), x.get(), w.get(), type, type, n, dim, 1e-5f, 0);
    for (auto _ : state) {
        if (backward)
            table->rmsnorm_backward(nullptr, dx.get(), false, dw.floats(), y.get(), x.get(), w.get(),
                                    rstd.floats(), type, type, n, dim, 0, workspace.get());
        else
            table->rmsnorm_forward(nullptr, y.get(), rstd.floats(), x.get(), w.get(), type, type, n, dim,
                                   1e-5f, 0);
    }
    rate(state, "GB/s", (backward ? 3.0 : 2.0) * double(n * dim) * double(dtype_size(type)));
}

void loss(benchmark::State &state, bool backward, dtype type)
{
    const int64_t n = state.range(0);
    Array logits(type, n * VOCAB, 8.0f), losses(DTYPE_F32, n);
    std::vector<int32_t> targets(static_cast<size_t>(n), 17);
    for (auto _ : state)
        cpu_ops()->cross_entropy(nullptr, losses.floats(), logits.get(), type, targets.data(), n, VOCAB, 1.0f,
                                 0, backward);
    rate(state, "GB/s", (backward ? 3.0 : 1.0) * double(n) * VOCAB * double(dtype_size(type)));
}

void rope(benchmark::State &state)
{
    const int64_t n = state.range(0);
    Array x(DTYPE_F32, n * HEADS * HEAD_DIM);
    std::vector<int32_t> positions(static_cast<size_t>(n));
    std::vector<float> inv_freq(HEAD_DIM / 2);
    for (size_t i = 0; i < positions.size(); i++)
        positions[i] = static_cast<int32_t>(i);
    for (size_t i = 0; i < inv_freq.size(); i++)
        inv_freq[i] = std::pow(1e5f, -2.0f * static_cast<float>(i) / HEAD_DIM);
    for (auto _ : state)
        cpu_ops()->rope(nullptr, x.get(), DTYPE_F32, positions.data(), inv_freq.data(), n, HEADS, HEAD_DIM,
                        HEADS * HEAD_DIM, false);
    rate(state, "GB/s", 8.0 * double(n) * HEADS * HEAD_DIM);
}

void glu(benchmark::State &state, bool backward)
{
    const int64_t n = state.range(0) * FFN;
    Array gate(DTYPE_F32, n), up(DTYPE_F32, n), y(DTYPE_F32, n), dgate(DTYPE_F32, n), dup(DTYPE_F32, n);
    for (auto _ : state) {
        if (backward)
            cpu_ops()->glu_backward(nullptr, dgate.get(), dup.get(), y.get(), gate.get(), up.get(), DTYPE_F32,
                                    n, ACT_SILU);
        else
            cpu_ops()->glu_forward(nullptr, y.get(), gate.get(), up.get(), DTYPE_F32, n, ACT_SILU);
    }
    rate(state, "GB/s", (backward ? 5.0 : 3.0) * double(n) * 4);
}

void adamw(benchmark::State &state)
{
    const int64_t n = state.range(0);
    Array master(DTYPE_F32, n), grad(DTYPE_F32, n), m(DTYPE_F32, n), v(DTYPE_F32, n, 0.0f);
    adamw_options options = {1e-4f, 0.9f, 0.999f, 1e-8f, 0.0f, 10, 1.0f};
    for (auto _ : state)
        cpu_ops()->adamw(nullptr, master.floats(), nullptr, grad.floats(), m.floats(), v.floats(), n,
                         &options);
    rate(state, "GB/s", 28.0 * double(n));
}

void sample(benchmark::State &state, float temperature, float top_p)
{
    const int64_t n = state.range(0);
    Array logits(DTYPE_F32, n * VOCAB, 8.0f);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    std::vector<uint64_t> keys(static_cast<size_t>(n), 1);
    std::vector<float> logprobs(static_cast<size_t>(n));
    const sample_options options = {temperature, top_p, 0, 0, 0, 0};
    for (auto _ : state)
        cpu_ops()->sample_rows(nullptr, ids.data(), logprobs.data(), logits.get(), DTYPE_F32, n, VOCAB,
                               &options, keys.data());
    state.counters["rows/s"] = benchmark::Counter(double(n), benchmark::Counter::kIsIterationInvariantRate);
}

// A half-step of alternating least squares: n entities that met `met` of the n others each.
void als(benchmark::State &state, bool gram_only)
{
    const int64_t n = state.range(0), met = state.range(1), f = state.range(2);
    const ops *table = cpu_ops();
    Array y(DTYPE_F32, n * f), x(DTYPE_F32, n * f);
    std::vector<double> gram(static_cast<size_t>(f * f)), work(table->als_gram_workspace(n, f) / 8 + 1);
    std::vector<int64_t> offsets;
    std::vector<int32_t> others;
    std::mt19937 random(1);
    for (int64_t i = 0; i <= n; i++)
        offsets.push_back(i * met);
    for (int64_t k = 0; k < n * met; k++)
        others.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(n)));
    const auto sum = [&] {
        if (table->als_gram(nullptr, gram.data(), y.floats(), n, f, 1, work.data()) != SC_OK)
            state.SkipWithError(sc_last_error());
    };
    sum();
    for (auto _ : state) {
        if (gram_only)
            sum();
        else if (table->als_solve(nullptr, x.floats(), y.floats(), gram.data(), offsets.data(), others.data(),
                                  n, f, 40, nullptr) != SC_OK)
            state.SkipWithError(sc_last_error());
    }
    const double ff = double(f * f);
    rate(state, "GFLOP/s", double(n) * (gram_only ? ff : double(met) * ff + ff * double(f) / 3));
}

// x [m][in] through an adapter of a linear layer with `out` outputs, forward or backward
void lora(benchmark::State &state, bool backward)
{
    const int64_t m = state.range(0), out = state.range(1), in = state.range(2), rank = state.range(3);
    const ops *table = cpu_ops();
    Array x(DTYPE_F32, m * in), y(DTYPE_F32, m * out), dx(DTYPE_F32, m * in), a(DTYPE_F32, rank * in),
        b(DTYPE_F32, rank * out), da(DTYPE_F32, rank * in), db(DTYPE_F32, rank * out),
        xa(DTYPE_F32, m * rank);
    Array work(DTYPE_F32,
               static_cast<int64_t>(table->lora_workspace(m, in, out, rank, 0) / sizeof(float)) + 1);
    for (auto _ : state) {
        const sc_status status =
            backward ? table->lora_backward(nullptr, dx.get(), DTYPE_F32, da.floats(), db.floats(), y.get(),
                                            DTYPE_F32, xa.floats(), x.get(), DTYPE_F32, a.floats(),
                                            b.floats(), m, in, out, rank, 1e-6f, 0, 0, nullptr, 0, work.get())
                     : table->lora_forward(nullptr, y.get(), DTYPE_F32, xa.floats(), x.get(), DTYPE_F32,
                                           a.floats(), b.floats(), m, in, out, rank, 1e-6f, 0, 0, nullptr, 0,
                                           work.get());
        if (status != SC_OK)
            state.SkipWithError(sc_last_error());
    }
    rate(state, "GFLOP/s", (backward ? 4.0 : 2.0) * double(m) * double(rank) * double(in + out));
}

void adapter_shapes(benchmark::internal::Benchmark *b)
{
    for (int64_t rank : {8, 16, 64}) {
        b->Args({1024, FFN, HIDDEN, rank});
        b->Args({1024, HIDDEN, FFN, rank});
    }
    b->Unit(benchmark::kMicrosecond)->UseRealTime()->MeasureProcessCPUTime();
}

void linear_shapes(benchmark::internal::Benchmark *b)
{
    for (int64_t m : {1, 2, 4, 8, 32, 256, 1024}) {
        b->Args({m, FFN, HIDDEN});
        b->Args({m, HIDDEN, FFN});
        b->Args({m, VOCAB, HIDDEN});
    }
    b->Unit(benchmark::kMicrosecond)->UseRealTime()->MeasureProcessCPUTime();
}

void training_shapes(benchmark::internal::Benchmark *b)
{
    b->Args({1024, FFN, HIDDEN})
        ->Args({1024, HIDDEN, FFN})
        ->Args({FFN, HIDDEN, 1024})
        ->Args({1024, HIDDEN, VOCAB});
    b->Unit(benchmark::kMicrosecond)->UseRealTime()->MeasureProcessCPUTime();
}

void sequences(benchmark::internal::Benchmark *b)
{
    b->Args({4, 256})->Args({1, 1024})->Args({16, 64})->Unit(benchmark::kMicrosecond)->UseRealTime();
}

BENCHMARK_CAPTURE(gemm, xWt_f32, false, true, DTYPE_F32)->Apply(linear_shapes);
BENCHMARK_CAPTURE(gemm, dyW_f32, false, false, DTYPE_F32)->Apply(training_shapes);
BENCHMARK_CAPTURE(gemm, dytx_f32, true, false, DTYPE_F32)->Apply(training_shapes);
BENCHMARK_CAPTURE(gemm, xWt_bf16, false, true, DTYPE_BF16)->Apply(linear_shapes);
BENCHMARK_CAPTURE(attention, forward_f32, false, DTYPE_F32)->Apply(sequences);
BENCHMARK_CAPTURE(attention, backward_f32, true, DTYPE_F32)->Apply(sequences);
BENCHMARK_CAPTURE(attention, forward_bf16, false, DTYPE_BF16)->Apply(sequences);
BENCHMARK_CAPTURE(attention, backward_bf16, true, DTYPE_BF16)->Apply(sequences);
BENCHMARK_CAPTURE(attention_decode, f32, DTYPE_F32)->Args({1, 512})->Args({32, 512})->UseRealTime();
BENCHMARK_CAPTURE(lora, forward, false)->Apply(adapter_shapes);
BENCHMARK_CAPTURE(lora, backward, true)->Apply(adapter_shapes);
BENCHMARK_CAPTURE(norm, forward_f32, false, DTYPE_F32)->Arg(1024)->UseRealTime();
BENCHMARK_CAPTURE(norm, backward_f32, true, DTYPE_F32)->Arg(1024)->UseRealTime();
BENCHMARK(rope)->Arg(1024)->UseRealTime();
BENCHMARK_CAPTURE(glu, forward, false)->Arg(1024)->UseRealTime();
BENCHMARK_CAPTURE(glu, backward, true)->Arg(1024)->UseRealTime();
BENCHMARK_CAPTURE(loss, value, false, DTYPE_F32)->Arg(256)->UseRealTime();
BENCHMARK_CAPTURE(loss, gradient_f32, true, DTYPE_F32)->Arg(256)->UseRealTime();
BENCHMARK_CAPTURE(loss, gradient_bf16, true, DTYPE_BF16)->Arg(256)->UseRealTime();
BENCHMARK(adamw)->Arg(1 << 24)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK_CAPTURE(sample, greedy, 0.0f, 1.0f)->Arg(8)->UseRealTime();
BENCHMARK_CAPTURE(sample, nucleus, 1.0f, 0.9f)->Arg(8)->UseRealTime();
BENCHMARK_CAPTURE(als, gram, true)->Args({100000, 0, 64})->UseRealTime();
BENCHMARK_CAPTURE(als, solve, false)
    ->Args({4096, 20, 64})
    ->Args({4096, 200, 64})
    ->Args({512, 20, 256})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

} // namespace

BENCHMARK_MAIN();
