// cluster: labels, sums and softmax against float64, and the same bytes for any number of threads.
#include <omp.h>

#include "fixture.h"

namespace
{

struct Rows {
    int64_t n, k, dim;
    std::vector<float> x, centres;
};

Rows random_rows(int64_t n, int64_t k, int64_t dim, float spread, unsigned seed)
{
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Rows r{n, k, dim, std::vector<float>(n * dim), std::vector<float>(k * dim)};
    for (float &v : r.x)
        v = normal(random) * spread;
    for (float &v : r.centres)
        v = normal(random) * spread;
    return r;
}

double distance2(const float *a, const float *b, int64_t dim)
{
    long double sum = 0;
    for (int64_t d = 0; d < dim; d++)
        sum += ((long double)a[d] - b[d]) * ((long double)a[d] - b[d]);
    return static_cast<double>(sum);
}

struct Assigned {
    std::vector<int32_t> labels;
    std::vector<float> dist2;
};

Assigned assign(const ops *table, const Rows &r)
{
    Buffer x = upload_array(table, r.x), c = upload_array(table, r.centres);
    Buffer labels(table, r.n * sizeof(int32_t)), dist2(table, r.n * sizeof(float));
    Buffer work(table, table->cluster_assign_workspace(r.n, r.k, r.dim));
    EXPECT_EQ(table->cluster_assign(nullptr, labels.as<int32_t>(), dist2.as<float>(), x.as<float>(),
                                    c.as<float>(), r.n, r.k, r.dim, work.get()),
              SC_OK);
    return {labels.array<int32_t>(), dist2.array<float>()};
}

void expect_nearest(const Rows &r, const Assigned &a)
{
    for (int64_t i = 0; i < r.n; i++) {
        int64_t best = 0;
        double lowest = INFINITY;
        for (int64_t j = 0; j < r.k; j++) {
            const double d = distance2(&r.x[i * r.dim], &r.centres[j * r.dim], r.dim);
            if (d < lowest) {
                lowest = d;
                best = j;
            }
        }
        const double mine = distance2(&r.x[i * r.dim], &r.centres[a.labels[i] * r.dim], r.dim);
        ASSERT_LE(mine, lowest * (1 + 1e-13)) << "row " << i << ": " << a.labels[i] << " instead of " << best;
        ASSERT_NEAR(a.dist2[i], lowest, lowest * 1e-6);
    }
}

TEST(Cluster, AssignsTheNearestCentre)
{
    for (const ops *table : present_tables())
        for (int64_t k : {1, 2, 15, 16, 17, 64, 100})
            for (int64_t dim : {1, 3, 16, 33, 128}) {
                Rows r = random_rows(203, k, dim, 1, static_cast<unsigned>(k * 1000 + dim));
                expect_nearest(r, assign(table, r));
            }
}

// Centres that differ by less than the error of a product in float: float64 must decide.
TEST(Cluster, DecidesNearTiesInDouble)
{
    for (const ops *table : present_tables()) {
        Rows r = random_rows(400, 8, 256, 1, 7);
        for (int64_t j = 1; j < r.k; j++)
            for (int64_t d = 0; d < r.dim; d++)
                r.centres[j * r.dim + d] = r.centres[d];
        for (int64_t j = 1; j < r.k; j++)
            r.centres[j * r.dim + j] = std::nextafter(r.centres[j * r.dim + j], j % 2 ? 10.0f : -10.0f);
        expect_nearest(r, assign(table, r));
        for (float &v : r.x)
            v += 1000; // a large common offset: |x|^2 - 2 x.c + |c|^2 alone would lose everything
        for (float &v : r.centres)
            v += 1000;
        expect_nearest(r, assign(table, r));
    }
}

// The error of a product grows with the centre's length: two long centres among short ones, wherever they stand.
TEST(Cluster, DecidesNearTiesOfLongCentresAmongShort)
{
    for (const ops *table : present_tables())
        for (int64_t at : {0, 1, 2, 4, 8, 16}) {
            Rows r = random_rows(200, 64, 96, 1, 8);
            float *one = &r.centres[at * r.dim], *other = &r.centres[(at + 32) * r.dim];
            for (int64_t d = 0; d < r.dim; d++) {
                one[d] *= 1000;
                other[d] = d == at ? std::nextafter(one[d], 0.0f) : one[d];
                for (int64_t i = 0; i < r.n; i++)
                    r.x[i * r.dim + d] += one[d];
            }
            expect_nearest(r, assign(table, r));
        }
}

TEST(Cluster, GivesTiesToTheLowestCentre)
{
    for (const ops *table : present_tables()) {
        Rows r = random_rows(50, 40, 20, 1, 8);
        for (int64_t j = 1; j < r.k; j++)
            std::copy_n(r.centres.begin(), r.dim, r.centres.begin() + j * r.dim);
        for (int32_t label : assign(table, r).labels)
            ASSERT_EQ(label, 0);
    }
}

TEST(Cluster, SurvivesValuesWhoseProductsOverflow)
{
    for (const ops *table : present_tables()) {
        Rows r = random_rows(30, 5, 8, 1, 9);
        for (int64_t d = 0; d < r.dim; d++)
            r.x[3 * r.dim + d] = 1e30f, r.centres[2 * r.dim + d] = 9e29f;
        Assigned a = assign(table, r);
        EXPECT_EQ(a.labels[3], 2);
        for (int64_t i = 0; i < r.n; i++)
            if (i != 3) {
                EXPECT_NE(a.labels[i], 2);
            }
    }
}

// Enough rows, and columns that fall off, so that a table may stop its products early: centres that differ in the last
// columns alone, equal ones, a row and a centre that are huge, rows that are all zero, and columns that are.
Rows sloped_rows(int64_t n, int64_t k, int64_t dim)
{
    Rows r = random_rows(n, k, dim, 1, static_cast<unsigned>(k + dim));
    for (int64_t i = 0; i < (n + k) * dim; i++) {
        float &v = i < n * dim ? r.x[i] : r.centres[i - n * dim];
        v = i % dim == 7 ? 0 : v / static_cast<float>(1 + i % dim);
    }
    std::copy_n(&r.centres[3 * dim], dim, &r.centres[5 * dim]);
    std::copy_n(&r.centres[8 * dim], dim, &r.centres[9 * dim]);
    r.centres[9 * dim + dim - 1] = std::nextafter(r.centres[9 * dim + dim - 1], 1.0f);
    for (int64_t d = 0; d < dim; d++) {
        r.x[20 * dim + d] = 0;
        r.x[30 * dim + d] *= 1e12f;
        r.x[40 * dim + d] = r.centres[5 * dim + d];
        r.x[41 * dim + d] = r.centres[9 * dim + d];
    }
    return r;
}

TEST(Cluster, AssignsTheNearestCentreWhereColumnsFallOff)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables())
        for (int64_t k : {32, 50, 64})
            for (int64_t dim : {128, 150}) {
                if (table != cpu_ops() && k * dim > 32 * 128) // one case is enough where threads are emulated
                    continue;
                const Rows r = sloped_rows(1600, k, dim);
                omp_set_num_threads(1);
                const Assigned one = assign(table, r);
                omp_set_num_threads(3);
                const Assigned three = assign(table, r);
                expect_nearest(r, one);
                EXPECT_EQ(one.labels, three.labels);
                EXPECT_EQ(one.dist2, three.dist2);
                EXPECT_EQ(one.labels[40], 3); // the lower of two equal ones
                EXPECT_EQ(one.labels[41], 9);
            }
    omp_set_num_threads(before);
}

// A centre so long that no product with it stays inside of float: every row is decided in double.
TEST(Cluster, AssignsWhereColumnsFallOffAndACentreOverflows)
{
    for (const ops *table : present_tables()) {
        Rows r = sloped_rows(1600, 40, 128);
        for (int64_t d = 0; d < r.dim; d++)
            r.centres[2 * r.dim + d] = 1e30f;
        r.x[50 * r.dim] = 1e30f;
        const std::vector<int32_t> labels = assign(table, r).labels;
        for (int64_t i = 0; i < r.n; i++)
            if (i != 50) {
                ASSERT_NE(labels[i], 2) << i;
            }
    }
}

// Sums of rows as they join and leave, exact: those of one number after the other in any order, here of long double.
struct Sums {
    const ops *table;
    const Rows &r;
    Buffer x, sums, counts, summed;

    Sums(const ops *t, const Rows &rows)
        : table(t), r(rows), x(upload_array(t, rows.x)),
          sums(upload_array(t, std::vector<double>(2 * r.k * r.dim))),
          counts(upload_array(t, std::vector<int64_t>(r.k))),
          summed(upload_array(t, std::vector<int32_t>(r.n, -1)))
    {
    }
    sc_status update(const std::vector<int32_t> &labels, int64_t from, int64_t to, double largest)
    {
        Buffer l = upload_array(table, labels);
        return table->cluster_update(nullptr, sums.as<double>(), counts.as<int64_t>(),
                                     summed.as<int32_t>() + from, exact_grid_of(r.n, largest),
                                     x.as<float>() + from * r.dim, l.as<int32_t>() + from, to - from, r.k,
                                     r.dim);
    }
    // What each cluster's sum is off by, at most, in fine steps; and that counts and labels are right.
    double off(const std::vector<int32_t> &labels, double largest) const
    {
        std::vector<int64_t> n(r.k);
        std::vector<long double> want(r.k * r.dim);
        for (int64_t i = 0; i < r.n; i++) {
            n[labels[i]]++;
            for (int64_t d = 0; d < r.dim; d++)
                want[labels[i] * r.dim + d] += static_cast<long double>(r.x[i * r.dim + d]);
        }
        EXPECT_EQ(counts.array<int64_t>(), n);
        EXPECT_EQ(summed.array<int32_t>(), labels);
        const std::vector<double> got = sums.array<double>();
        const double step = largest * static_cast<double>(r.n) * static_cast<double>(r.n) * 0x1p-104;
        long double worst = 0;
        for (int64_t c = 0; c < r.k * r.dim; c++)
            worst = std::max(worst, std::fabs(static_cast<long double>(got[c]) +
                                              static_cast<long double>(got[r.k * r.dim + c]) - want[c]));
        return static_cast<double>(worst) / step;
    }
};

TEST(Cluster, SumsFollowTheLabels)
{
    for (const ops *table : present_tables()) {
        Rows r = random_rows(500, 7, 130, 3, 10);
        double largest = 0;
        for (float &v : r.x)
            largest = std::max(largest, std::fabs(static_cast<double>(v)));
        Sums some(table, r), all(table, r);
        std::vector<int32_t> labels(r.n), first(r.n);
        for (int64_t i = 0; i < r.n; i++) {
            first[i] = static_cast<int32_t>((i * i) % 6); // 6 of 7: one cluster stays empty,
            labels[i] = i % 3 == 0 ? static_cast<int32_t>(i % 7) : first[i]; // until rows move there
        }
        int64_t from = 0;
        for (int64_t at : {0, 1, 203, 500}) { // none, one row, some, the rest
            ASSERT_OK(some.update(first, from, at, largest));
            from = at;
        }
        EXPECT_LE(some.off(first, largest), r.n);
        ASSERT_OK(some.update(labels, 0, r.n, largest));
        ASSERT_OK(some.update(labels, 0, r.n, largest)); // nothing moves
        ASSERT_OK(all.update(labels, 0, r.n, largest));
        EXPECT_LE(some.off(labels, largest), r.n);
        EXPECT_EQ(some.sums.array<double>(), all.sums.array<double>());
        for (int32_t bad : {-1, 7}) {
            std::vector<int32_t> wrong = labels;
            wrong[11] = bad;
            EXPECT_NE(some.update(wrong, 0, r.n, largest), SC_OK);
        }
    }
}

// One row that is greater by far comes and goes, and the others' sums are what they were; so are those in any order.
TEST(Cluster, SumsAreExactWhateverTheSizes)
{
    std::vector<double> of_first;
    for (const ops *table : present_tables())
        for (float scale : {1e-30f, 1.0f, 1e15f}) {
            Rows r = random_rows(300, 3, 37, 2, 21);
            double largest = 0;
            for (int64_t i = 0; i < r.n * r.dim; i++) {
                r.x[i] *=
                    i / r.dim == 150 ? 1e10f * scale : scale * std::pow(0.1f, static_cast<float>(i % 12));
                largest = std::max(largest, std::fabs(static_cast<double>(r.x[i])));
            }
            std::vector<int32_t> labels(r.n, 2), without(r.n);
            for (int64_t i = 0; i < r.n; i++)
                without[i] = static_cast<int32_t>(i % 2);
            without[150] = 2;
            Sums met(table, r), never(table, r);
            ASSERT_OK(met.update(labels, 0, r.n, largest));
            ASSERT_OK(met.update(without, 0, r.n, largest));
            for (int64_t at = r.n; at > 0; at -= 100) // the last rows first
                ASSERT_OK(never.update(without, at - 100, at, largest));
            EXPECT_EQ(met.sums.array<double>(), never.sums.array<double>());
            EXPECT_LE(met.off(without, largest), r.n);
            if (scale == 1 && of_first.empty())
                of_first = met.sums.array<double>();
            if (scale == 1) {
                EXPECT_EQ(met.sums.array<double>(), of_first) << table->name;
            }
        }
}

// Centres that move, by little and by much: the labels of a full pass, and bounds that hold.
TEST(Cluster, ReassignGivesTheLabelsOfAFullPass)
{
    for (const ops *table : present_tables()) {
        if (!table->cluster_reassign)
            continue;
        for (int64_t k : {1, 2, 16, 60, 61})
            for (int64_t dim : {2, 35, 330}) {
                const bool falls_off = k == 61 && dim == 330;
                Rows r = falls_off ? sloped_rows(1600, k, dim)
                                   : random_rows(517, k, dim, 1, static_cast<unsigned>(k + dim));
                for (int64_t i = 0; i < r.n && !falls_off; i++)
                    for (int64_t d = 0; d < r.dim; d++) // most rows lie near a centre
                        r.x[i * dim + d] =
                            r.centres[(i % k) * dim + d] + (i % 9 ? 0.2f : 1.0f) * r.x[i * dim + d];
                std::vector<float> norms2, zeros(dim);
                for (int64_t i = 0; i < r.n; i++)
                    norms2.push_back(static_cast<float>(distance2(&r.x[i * dim], zeros.data(), dim)));
                std::vector<double> moved(k, 0.0);
                Buffer x = upload_array(table, r.x), n2 = upload_array(table, norms2),
                       mv = upload_array(table, moved);
                Buffer near = upload_array(table, std::vector<double>(r.n, INFINITY));
                Buffer far = upload_array(table, std::vector<double>(r.n, 0.0));
                Buffer labels = upload_array(table, std::vector<int32_t>(r.n, 0));
                Buffer dist2(table, r.n * sizeof(float));
                Buffer work(table, table->cluster_assign_workspace(r.n, r.k, dim));
                cluster_bounds b = {n2.as<float>(), mv.as<double>(), near.as<double>(), far.as<double>()};
                for (float step : {0.0f, 0.001f, 0.05f, 0.0f, 1.0f, 0.01f}) {
                    std::mt19937 random(static_cast<unsigned>(step * 1000));
                    std::normal_distribution<float> normal;
                    for (int64_t j = 0; j < k; j++) {
                        std::vector<float> old(&r.centres[j * dim], &r.centres[j * dim] + dim);
                        for (int64_t d = 0; d < dim; d++)
                            r.centres[j * dim + d] += step * normal(random) * (j % 3 == 0);
                        moved[j] = std::sqrt(distance2(old.data(), &r.centres[j * dim], dim)) * (1 + 1e-12);
                    }
                    mv.upload(moved.data(), moved.size() * sizeof(double));
                    Buffer c = upload_array(table, r.centres);
                    b.moved = mv.as<double>();
                    ASSERT_OK(table->cluster_reassign(nullptr, labels.as<int32_t>(), nullptr, &b,
                                                      x.as<float>(), c.as<float>(), r.n, k, dim, work.get()));
                    const Assigned want = assign(table, r);
                    ASSERT_EQ(labels.array<int32_t>(), want.labels) << k << " " << dim << " " << step;
                    b.moved = nullptr;
                    ASSERT_OK(table->cluster_reassign(nullptr, labels.as<int32_t>(), dist2.as<float>(), &b,
                                                      x.as<float>(), c.as<float>(), r.n, k, dim, work.get()));
                    ASSERT_EQ(labels.array<int32_t>(), want.labels);
                    ASSERT_EQ(dist2.array<float>(), want.dist2);
                    const std::vector<double> most = near.array<double>(), least = far.array<double>();
                    for (int64_t i = 0; i < r.n && k > 1; i++)
                        for (int64_t j = 0; j < k; j++) {
                            const double d = std::sqrt(distance2(&r.x[i * dim], &r.centres[j * dim], dim));
                            if (j == want.labels[i]) {
                                ASSERT_GE(most[i], d) << i;
                            } else {
                                ASSERT_LE(least[i], d) << i << " " << j;
                            }
                        }
                }
            }
    }
}

TEST(Cluster, SoftmaxAndEntropy)
{
    for (const ops *table : present_tables())
        for (int64_t k : {1, 5, 16, 33})
            for (double temperature : {0.01, 1.0, 50.0}) {
                Rows r = random_rows(61, k, 40, 2, static_cast<unsigned>(k));
                Buffer x = upload_array(table, r.x), c = upload_array(table, r.centres);
                Buffer p(table, r.n * k * sizeof(double)), h(table, r.n * sizeof(double));
                Buffer work(table, table->cluster_softmax_workspace(r.n, k, r.dim));
                ASSERT_EQ(table->cluster_softmax(nullptr, p.as<double>(), h.as<double>(), x.as<float>(),
                                                 c.as<float>(), r.n, k, r.dim, temperature, work.get()),
                          SC_OK);
                std::vector<double> ps = p.array<double>(), hs = h.array<double>();
                for (int64_t i = 0; i < r.n; i++) {
                    std::vector<long double> d(k);
                    long double lowest = INFINITY, z = 0, entropy = 0;
                    for (int64_t j = 0; j < k; j++) {
                        d[j] =
                            std::sqrt((long double)distance2(&r.x[i * r.dim], &r.centres[j * r.dim], r.dim));
                        lowest = std::min(lowest, d[j]);
                    }
                    for (int64_t j = 0; j < k; j++)
                        z += std::exp(-(d[j] - lowest) / temperature);
                    for (int64_t j = 0; j < k; j++) {
                        const long double want = std::exp(-(d[j] - lowest) / temperature) / z;
                        ASSERT_NEAR(ps[i * k + j], (double)want, 1e-11);
                        if (want > 0)
                            entropy -= want * std::log(want);
                    }
                    ASSERT_NEAR(hs[i], (double)entropy, 1e-10);
                }
            }
}

TEST(Cluster, SameBytesForAnyNumberOfThreads)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables()) {
        Rows r = random_rows(1003, 37, 70, 1, 12);
        omp_set_num_threads(1);
        Assigned one = assign(table, r);
        omp_set_num_threads(3);
        Assigned three = assign(table, r);
        EXPECT_EQ(one.labels, three.labels);
        EXPECT_EQ(one.dist2, three.dist2);
    }
    omp_set_num_threads(before);
}

} // namespace
