// The operations of a table that selection uses, one by one, by the card's own clock.
#include "gpu_select.h"

namespace
{

std::string times(int64_t a, int64_t b)
{
    return std::to_string(a) + " x " + std::to_string(b);
}

void bench_memory(const Bench &b, Kernels &k, const Array &x)
{
    const size_t all = static_cast<size_t>(b.n * b.dim) * sizeof(float);
    const size_t bytes = std::min<size_t>(all, size_t{1} << 31) / 2;
    void *const from = x.as<char>();
    const Array to(b.table, bytes);
    k.run("copy", std::to_string(bytes) + " bytes", 2.0 * static_cast<double>(bytes), 0, "", [&] {
        k.clock().copy(to.as<char>(), from, bytes);
        return SC_OK;
    });
    const size_t part = std::min<size_t>(bytes, size_t{1} << 28);
    std::vector<char> host(part);
    k.run("upload", std::to_string(part) + " bytes", static_cast<double>(part), 0, "",
          [&] { return b.table->upload(nullptr, to.as<char>(), host.data(), part); });
    k.run("download", std::to_string(part) + " bytes", static_cast<double>(part), 0, "",
          [&] { return b.table->download(nullptr, host.data(), to.as<char>(), part); });
}

void bench_gemm(const Bench &b, Kernels &k)
{
    const int64_t side = b.n >= 100000 ? 8192 : 512;
    const double operations = 2.0 * std::pow(static_cast<double>(side), 3);
    const size_t values = static_cast<size_t>(side * side);
    std::vector<float> random(values);
    std::vector<uint16_t> random16(values);
    for (size_t i = 0; i < values; i++) {
        random[i] = nearly_normal(i);
        random16[i] = f32_to_bf16(random[i]);
    }
    const Array c(b.table, values * sizeof(float));
    for (dtype type : {DTYPE_F32, DTYPE_BF16}) {
        const Array a(b.table, values * sizeof(float));
        ok(b.table->upload(nullptr, a.as<void>(),
                           type == DTYPE_F32 ? static_cast<const void *>(random.data()) : random16.data(),
                           values * dtype_size(type)));
        k.run(type == DTYPE_F32 ? "gemm fp32" : "gemm bf16", times(side, side),
              3 * static_cast<double>(values * dtype_size(type)), operations,
              type == DTYPE_F32 ? "fp32" : "bf16", [&] {
                  return b.table->gemm(nullptr, false, true, side, side, side, 1, a.as<void>(), type, side,
                                       a.as<void>(), type, side, 0, c.as<void>(), type, side);
              });
    }
}

void bench_design(const Bench &b, Kernels &k, const Array &x, const std::vector<double> &norms)
{
    enum { POOL = 1024, BLOCK = 64 };
    const int64_t n = b.n, dim = b.dim, m = std::min<int64_t>(POOL, n);
    const double nd = static_cast<double>(n) * static_cast<double>(dim), d2 = static_cast<double>(dim * dim);
    std::vector<double> gains(static_cast<size_t>(n)), identity(static_cast<size_t>(dim * dim));
    for (int64_t i = 0; i < n; i++)
        gains[i] = norms[i] * norms[i];
    for (int64_t i = 0; i < dim; i++)
        identity[i * dim + i] = 1;
    const Array d_norms(b.table, norms), d_gains(b.table, gains), a(b.table, identity);
    const Array slack(b.table, std::vector<double>(static_cast<size_t>(n)));
    std::vector<float> w32(static_cast<size_t>(BLOCK * dim));
    std::vector<double> w64(w32.size());
    for (size_t i = 0; i < w32.size(); i++)
        w64[i] = w32[i] = 0.01f * nearly_normal(i);
    const Array w(b.table, w32), w_double(b.table, w64);
    for (int64_t picks : {1, 16, 64})
        k.run("design_flush, " + std::to_string(picks) + " picks", times(n, dim), 4 * nd,
              2 * nd * static_cast<double>(picks), "3 x tf32", [&, picks] {
                  return b.table->design_flush(nullptr, d_gains.as<double>(), slack.as<double>(),
                                               d_norms.as<double>(), x.as<float>(), w.as<float>(), n, dim,
                                               picks, 1.0);
              });

    std::vector<int64_t> rows(static_cast<size_t>(m));
    for (int64_t q = 0; q < m; q++)
        rows[q] = q;
    const std::vector<double> pool_gains(gains.begin(), gains.begin() + m), none(static_cast<size_t>(m));
    const Array p_rows(b.table, rows), p_gains(b.table, pool_gains), p_slack(b.table, none),
        p_w(b.table, w64.size() * sizeof(double)), picks(b.table, BLOCK * sizeof(int64_t)),
        found(b.table, BLOCK * sizeof(double)), work(b.table, b.table->design_pool_workspace(m, dim, BLOCK));
    const int64_t most = std::min<int64_t>(BLOCK, m);
    design_pool pool = {};
    const double per_pick = 8 * d2 + 4 * static_cast<double>(m * dim);
    k.run(
        "design_pool, " + std::to_string(most) + " picks", times(m, dim),
        per_pick * static_cast<double>(most),
        static_cast<double>(most) * (16 * d2 + 2 * static_cast<double>(m * dim)), "fp64",
        [&] {
            const sc_status status = b.table->design_pool(nullptr, &pool, work.as<void>());
            if (status == SC_OK && pool.n != most)
                return sc_fail(SC_INTERNAL, "design_pool made %lld of %lld picks",
                               static_cast<long long>(pool.n), static_cast<long long>(most));
            return status;
        },
        [&] {
            pool = {};
            pool.x = x.as<float>();
            pool.rows = p_rows.as<int64_t>();
            pool.norms = d_norms.as<double>();
            pool.gains = p_gains.as<double>();
            pool.slack = p_slack.as<double>();
            pool.a = a.as<double>();
            pool.a_error = 4e-16;
            pool.tau = -INFINITY;
            pool.tau_row = -1;
            pool.m = m;
            pool.dim = dim;
            pool.most = most;
            pool.w = p_w.as<double>();
            pool.picks = picks.as<int64_t>();
            pool.found = found.as<double>();
            p_gains.put(pool_gains);
            p_slack.put(none);
        });

    k.run("rank_update, 64 rows", times(dim, dim), 16 * d2, 128 * d2, "fp64", [&] {
        return b.table->rank_update(nullptr, a.as<double>(), w_double.as<double>(), dim, BLOCK, 1e-9);
    });
    const Array l(b.table, identity.size() * sizeof(double)),
        inverse(b.table, identity.size() * sizeof(double)),
        scratch(b.table, std::max<size_t>(b.table->cholesky_inverse_workspace(dim), 1));
    bool definite = false;
    a.put(identity);
    k.run("cholesky", times(dim, dim), 16 * d2, d2 * static_cast<double>(dim) / 3, "fp64",
          [&] { return b.table->cholesky(nullptr, l.as<double>(), a.as<double>(), dim, &definite); });
    k.run("cholesky_inverse", times(dim, dim), 16 * d2, 2 * d2 * static_cast<double>(dim) / 3, "fp64", [&] {
        return b.table->cholesky_inverse(nullptr, inverse.as<double>(), l.as<double>(), dim,
                                         scratch.as<void>());
    });
    const int64_t few = std::min<int64_t>(n, 4096);
    const Array forms(b.table, static_cast<size_t>(few) * sizeof(double));
    k.run("quadratic_forms", times(few, dim), 8 * d2 + 4 * static_cast<double>(few * dim),
          2 * static_cast<double>(few) * d2, "fp64", [&] {
              return b.table->quadratic_forms(nullptr, forms.as<double>(), x.as<float>(), a.as<double>(), few,
                                              dim);
          });
}

void bench_clusters(const Bench &b, Kernels &k, const Array &x, const std::vector<double> &norms)
{
    const int64_t n = b.n, dim = b.dim, clusters = std::min(b.o.clusters, n);
    const double nd = static_cast<double>(n) * static_cast<double>(dim),
                 nk = static_cast<double>(n * clusters);
    const Array labels(b.table, static_cast<size_t>(n) * sizeof(int32_t)),
        dist2(b.table, static_cast<size_t>(n) * sizeof(float)),
        assign_work(b.table, std::max<size_t>(b.table->cluster_assign_workspace(n, clusters, dim), 1)),
        softmax_work(b.table, std::max<size_t>(b.table->cluster_softmax_workspace(n, clusters, dim), 1)),
        sums(b.table, static_cast<size_t>(2 * clusters * dim) * sizeof(double)),
        none(b.table, std::vector<int32_t>(static_cast<size_t>(n), -1)),
        summed(b.table, static_cast<size_t>(n) * sizeof(int32_t)),
        counts(b.table, static_cast<size_t>(clusters) * sizeof(int64_t)),
        p(b.table, static_cast<size_t>(n * clusters) * sizeof(double)),
        entropy(b.table, static_cast<size_t>(n) * sizeof(double));
    for (int64_t centres : {int64_t{1}, clusters}) /* one: a step of k-means++ */
        k.run("cluster_assign, K = " + std::to_string(centres), times(n, dim), 4 * nd,
              2 * nd * static_cast<double>(centres), "3 x tf32", [&, centres] {
                  return b.table->cluster_assign(nullptr, labels.as<int32_t>(), dist2.as<float>(),
                                                 x.as<float>(), x.as<float>(), n, centres, dim,
                                                 assign_work.as<void>());
              });
    const std::string of = ", K = " + std::to_string(clusters);
    k.run("cluster_update" + of, times(n, dim), 4 * nd, nd, "fp64", [&] {
        const sc_status status = /* the bits are copied: no row is in any sum yet */
            b.table->cast(nullptr, summed.as<void>(), DTYPE_F32, none.as<void>(), DTYPE_F32, n);
        return status != SC_OK
                   ? status
                   : b.table->cluster_update(nullptr, sums.as<double>(), counts.as<int64_t>(),
                                             summed.as<int32_t>(), exact_grid_of(n, 1), x.as<float>(),
                                             labels.as<int32_t>(), n, clusters, dim);
    });
    k.run("cluster_softmax" + of, times(n, dim), 4 * nd + 8 * nk, 3 * nd * static_cast<double>(clusters),
          "fp64", [&] {
              return b.table->cluster_softmax(nullptr, p.as<double>(), entropy.as<double>(), x.as<float>(),
                                              x.as<float>(), n, clusters, dim, 1, softmax_work.as<void>());
          });
    k.run("js_to_mean" + of, times(n, clusters), 8 * nk, 70 * nk, "fp64", [&] {
        return b.table->js_to_mean(nullptr, entropy.as<double>(), p.as<double>(), p.as<double>(), n,
                                   clusters);
    });

    const Array d_norms(b.table, norms), from(b.table, std::vector<int32_t>(static_cast<size_t>(n))),
        nearest(b.table, static_cast<size_t>(n) * sizeof(double));
    const std::vector<double> far(static_cast<size_t>(n), 1e300);
    const nearest_rows rows = {x.as<float>(), x.as<float>(), d_norms.as<double>()};
    const int64_t pool = std::min<int64_t>(n, 1024);
    for (const auto &[m, to] :
         {std::pair<int64_t, int64_t>{pool, 1}, {pool, pool}, {n, std::min<int64_t>(n, 64)}})
        k.run(
            "nearest_update, " + std::to_string(to) + (to == 1 ? " centre" : " centres"), times(m, dim),
            4 * static_cast<double>((m + to) * dim),
            2 * static_cast<double>(m * to) * static_cast<double>(dim), "3 x tf32",
            [&, m = m, to = to] {
                return b.table->nearest_update(nullptr, nearest.as<double>(), &rows, m, &rows,
                                               from.as<int32_t>(), to, dim);
            },
            [&] { nearest.put(far); });
}

// A half-step of the factors of users and items: b.n entities that met 20 others each, drawn with a preference for the first.
void bench_als(const Bench &b, Kernels &k)
{
    enum { FACTORS = 64, MET = 20 };
    const int64_t n = b.n, f = FACTORS;
    const double values = static_cast<double>(n * f), ff = FACTORS * FACTORS;
    std::vector<float> rows(static_cast<size_t>(n * f));
    for (size_t i = 0; i < rows.size(); i++)
        rows[i] = 0.1f * nearly_normal(i);
    std::vector<int64_t> ends;
    std::vector<int32_t> met;
    for (int64_t i = 0; i <= n; i++)
        ends.push_back(i * MET);
    for (int64_t i = 0; i < n * MET; i++) {
        const double at = std::abs(static_cast<double>(nearly_normal(static_cast<size_t>(i)))) / 8;
        met.push_back(static_cast<int32_t>(std::min(at, 0.999) * static_cast<double>(n)));
    }
    const Array y(b.table, rows), offsets(b.table, ends), others(b.table, met),
        x(b.table, rows.size() * sizeof(float)), gram(b.table, FACTORS * FACTORS * sizeof(double)),
        work(b.table, std::max({b.table->als_gram_workspace(n, f), b.table->als_solve_workspace(n, f),
                                static_cast<size_t>(1)}));
    k.run("als_gram", times(n, f), 4 * values, values * FACTORS, "fp64", [&] {
        return b.table->als_gram(nullptr, gram.as<double>(), y.as<float>(), n, f, 1, work.as<void>());
    });
    k.run("als_solve, 20 each", times(n, f), 4 * values * MET,
          static_cast<double>(n) * (MET * ff + ff * FACTORS / 3), "fp64", [&] {
              return b.table->als_solve(nullptr, x.as<float>(), y.as<float>(), gram.as<double>(),
                                        offsets.as<int64_t>(), others.as<int32_t>(), n, f, 40,
                                        work.as<void>());
          });
}

} // namespace

void bench_kernels(const Options &o)
{
    const Bench b(o);
    Kernels k(b.table, [&b](Line &line) { b.describe(line); });
    const size_t bytes = static_cast<size_t>(b.n * b.dim) * sizeof(float);
    const Array x(b.table, bytes);
    std::vector<double> norms(static_cast<size_t>(b.n));
    const double start = seconds_now();
    ok(b.table->upload(nullptr, x.as<float>(), b.x, bytes));
    ok(b.table->synchronise(nullptr));
    {
        Line line("upload");
        line.number("bytes", static_cast<double>(bytes)).number("seconds", seconds_now() - start);
        b.describe(line);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < b.n; i++) {
        double sum = 0;
        for (int64_t d = 0; d < b.dim; d++)
            sum += static_cast<double>(b.x[i * b.dim + d]) * static_cast<double>(b.x[i * b.dim + d]);
        norms[i] = std::sqrt(sum);
    }
    bench_memory(b, k, x);
    bench_design(b, k, x, norms);
    bench_clusters(b, k, x, norms);
    bench_als(b, k);
    bench_gemm(b, k);
}
