// design: what a block takes from the gains, and picks inside a pool, against long double.
#include <omp.h>

#include "fixture.h"

namespace
{

using Long = std::vector<long double>;

std::vector<float> normal_floats(int64_t n, unsigned seed, float scale = 1)
{
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(static_cast<size_t>(n));
    for (float &v : x)
        v = scale * normal(random);
    return x;
}

std::vector<double> norms_of(const std::vector<float> &x, int64_t n, int64_t dim)
{
    std::vector<double> out;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t d = 0; d < dim; d++)
            sum += double(x[i * dim + d]) * x[i * dim + d];
        out.push_back(std::sqrt(sum));
    }
    return out;
}

TEST(DesignFlush, GainsFallWithinTheSlack)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 5, 8, 31, 576})
            for (int64_t b : {1, 3, 4, 17}) {
                const int64_t n = 301;
                const std::vector<float> x = normal_floats(n * dim, 5), w = normal_floats(b * dim, 6, 0.05f);
                double w_norm = 0;
                for (float v : w)
                    w_norm += double(v) * v;
                const std::vector<double> start(n, 1000.0), none(n, 0.0);
                Buffer dx = upload_array(table, x), dw = upload_array(table, w),
                       dn = upload_array(table, norms_of(x, n, dim));
                std::vector<double> gains[2], slack[2];
                for (int run = 0; run < 2; run++) {
                    omp_set_num_threads(run == 0 ? 1 : 3);
                    Buffer dg = upload_array(table, start), ds = upload_array(table, none);
                    ASSERT_EQ(table->design_flush(nullptr, dg.as<double>(), ds.as<double>(), dn.as<double>(),
                                                  dx.as<float>(), dw.as<float>(), n, dim, b,
                                                  std::sqrt(w_norm)),
                              SC_OK);
                    gains[run] = dg.array<double>();
                    slack[run] = ds.array<double>();
                }
                EXPECT_EQ(gains[0], gains[1]);
                EXPECT_EQ(slack[0], slack[1]);
                for (int64_t i = 0; i < n; i++) {
                    long double want = 1000;
                    for (int64_t l = 0; l < b; l++) {
                        long double dot = 0;
                        for (int64_t d = 0; d < dim; d++)
                            dot += (long double)x[i * dim + d] * w[l * dim + d];
                        want -= dot * dot;
                    }
                    ASSERT_LE(std::fabs((double)(gains[0][i] - want)), slack[0][i]) << i;
                    ASSERT_LE(slack[0][i], 1e-2) << "a bound that says nothing";
                }
            }
    omp_set_num_threads(before);
}

TEST(DesignBait, FormsFollowThePick)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 7, 8, 31, 576})
            for (int64_t n : {1, 2, 301}) {
                const std::vector<float> x = normal_floats(n * dim, 5);
                const std::vector<float> ends = normal_floats(2 * dim, 6, 0.05f);
                const std::vector<double> u(ends.begin(), ends.begin() + dim),
                    v(ends.begin() + dim, ends.end());
                const std::vector<double> start(size_t(n), 10.0);
                std::vector<double> a[2], b[2];
                for (int run = 0; run < 2; run++) {
                    omp_set_num_threads(run == 0 ? 1 : 3);
                    Buffer dx = upload_array(table, x), du = upload_array(table, u),
                           dv = upload_array(table, v);
                    Buffer da = upload_array(table, start), db = upload_array(table, start);
                    ASSERT_EQ(table->design_bait(nullptr, da.as<double>(), db.as<double>(), dx.as<float>(),
                                                 du.as<double>(), dv.as<double>(), n, dim, 1.5, 0.25),
                              SC_OK);
                    a[run] = da.array<double>();
                    b[run] = db.array<double>();
                }
                EXPECT_EQ(a[0], a[1]);
                EXPECT_EQ(b[0], b[1]);
                for (int64_t i = 0; i < n; i++) {
                    long double p = 0, q = 0;
                    for (int64_t d = 0; d < dim; d++) {
                        p += (long double)x[size_t(i * dim + d)] * u[size_t(d)];
                        q += (long double)x[size_t(i * dim + d)] * v[size_t(d)];
                    }
                    ASSERT_NEAR(a[0][size_t(i)], double(10 - p * p / 1.5L), 1e-13) << i;
                    ASSERT_NEAR(b[0][size_t(i)], double(10 + (p * p * 0.25L / 1.5L - 2 * p * q) / 1.5L),
                                1e-13)
                        << i;
                }
            }
    omp_set_num_threads(before);
}

TEST(DesignFlush, WhatLeavesTheRangeOfFloatKeepsItsBound)
{
    for (const ops *table : present_tables()) {
        const int64_t dim = 16;
        const std::vector<float> x(2 * dim, 1e30f), w(dim, 1e30f);
        Buffer dx = upload_array(table, x), dw = upload_array(table, w),
               dn = upload_array(table, norms_of(x, 2, dim));
        Buffer dg = upload_array(table, std::vector<double>{7, -INFINITY}),
               ds = upload_array(table, std::vector<double>{0.5, 0});
        ASSERT_EQ(table->design_flush(nullptr, dg.as<double>(), ds.as<double>(), dn.as<double>(),
                                      dx.as<float>(), dw.as<float>(), 2, dim, 1, 4e30),
                  SC_OK);
        EXPECT_EQ(dg.array<double>(), (std::vector<double>{7, -INFINITY}));
        EXPECT_EQ(ds.array<double>()[0], 0.5);
    }
}

// A pool with its outputs.
struct Pool {
    const ops *table;
    int64_t m, dim, most;
    Buffer x, rows, norms, gains, slack, a, w, picks, found, work;
    design_pool p = {};

    Pool(const ops *t, const std::vector<float> &xs, int64_t dim_, int64_t most_, double lambda,
         double slack_share)
        : table(t), m(int64_t(xs.size()) / dim_), dim(dim_), most(most_), x(upload_array(t, xs)),
          rows(upload_array(t, numbers())), norms(upload_array(t, norms_of(xs, m, dim_))),
          gains(upload_array(t, first_gains(xs, lambda, slack_share))),
          slack(upload_array(t, first_slack(xs, lambda, slack_share))),
          a(upload_array(t, scaled_identity(lambda))), w(t, size_t(most_ * dim_) * 8),
          picks(t, size_t(most_) * 8), found(t, size_t(most_) * 8),
          work(t, t->design_pool_workspace(m, dim_, most_))
    {
        p.x = x.as<float>();
        p.rows = rows.as<int64_t>();
        p.norms = norms.as<double>();
        p.gains = gains.as<double>();
        p.slack = slack.as<double>();
        p.a = a.as<double>();
        p.a_error = 4e-16 / lambda;
        p.tau = -INFINITY;
        p.m = m;
        p.dim = dim;
        p.most = most;
        p.w = w.as<double>();
        p.picks = picks.as<int64_t>();
        p.found = found.as<double>();
    }
    std::vector<int64_t> numbers() const
    {
        std::vector<int64_t> out;
        for (int64_t i = 0; i < m; i++)
            out.push_back(10 * i);
        return out;
    }
    // Up to `share` too low, with a slack that says so.
    std::vector<double> first_gains(const std::vector<float> &xs, double lambda, double share) const
    {
        std::vector<double> out = norms_of(xs, m, dim);
        for (size_t i = 0; i < out.size(); i++)
            out[i] = out[i] * out[i] / lambda * (1 - share * double(i % 3) / 2);
        return out;
    }
    std::vector<double> first_slack(const std::vector<float> &xs, double lambda, double share) const
    {
        std::vector<double> out = norms_of(xs, m, dim);
        for (double &v : out)
            v = v * v / lambda * (share + 1e-14);
        return out;
    }
    std::vector<double> scaled_identity(double lambda) const
    {
        std::vector<double> out(size_t(dim * dim), 0.0);
        for (int64_t i = 0; i < dim; i++)
            out[size_t(i * dim + i)] = 1 / lambda;
        return out;
    }
    void run()
    {
        ASSERT_EQ(table->design_pool(nullptr, &p, work.get()), SC_OK);
    }
    std::vector<int64_t> chosen() const
    {
        std::vector<int64_t> all = picks.array<int64_t>();
        all.resize(size_t(p.n));
        return all;
    }
};

// The groups of each row, and how many picks each still allows.
struct Caps {
    std::vector<int64_t> offsets = {0}, left;
    std::vector<int32_t> groups;
};

// The textbook: S^-1 in long double by Sherman and Morrison, every gain anew at every pick.
std::vector<int64_t> textbook(const std::vector<float> &x, int64_t dim, int64_t most, double lambda,
                              Long *gains_of_picks, Caps *caps = nullptr)
{
    const int64_t m = int64_t(x.size()) / dim;
    Long a(size_t(dim * dim), 0);
    std::vector<bool> taken(static_cast<size_t>(m));
    std::vector<int64_t> out;
    for (int64_t i = 0; i < dim; i++)
        a[size_t(i * dim + i)] = 1 / (long double)lambda;
    for (int64_t t = 0; t < most; t++) {
        int64_t best = -1;
        long double best_gain = 0;
        Long best_u;
        for (int64_t q = 0; q < m; q++) {
            Long u(static_cast<size_t>(dim), 0);
            long double gain = 0;
            for (int64_t i = 0; i < dim; i++) {
                for (int64_t j = 0; j < dim; j++)
                    u[size_t(i)] += a[size_t(i * dim + j)] * x[size_t(q * dim + j)];
                gain += u[size_t(i)] * x[size_t(q * dim + i)];
            }
            bool open = !taken[size_t(q)];
            for (int64_t at = caps ? caps->offsets[size_t(q)] : 0; caps && at < caps->offsets[size_t(q) + 1];
                 at++)
                open = open && caps->left[size_t(caps->groups[size_t(at)])] > 0;
            if (open && (best < 0 || gain > best_gain)) {
                best = q;
                best_gain = gain;
                best_u = u;
            }
        }
        if (best < 0)
            break;
        taken[size_t(best)] = true;
        for (int64_t at = caps ? caps->offsets[size_t(best)] : 0;
             caps && at < caps->offsets[size_t(best) + 1]; at++)
            caps->left[size_t(caps->groups[size_t(at)])]--;
        out.push_back(best);
        gains_of_picks->push_back(best_gain);
        for (int64_t i = 0; i < dim; i++)
            for (int64_t j = 0; j < dim; j++)
                a[size_t(i * dim + j)] -= best_u[size_t(i)] * best_u[size_t(j)] / (1 + best_gain);
    }
    return out;
}

TEST(DesignPool, PicksAreTheTextbooks)
{
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 7, 16, 33})
            for (double share : {0.0, 0.3}) {
                const std::vector<float> x = normal_floats(60 * dim, 11);
                Pool pool(table, x, dim, 40, 0.5, share);
                Long gains;
                const std::vector<int64_t> want = textbook(x, dim, 40, 0.5, &gains);
                pool.run();
                EXPECT_EQ(pool.p.stop, DESIGN_FULL);
                EXPECT_EQ(pool.chosen(), want) << dim << " " << share;
                const std::vector<double> found = pool.found.array<double>();
                for (size_t t = 0; t < want.size(); t++)
                    EXPECT_NEAR(found[t], double(gains[t]), 1e-11 * double(gains[t]) + 1e-14);
                // what is left is right within its slack
                const std::vector<double> left = pool.gains.array<double>(),
                                          slack = pool.slack.array<double>();
                const std::vector<double> w = pool.w.array<double>();
                for (int64_t q = 0; q < pool.m; q++) {
                    if (std::count(want.begin(), want.end(), q)) {
                        EXPECT_EQ(left[size_t(q)], -INFINITY);
                        continue;
                    }
                    long double gain = 0;
                    for (int64_t d = 0; d < dim; d++)
                        gain += (long double)x[size_t(q * dim + d)] * x[size_t(q * dim + d)] / 0.5L;
                    for (size_t t = 0; t < want.size(); t++) {
                        long double y = 0;
                        for (int64_t d = 0; d < dim; d++)
                            y += (long double)w[t * size_t(dim) + size_t(d)] * x[size_t(q * dim + d)];
                        gain -= y * y;
                    }
                    EXPECT_LE(double(gain), left[size_t(q)] + slack[size_t(q)] + 1e-13);
                }
            }
}

// Rows that look alike are of one group, so that after a pick the next best are those that it closes; more of them than a
// block has threads, and rows of no group and of three.
TEST(DesignPool, ShutsTheRowsOfFullGroups)
{
    const int64_t dim = 5, m = 700, n_groups = 9;
    std::vector<float> x;
    Caps caps;
    for (int64_t q = 0; q < m; q++) {
        const int64_t group = q % n_groups;
        for (int64_t d = 0; d < dim; d++)
            x.push_back(float((d * 7 + group * 5) % 11) - 5 + float((q * 31 + d * 17) % 13) * 0.01f);
        if (q % 50 != 7)
            caps.groups.push_back(int32_t(group));
        if (q % 4 == 1) {
            caps.groups.push_back(int32_t((group + 2) % n_groups));
            caps.groups.push_back(int32_t((group + 5) % n_groups));
        }
        caps.offsets.push_back(int64_t(caps.groups.size()));
    }
    for (int64_t g = 0; g < n_groups; g++)
        caps.left.push_back(1 + g % 3);
    const std::vector<int64_t> before = caps.left;
    Long gains;
    const std::vector<int64_t> want = textbook(x, dim, 20, 0.5, &gains, &caps);
    ASSERT_EQ(want.size(), 20u);
    EXPECT_GT(std::count(caps.left.begin(), caps.left.end(), 0), 5);
    for (const ops *table : present_tables()) {
        Pool pool(table, x, dim, 20, 0.5, 0.1);
        Buffer offsets = upload_array(table, caps.offsets), groups = upload_array(table, caps.groups),
               left = upload_array(table, before);
        pool.p.group_offsets = offsets.as<int64_t>();
        pool.p.groups = groups.as<int32_t>();
        pool.p.left = left.as<int64_t>();
        pool.run();
        EXPECT_EQ(pool.p.stop, DESIGN_FULL);
        EXPECT_EQ(pool.chosen(), want);
        EXPECT_EQ(left.array<int64_t>(), caps.left);
        const std::vector<double> rest = pool.gains.array<double>();
        for (int64_t q = 0; q < m; q++) {
            bool open = !std::count(want.begin(), want.end(), q);
            for (int64_t at = caps.offsets[size_t(q)]; at < caps.offsets[size_t(q) + 1]; at++)
                open = open && caps.left[size_t(caps.groups[size_t(at)])] > 0;
            EXPECT_EQ(rest[size_t(q)] != -INFINITY, open) << q;
        }
    }
}

TEST(DesignPool, StopsWhereTheOutsideCouldBeBetter)
{
    for (const ops *table : present_tables()) {
        const int64_t dim = 9;
        const std::vector<float> x = normal_floats(50 * dim, 12);
        Long gains;
        const std::vector<int64_t> want = textbook(x, dim, 30, 1, &gains);
        Pool pool(table, x, dim, 30, 1, 0.1);
        pool.p.tau = double(gains[10] + gains[11]) / 2;
        pool.run();
        EXPECT_EQ(pool.p.stop, DESIGN_BEATEN);
        EXPECT_EQ(pool.chosen(), std::vector<int64_t>(want.begin(), want.begin() + 11));
    }
}

TEST(DesignPool, EqualGainsGoToTheLowestRow)
{
    for (const ops *table : present_tables()) {
        const std::vector<float> one = {1, 2, 3, 4, 5, 6, 7, 8, 9};
        std::vector<float> x;
        for (int i = 0; i < 40; i++)
            x.insert(x.end(), one.begin(), one.end());
        const double gain = 285;
        for (int64_t outside :
             {int64_t{5}, int64_t{-1}}) { // an equal row outside: behind the first, before it
            Pool pool(table, x, 9, 3, 1, 0.2);
            pool.p.tau = gain;
            pool.p.tau_row = outside;
            pool.run();
            EXPECT_EQ(pool.chosen(), outside > 0 ? std::vector<int64_t>{0} : std::vector<int64_t>{});
            EXPECT_EQ(pool.p.stop, DESIGN_BEATEN);
        }
        Pool pool(table, x, 9, 40, 1, 0.2);
        pool.run();
        EXPECT_EQ(pool.chosen().size(), 40u);
        for (size_t i = 0; i < 40; i++)
            EXPECT_EQ(pool.chosen()[i], int64_t(i));
    }
}

TEST(DesignPool, SaysWhenRoundingCouldDecide)
{
    for (const ops *table : present_tables()) {
        // after the first, the second row has 1e-18 of its gain left, which no difference of doubles holds
        Pool pool(table, {1e9f, 1, 1e9f, 0}, 2, 2, 1, 0);
        pool.run();
        EXPECT_EQ(pool.p.stop, DESIGN_UNSURE);
        EXPECT_EQ(pool.chosen(), std::vector<int64_t>{0});
    }
}

TEST(DesignPool, EmptiesItself)
{
    for (const ops *table : present_tables()) {
        Pool pool(table, normal_floats(5 * 4, 3), 4, 8, 1, 0);
        pool.run();
        EXPECT_EQ(pool.p.stop, DESIGN_EMPTY);
        EXPECT_EQ(pool.p.n, 5);
    }
}

} // namespace
