// Attention as training runs it, forward and backward, by the card's own clock; bench/gpu_model.py is the peer's side.
// Prints JSON, one object a line; --device cpu tries it where there is no card.
//
//   gpu_attention [--device cuda] [--dtype bf16|fp32] [--sequences 4] [--tokens 4096] [--heads 24] [--kv-heads 8] [--head-dim 128]
#include <map>

#include "gpu_bench.h"

namespace
{

struct Options {
    std::string device = "cuda", type = "bf16";
    int64_t sequences = 4, tokens = 4096, heads = 24, kv_heads = 8, head_dim = 128;
};

Options parse(int argc, char **argv)
{
    Options o;
    const std::map<std::string, std::string *> texts = {{"--device", &o.device}, {"--dtype", &o.type}};
    const std::map<std::string, int64_t *> numbers = {{"--sequences", &o.sequences},
                                                      {"--tokens", &o.tokens},
                                                      {"--heads", &o.heads},
                                                      {"--kv-heads", &o.kv_heads},
                                                      {"--head-dim", &o.head_dim}};
    for (int i = 1; i < argc; i += 2) {
        const std::string word = argv[i];
        if (i + 1 == argc || (!texts.count(word) && !numbers.count(word)))
            fail(2, word + " is unknown or has no value; bench/gpu_attention.cpp lists the options");
        char *end = nullptr;
        if (texts.count(word))
            *texts.at(word) = argv[i + 1];
        else if ((*numbers.at(word) = std::strtoll(argv[i + 1], &end, 10)) < 1 || *end)
            fail(2, word + " is " + argv[i + 1] + "; it must be a whole number above 0");
    }
    if (o.heads % o.kv_heads != 0)
        fail(2, "--heads must be a multiple of --kv-heads");
    return o;
}

// Random numbers of a type on the device, drawn anew for each `seed`.
void fill(const Array &array, dtype type, size_t n, uint64_t seed)
{
    std::vector<float> values(n);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        values[i] = nearly_normal((seed << 40) + i);
    if (type == DTYPE_F32) {
        array.put(values);
        return;
    }
    std::vector<uint16_t> rounded(n);
    for (size_t i = 0; i < n; i++)
        rounded[i] = f32_to_bf16(values[i]);
    array.put(rounded);
}

void measure(const Options &o, const device *d)
{
    const ops *t = d->ops;
    const dtype type = d->dtype;
    const int64_t n = o.sequences * o.tokens;
    const size_t size = dtype_size(type), q_values = static_cast<size_t>(n * o.heads * o.head_dim),
                 kv_values = static_cast<size_t>(n * o.kv_heads * o.head_dim);
    std::vector<int32_t> ends;
    for (int64_t i = 0; i <= o.sequences; i++)
        ends.push_back(static_cast<int32_t>(i * o.tokens));
    const Array q(t, q_values * size), k(t, kv_values * size), v(t, kv_values * size),
        out(t, q_values * size), dout(t, q_values * size), dq(t, q_values * size), dk(t, kv_values * size),
        dv(t, kv_values * size), lse(t, static_cast<size_t>(n * o.heads) * sizeof(float)), cu(t, ends);
    fill(q, type, q_values, 1);
    fill(k, type, kv_values, 2);
    fill(v, type, kv_values, 3);
    fill(dout, type, q_values, 4);

    attention_shape shape = {};
    shape.cu_seqlens = cu.as<int32_t>();
    shape.n_seqs = o.sequences;
    shape.n_tokens = n;
    shape.max_seqlen = o.tokens;
    shape.n_heads = static_cast<int32_t>(o.heads);
    shape.n_kv_heads = static_cast<int32_t>(o.kv_heads);
    shape.head_dim = static_cast<int32_t>(o.head_dim);
    shape.q_stride = o.heads * o.head_dim;
    shape.kv_stride = o.kv_heads * o.head_dim;
    shape.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(o.head_dim)));
    const Array work(t, std::max({t->attention_forward_workspace(&shape),
                                  t->attention_backward_workspace(&shape), size_t{1}}));

    // Two products of half of all pairs forward; backward three for the gradients, and the scores and dP again.
    const double pairs = 0.5 * static_cast<double>(n) * static_cast<double>(o.tokens + 1),
                 product = 2 * pairs * static_cast<double>(o.heads * o.head_dim),
                 bytes = static_cast<double>(size * (q_values + kv_values));
    Kernels kernels(t, [&](Line &line) {
        line.text("device", d->name)
            .number("sequences", static_cast<double>(o.sequences))
            .number("tokens", static_cast<double>(n));
    });
    const std::string of = std::to_string(o.sequences) + " x " + std::to_string(o.tokens) + ", " +
                           std::to_string(o.heads) + " / " + std::to_string(o.kv_heads) + " heads of " +
                           std::to_string(o.head_dim);
    const char *arithmetic = type == DTYPE_BF16 ? "bf16" : "fp32";
    kernels.run("attention_forward", of, 2 * bytes, 2 * product, arithmetic, [&] {
        return t->attention_forward(nullptr, out.as<void>(), lse.as<float>(), q.as<void>(), k.as<void>(),
                                    v.as<void>(), type, &shape, work.as<void>());
    });
    kernels.run("attention_backward", of, 4 * bytes, 5 * product, arithmetic, [&] {
        return t->attention_backward(nullptr, dq.as<void>(), dk.as<void>(), dv.as<void>(), dout.as<void>(),
                                     out.as<void>(), lse.as<float>(), q.as<void>(), k.as<void>(),
                                     v.as<void>(), type, &shape, work.as<void>());
    });
}

} // namespace

int main(int argc, char **argv)
{
    const Options o = parse(argc, argv);
    sc_common common = sc_common_default();
    common.device = o.device.c_str();
    common.dtype = o.type.c_str();
    device *d = nullptr;
    ok(device_open(&common, &d));
    ok(device_runs_models(d));
    measure(o, d);
    device_close(d);
    return 0;
}
