// Strategies against textbook implementations that compute everything anew at every pick.
#include <omp.h>

#include "fixture.h"

namespace
{

using Matrix = std::vector<long double>;

// x' S^-1 x by Gaussian elimination with pivoting.
long double quadratic_form(Matrix s, const float *x, int64_t dim)
{
    std::vector<long double> b(x, x + dim);
    for (int64_t c = 0; c < dim; c++) {
        int64_t pivot = c;
        for (int64_t r = c + 1; r < dim; r++)
            if (std::fabs(s[r * dim + c]) > std::fabs(s[pivot * dim + c]))
                pivot = r;
        for (int64_t j = 0; j < dim; j++)
            std::swap(s[c * dim + j], s[pivot * dim + j]);
        std::swap(b[c], b[pivot]);
        for (int64_t r = c + 1; r < dim; r++) {
            const long double f = s[r * dim + c] / s[c * dim + c];
            for (int64_t j = c; j < dim; j++)
                s[r * dim + j] -= f * s[c * dim + j];
            b[r] -= f * b[c];
        }
    }
    long double form = 0;
    for (int64_t c = dim - 1; c >= 0; c--) {
        for (int64_t j = c + 1; j < dim; j++)
            b[c] -= s[c * dim + j] * b[j];
        b[c] /= s[c * dim + c];
        form += b[c] * x[c];
    }
    return form;
}

TEST(Fisher, PicksWhatTheTextbookPicks)
{
    for (const Data &d : all_data())
        for (double lambda : {1.0, 1e-3, 100.0}) {
            SCOPED_TRACE(d.name + ", lambda " + std::to_string(lambda));
            selection_task task = {};
            task.x = d.x.data();
            task.n = d.n, task.dim = d.dim, task.lambda = lambda;
            task.budget = d.n; // all rows
            std::vector<selection_pick> picks = run("fisher", task, 1);
            expect_same(picks, run("fisher", task, 2));
            // With the huge row the condition of S is 1e12 and more: gains keep fewer digits, the order does not suffer.
            const double near = d.name == "one huge row" ? 1e-7 : 1e-9;
            Matrix s(d.dim * d.dim);
            for (int64_t j = 0; j < d.dim; j++)
                s[j * d.dim + j] = lambda;
            std::set<int64_t> chosen;
            long double objective = 0;
            for (int64_t t = 0; t < task.budget && t < 40; t++) {
                long double best = -1;
                for (int64_t i = 0; i < d.n; i++)
                    if (!chosen.count(i))
                        best = std::max(best, quadratic_form(s, &d.x[i * d.dim], d.dim));
                const int64_t row = picks[t].row;
                const long double mine = quadratic_form(s, &d.x[row * d.dim], d.dim);
                ASSERT_GE((double)mine, (double)(best * (1 - 1e-10L))) << "pick " << t;
                ASSERT_NEAR(picks[t].score, (double)mine, near * (double)mine + 1e-300) << "pick " << t;
                ASSERT_TRUE(chosen.insert(row).second);
                objective += std::log1p(mine);
                ASSERT_NEAR(picks[t].objective, (double)objective, near * (1 + (double)objective));
                for (int64_t a = 0; a < d.dim; a++)
                    for (int64_t b = 0; b < d.dim; b++)
                        s[a * d.dim + b] += (long double)d.x[row * d.dim + a] * d.x[row * d.dim + b];
            }
            std::set<int64_t> all;
            for (const selection_pick &p : picks)
                all.insert(p.row);
            EXPECT_EQ((int64_t)all.size(), d.n);
        }
}

// The textbook's recursion in long double, and the lowest of equal rows.
void expect_textbook(const Data &d, double lambda, int64_t budget)
{
    SCOPED_TRACE(d.name + ", lambda " + std::to_string(lambda));
    selection_task task = {};
    task.x = d.x.data();
    task.n = d.n, task.dim = d.dim, task.lambda = lambda, task.budget = budget;
    const std::vector<selection_pick> picks = run("fisher", task, 1);
    expect_same(picks, run("fisher", task, 2));
    const double near = d.name == "some huge rows" ? 1e-6 : 1e-9;
    Matrix a(d.dim * d.dim), gains(d.n);
    for (int64_t j = 0; j < d.dim; j++)
        a[j * d.dim + j] = 1 / (long double)lambda;
    for (int64_t i = 0; i < d.n; i++)
        for (int64_t j = 0; j < d.dim; j++)
            gains[i] += (long double)d.x[i * d.dim + j] * d.x[i * d.dim + j] / lambda;
    std::vector<bool> chosen(d.n);
    for (int64_t t = 0; t < task.budget; t++) {
        const int64_t row = picks[t].row;
        const float *x = &d.x[row * d.dim];
        long double best = -1;
        for (int64_t i = 0; i < d.n; i++)
            if (!chosen[i])
                best = std::max(best, gains[i]);
        ASSERT_FALSE(chosen[row]) << "pick " << t;
        ASSERT_GE((double)gains[row], (double)(best * (1 - 1e-10L)) - 1e-13) << "pick " << t;
        ASSERT_NEAR(picks[t].score, (double)gains[row], near * (double)gains[row] + 1e-13);
        for (int64_t i = 0; i < row; i++)
            ASSERT_TRUE(chosen[i] || std::memcmp(x, &d.x[i * d.dim], d.dim * sizeof(float)) != 0)
                << "pick " << t << ": row " << i << " is the same as row " << row;
        chosen[row] = true;
        std::vector<long double> u(d.dim);
        long double gain = 0;
        for (int64_t i = 0; i < d.dim; i++) {
            for (int64_t j = 0; j < d.dim; j++)
                u[i] += a[i * d.dim + j] * x[j];
            gain += u[i] * x[i];
        }
        for (int64_t i = 0; i < d.dim; i++)
            for (int64_t j = 0; j < d.dim; j++)
                a[i * d.dim + j] -= u[i] * u[j] / (1 + gain);
        for (int64_t i = 0; i < d.n; i++) {
            long double y = 0;
            for (int64_t j = 0; j < d.dim; j++)
                y += u[j] * d.x[i * d.dim + j];
            gains[i] -= y * y / (1 + gain);
        }
    }
}

TEST(Fisher, ThePoolsPicksAreThoseOfAllRows)
{
    for (const Data &d : many_rows())
        for (double lambda : {1.0, 1e-3})
            expect_textbook(d, lambda, 300);
}

// So many that most are left out of the sorting, also where the sample that says which misleads.
TEST(Fisher, PicksOfVeryManyRows)
{
    expect_textbook(normal_rows("distinct", 20000, 6, 11), 1, 80);
    expect_textbook(normal_rows("equal lengths", 20000, 6, 12, unit_norms), 1, 80);
    expect_textbook(normal_rows("every 64th larger", 20000, 6, 14,
                                [](Data &d) {
                                    for (int64_t i = 0; i < d.n; i++)
                                        for (int64_t j = 0; j < d.dim; j++)
                                            d.x[i * d.dim + j] *= i % 64 == 0 ? 2.0f : 1.0f;
                                }),
                    1, 80);
    expect_textbook(normal_rows("repeated", 20000, 6, 13,
                                [](Data &d) {
                                    for (int64_t i = 10; i < d.n; i++)
                                        std::copy_n(d.x.begin() + (i % 10) * d.dim, d.dim,
                                                    d.x.begin() + i * d.dim);
                                }),
                    1, 80);
}

TEST(Fisher, GivesTiesToTheLowestRow)
{
    Floats x = {0, 1, 1, 0, 1, 0, 0, 1}; // rows 0 = 3, 1 = 2
    selection_task task = {};
    task.x = x.data(), task.n = 4, task.dim = 2, task.budget = 4, task.lambda = 1;
    std::vector<selection_pick> picks = run("fisher", task, 1);
    const int64_t want[] = {0, 1, 2, 3};
    for (int t = 0; t < 4; t++)
        EXPECT_EQ(picks[t].row, want[t]);
}

struct Distributions {
    std::vector<double> p, entropy;
    std::vector<int32_t> labels;
};

Distributions distributions(int64_t n, int64_t k, double sharpness, bool repeats, unsigned seed)
{
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    Distributions d{std::vector<double>(n * k), std::vector<double>(n), std::vector<int32_t>(n)};
    for (int64_t i = 0; i < n; i++) {
        double z = 0;
        for (int64_t j = 0; j < k; j++)
            z += d.p[i * k + j] = std::exp(sharpness * normal(random));
        for (int64_t j = 0; j < k; j++)
            d.p[i * k + j] /= z;
        if (repeats && i >= n / 3)
            std::copy_n(d.p.begin() + (i % (n / 3)) * k, k, d.p.begin() + i * k);
        for (int64_t j = 0; j < k; j++)
            d.entropy[i] -= d.p[i * k + j] > 0 ? d.p[i * k + j] * std::log(d.p[i * k + j]) : 0;
    }
    return d;
}

double js(const double *p, const double *q, int64_t k)
{
    double sum = 0;
    for (int64_t j = 0; j < k; j++) {
        const double m = 0.5 * (p[j] + q[j]);
        sum += p[j] > 0 ? p[j] * std::log(p[j] / m) : 0;
        sum += q[j] > 0 ? q[j] * std::log(q[j] / m) : 0;
    }
    return 0.5 * sum;
}

// Every row at every pick, by the operation itself, so that the scores are the same numbers.
void expect_full_scan(const Distributions &d, const selection_task &task)
{
    const int64_t n = task.n, k = task.k;
    const std::vector<selection_pick> picks = run("js", task, 1);
    expect_same(picks, run("js", task, 2));
    device *dev = open_device(1);
    std::vector<double> total(k), mean(k), divergence(n), p(d.p);
    std::vector<bool> chosen(n);
    for (int64_t t = 0; t < task.budget; t++) {
        if (t > 0) {
            ASSERT_EQ(dev->ops->js_to_mean(nullptr, divergence.data(), p.data(), mean.data(), n, k), SC_OK);
        }
        int64_t best = -1;
        double best_score = -1;
        for (int64_t i = 0; i < n; i++) {
            const double weight = task.js_sum ? 1 : 1 - task.alpha;
            const double score = t == 0 ? d.entropy[i] : task.alpha * d.entropy[i] + weight * divergence[i];
            if (!chosen[i] && (best < 0 || score > best_score))
                best = i, best_score = score;
        }
        ASSERT_EQ(picks[t].row, best) << "pick " << t;
        if (t > 0) {
            ASSERT_EQ(picks[t].score, best_score) << "pick " << t;
            ASSERT_NEAR(picks[t].divergence, js(&d.p[best * k], mean.data(), k), 1e-14);
        }
        chosen[best] = true;
        for (int64_t j = 0; j < k; j++) {
            total[j] += d.p[best * k + j];
            mean[j] = total[j] / (double)(t + 1);
        }
    }
    device_close(dev);
}

selection_task js_task(const Distributions &d, int64_t n, int64_t k, double alpha, bool sum, int64_t budget)
{
    selection_task task = {};
    task.n = n, task.k = k, task.budget = budget, task.alpha = alpha, task.js_sum = sum;
    task.p = d.p.data(), task.entropy = d.entropy.data(), task.labels = d.labels.data();
    return task;
}

TEST(Js, PicksWhatTheFullScanPicks)
{
    for (int64_t k : {1, 2, 16, 64})
        for (double sharpness : {0.05, 1.0, 6.0})
            for (double alpha : {0.0, 0.3, 0.5, 0.9, 1.0})
                for (bool sum : {false, true})
                    for (bool repeats : {false, true}) {
                        const int64_t n = 90;
                        SCOPED_TRACE("k " + std::to_string(k) + " sharpness " + std::to_string(sharpness) +
                                     " alpha " + std::to_string(alpha) + (sum ? " sum" : " mix") +
                                     (repeats ? " repeats" : ""));
                        const Distributions d = distributions(n, k, sharpness, repeats, (unsigned)k);
                        expect_full_scan(d, js_task(d, n, k, alpha, sum, repeats ? n : 40));
                    }
}

// More rows than a pool holds; where repeats are, more equal rows than it holds, too.
TEST(Js, ThePoolsPicksAreThoseOfAllRows)
{
    const int64_t n = 9001, k = 8;
    for (double sharpness : {0.3, 5.0})
        for (double alpha : {0.0, 0.5, 1.0})
            for (bool repeats : {false, true}) {
                SCOPED_TRACE("sharpness " + std::to_string(sharpness) + " alpha " + std::to_string(alpha) +
                             (repeats ? " repeats" : ""));
                Distributions d = distributions(n, k, sharpness, false, 3);
                for (int64_t i = 10; repeats && i < n; i++) {
                    std::copy_n(d.p.begin() + (i % 10) * k, k, d.p.begin() + i * k);
                    d.entropy[i] = d.entropy[i % 10];
                }
                expect_full_scan(d, js_task(d, n, k, alpha, false, 60));
            }
}

TEST(Random, IsAKeyedPermutationWithThePrefixProperty)
{
    selection_task task = {};
    task.n = 100, task.budget = 100, task.seed = 4;
    std::vector<selection_pick> all = run("random", task, 1);
    std::set<int64_t> rows;
    for (const selection_pick &p : all)
        rows.insert(p.row);
    EXPECT_EQ(rows.size(), 100u);
    task.budget = 30;
    std::vector<selection_pick> some = run("random", task, 2);
    for (size_t t = 0; t < some.size(); t++)
        EXPECT_EQ(some[t].row, all[t].row);
    task.seed = 5;
    std::vector<selection_pick> other = run("random", task, 1);
    EXPECT_FALSE(
        std::equal(some.begin(), some.end(), other.begin(), [](auto &a, auto &b) { return a.row == b.row; }));
}

TEST(Strategy, NamesTheNearest)
{
    const strategy *s = nullptr;
    EXPECT_EQ(strategy_find("fischer", &s), SC_USAGE);
    EXPECT_NE(std::string(sc_last_error()).find("fisher"), std::string::npos);
}

struct Clusters {
    int64_t k;
    Floats centres, dist2;
    std::vector<int32_t> labels;
    double inertia;
    int64_t iterations;
    bool converged;
};

Clusters cluster(const Data &d, int64_t k, int threads, uint64_t seed = 0)
{
    device *dev = open_device(threads);
    centred c;
    EXPECT_EQ(features_centre(d.x.data(), d.n, d.dim, &c), SC_OK);
    device_rows x;
    EXPECT_EQ(kmeans_rows_open(dev->ops, &c, k, &x), SC_OK);
    kmeans_options o = {};
    o.k = k, o.seed = seed;
    kmeans_result r;
    EXPECT_EQ(kmeans(&x, &o, &r), SC_OK) << sc_last_error();
    Clusters out{r.k,
                 Floats(r.centres, r.centres + r.k * d.dim),
                 Floats(r.dist2, r.dist2 + d.n),
                 std::vector<int32_t>(r.labels, r.labels + d.n),
                 r.inertia,
                 r.iterations,
                 r.converged};
    kmeans_free(&r);
    rows_close(&x);
    centred_free(&c);
    device_close(dev);
    return out;
}

TEST(Kmeans, FindsSeparateGroups)
{
    Data d = normal_rows("groups", 300, 5, 11, [](Data &g) {
        for (int64_t i = 0; i < g.n; i++)
            g.x[i * g.dim + i % 5] += 50;
    });
    for (uint64_t seed = 0; seed < 5; seed++) {
        Clusters c = cluster(d, 5, 1, seed);
        ASSERT_EQ(c.k, 5);
        EXPECT_TRUE(c.converged);
        for (int64_t i = 0; i < d.n; i++)
            ASSERT_EQ(c.labels[i], c.labels[i % 5]);
        EXPECT_NEAR(c.inertia / (300 * 5), 1, 0.15);
    }
}

TEST(Kmeans, CentresAreMeansAndNoClusterIsEmpty)
{
    for (const Data &d : all_data())
        for (int64_t k : {1, 3, 16}) {
            SCOPED_TRACE(d.name + ", k " + std::to_string(k));
            Clusters c = cluster(d, k, 1), again = cluster(d, k, 2);
            EXPECT_EQ(c.labels, again.labels);
            EXPECT_EQ(c.centres, again.centres);
            EXPECT_EQ(c.inertia, again.inertia);
            std::set<std::vector<float>> distinct;
            for (int64_t i = 0; i < d.n; i++)
                distinct.insert(Floats(d.x.begin() + i * d.dim, d.x.begin() + (i + 1) * d.dim));
            EXPECT_EQ(c.k, std::min<int64_t>(k, (int64_t)distinct.size()));
            EXPECT_TRUE(c.converged);
            std::set<int32_t> used(c.labels.begin(), c.labels.end());
            EXPECT_EQ((int64_t)used.size(), c.k);
        }
}

TEST(Features, MapSpreadsAlongTheLargestVariance)
{
    Data d = normal_rows("stretched", 500, 6, 13, [](Data &g) {
        for (int64_t i = 0; i < g.n; i++)
            g.x[i * g.dim + 2] *= 20, g.x[i * g.dim + 4] *= 5;
    });
    std::vector<Floats> maps;
    for (int threads : {1, 2}) {
        device *dev = open_device(threads);
        centred c;
        ASSERT_EQ(features_centre(d.x.data(), d.n, d.dim, &c), SC_OK);
        Floats map(2 * d.n);
        ASSERT_EQ(features_map(&c, 0, map.data()), SC_OK);
        maps.push_back(map);
        for (int64_t i = 0; i < d.n; i++) {
            EXPECT_NEAR(map[2 * i], c.x[i * d.dim + 2], 1.5);
            EXPECT_NEAR(map[2 * i + 1], c.x[i * d.dim + 4], 2.5);
        }
        centred_free(&c);
        device_close(dev);
    }
    EXPECT_EQ(maps[0], maps[1]);
}

} // namespace
