// k-means with bounds gives the bytes of the plain loop: labels, centres, iterations, distances.
#include "fixture.h"

#include "seedcorn/kmeans.h"

namespace
{

struct Run {
    int64_t k, iterations, repaired;
    bool converged;
    double inertia;
    Floats centres, dist2;
    std::vector<int32_t> labels;
    bool operator==(const Run &o) const
    {
        return k == o.k && iterations == o.iterations && repaired == o.repaired && converged == o.converged &&
               inertia == o.inertia && centres == o.centres && dist2 == o.dist2 && labels == o.labels;
    }
};

Run cluster(const Data &d, kmeans_options o, bool plain, int threads, bool centre = true)
{
    device *dev = open_device(threads);
    centred c = {};
    device_rows x = {};
    kmeans_result r;
    EXPECT_EQ(features_centre(d.x.data(), d.n, d.dim, &c), SC_OK);
    if (!centre)
        std::copy(d.x.begin(), d.x.end(), c.x);
    EXPECT_EQ(kmeans_rows_open(dev->ops, &c, o.k, &x), SC_OK);
    o.plain = plain;
    EXPECT_EQ(kmeans(&x, &o, &r), SC_OK) << sc_last_error();
    Run out{r.k,
            r.iterations,
            r.repaired,
            r.converged,
            r.inertia,
            Floats(r.centres, r.centres + r.k * d.dim),
            Floats(r.dist2, r.dist2 + d.n),
            std::vector<int32_t>(r.labels, r.labels + d.n)};
    kmeans_free(&r);
    rows_close(&x);
    centred_free(&c);
    device_close(dev);
    return out;
}

void expect_the_plain_loop(const Data &d, int64_t k, uint64_t seed, double tolerance, const float *centres,
                           bool centre = true)
{
    SCOPED_TRACE(d.name + ", k " + std::to_string(k) + ", seed " + std::to_string(seed));
    kmeans_options o = {};
    o.k = k, o.seed = seed, o.tolerance = tolerance, o.centres = centres;
    const Run want = cluster(d, o, true, 1, centre);
    for (int threads : {1, 3})
        EXPECT_TRUE(cluster(d, o, false, threads, centre) == want) << threads << " threads";
    // cut short at any iteration it is the same, too
    for (int64_t limit : {1, 2, 5}) {
        o.max_iterations = limit;
        EXPECT_TRUE(cluster(d, o, false, 2, centre) == cluster(d, o, true, 1, centre)) << limit << " at most";
    }
}

TEST(Lloyd, BoundsChangeNothing)
{
    for (const Data &d : all_data())
        for (int64_t k : {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{16}, d.n})
            for (uint64_t seed : {0, 1})
                expect_the_plain_loop(d, k, seed, seed ? 1e-4 : 0, nullptr);
    for (const Data &d : many_rows())
        for (int64_t k : {3, 33, 400})
            expect_the_plain_loop(d, k, 5, 0, nullptr);
}

// Rows from the data as centres, some of them twice: clusters that are empty at once and have to be given a row.
TEST(Lloyd, BoundsChangeNothingForGivenCentres)
{
    for (const Data &d : many_rows()) {
        Floats centres;
        for (int64_t j = 0; j < 40; j++) {
            const int64_t row = j % 5 == 4 ? 0 : j * 61;
            centres.insert(centres.end(), d.x.begin() + row * d.dim, d.x.begin() + (row + 1) * d.dim);
        }
        expect_the_plain_loop(d, 40, 0, 0, centres.data(), false);
    }
}

TEST(Lloyd, BoundsChangeNothingFarFromTheOrigin)
{
    // rows that are not centred: products lose all their digits, float64 decides everything
    for (float offset : {1e3f, 1e6f}) {
        const Data d = normal_rows("offset", 700, 20, 31, [&](Data &g) {
            for (float &v : g.x)
                v += offset;
        });
        expect_the_plain_loop(d, 9, 1, 0, nullptr, false);
    }
    const Data wide = normal_rows("wide", 500, 700, 32, [](Data &g) {
        for (int64_t i = 0; i < g.n; i++)
            g.x[i * g.dim + i % 3] += 30;
    });
    expect_the_plain_loop(wide, 20, 1, 0, nullptr);
    const Data lattice = normal_rows("lattice", 900, 3, 33, [](Data &g) {
        for (float &v : g.x)
            v = std::round(v); // many rows in the middle between two centres
    });
    for (int64_t k : {2, 8, 27})
        expect_the_plain_loop(lattice, k, 3, 0, nullptr, false);
    const Data large = normal_rows("large", 300, 6, 34, [](Data &g) {
        for (float &v : g.x)
            v *= 1e18f; // squares beyond the range of float
    });
    expect_the_plain_loop(large, 6, 3, 0, nullptr, false);
}

struct Fit {
    Floats centres, dist2;
    std::vector<int32_t> labels;
    std::vector<sc_kmeans_result> results;
};

void expect_equal(const sc_kmeans_result &a, const sc_kmeans_result &b)
{
    EXPECT_EQ(a.clusters, b.clusters);
    EXPECT_EQ(a.inertia, b.inertia);
    EXPECT_EQ(a.iterations, b.iterations);
    EXPECT_EQ(a.repaired, b.repaired);
    EXPECT_EQ(a.converged, b.converged);
}

TEST(KmeansFitMany, IsFitOnEveryProblem)
{
    const Data d = normal_rows("rows", 900, 14, 41, [](Data &g) {
        for (int64_t i = 0; i < g.n; i++)
            g.x[i * g.dim + i % 5] += 4 + (float)(i / 300) * 100; // problems with means of their own
    });
    const std::vector<int64_t> offsets = {0,   600, 601,
                                          640, 645, 900}; // one large, one row, fewer than clusters
    const int64_t n = 5, k = 6;
    for (int threads : {1, 2, 3}) {
        sc_kmeans_options o = sc_kmeans_default();
        o.clusters = k, o.common.threads = threads, o.common.device = "cpu";
        Fit many{Floats(n * k * d.dim), Floats(d.n), std::vector<int32_t>(d.n),
                 std::vector<sc_kmeans_result>(n)};
        ASSERT_EQ(sc_kmeans_fit_many(&o, d.x.data(), offsets.data(), n, d.dim, many.centres.data(),
                                     many.labels.data(), many.dist2.data(), many.results.data()),
                  SC_OK)
            << sc_last_error();
        for (int64_t p = 0; p < n; p++) {
            const int64_t rows = offsets[p + 1] - offsets[p];
            Fit one{Floats(k * d.dim), Floats(rows), std::vector<int32_t>(rows),
                    std::vector<sc_kmeans_result>(1)};
            ASSERT_EQ(sc_kmeans_fit(&o, d.x.data() + offsets[p] * d.dim, rows, d.dim, one.centres.data(),
                                    one.labels.data(), one.dist2.data(), one.results.data()),
                      SC_OK);
            expect_equal(one.results[0], many.results[p]);
            EXPECT_TRUE(
                std::equal(one.centres.begin(), one.centres.end(), many.centres.begin() + p * k * d.dim));
            EXPECT_TRUE(std::equal(one.labels.begin(), one.labels.end(), many.labels.begin() + offsets[p]));
            EXPECT_TRUE(std::equal(one.dist2.begin(), one.dist2.end(), many.dist2.begin() + offsets[p]));
        }
    }
}

TEST(KmeansFitMany, NamesTheProblem)
{
    Data d = normal_rows("rows", 60, 3, 42);
    sc_kmeans_options o = sc_kmeans_default();
    o.clusters = 2;
    Floats start(3 * 2 * 3, 0.5f), centres(3 * 2 * 3);
    const std::vector<int64_t> offsets = {0, 20, 40, 60}, odd = {0, 20, 20, 60};
    start[2 * 6 + 4] = INFINITY, start[6 + 1] = INFINITY;
    o.centres = start.data();
    EXPECT_EQ(
        sc_kmeans_fit_many(&o, d.x.data(), offsets.data(), 3, 3, centres.data(), nullptr, nullptr, nullptr),
        SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("problem 1: the centres: centre 0"), std::string::npos)
        << sc_last_error();
    o.centres = nullptr;
    EXPECT_EQ(sc_kmeans_fit_many(&o, d.x.data(), odd.data(), 3, 3, centres.data(), nullptr, nullptr, nullptr),
              SC_USAGE);
    EXPECT_EQ(
        sc_kmeans_fit_many(&o, d.x.data(), offsets.data(), 0, 3, centres.data(), nullptr, nullptr, nullptr),
        SC_USAGE);
    d.x[50 * 3 + 1] = NAN;
    EXPECT_EQ(
        sc_kmeans_fit_many(&o, d.x.data(), offsets.data(), 3, 3, centres.data(), nullptr, nullptr, nullptr),
        SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("row 50"), std::string::npos) << sc_last_error();
}

TEST(KmeansFit, Bf16RowsAreExactData)
{
    Data d = normal_rows("rows", 400, 9, 43);
    std::vector<uint16_t> half;
    for (float &v : d.x) {
        half.push_back(f32_to_bf16(v));
        v = bf16_to_f32(half.back());
    }
    sc_kmeans_options o = sc_kmeans_default();
    o.clusters = 8;
    Floats centres(72), other(72);
    std::vector<int32_t> labels(400), again(400);
    sc_kmeans_result wide, narrow;
    ASSERT_EQ(sc_kmeans_fit(&o, d.x.data(), 400, 9, centres.data(), labels.data(), nullptr, &wide), SC_OK);
    o.bf16_rows = 1;
    ASSERT_EQ(sc_kmeans_fit(&o, half.data(), 400, 9, other.data(), again.data(), nullptr, &narrow), SC_OK);
    expect_equal(wide, narrow);
    EXPECT_EQ(centres, other);
    EXPECT_EQ(labels, again);
    o.centres = centres.data();
    ASSERT_EQ(sc_kmeans_predict(&o, half.data(), 400, 9, again.data(), nullptr), SC_OK);
    EXPECT_EQ(labels, again);
    half[17 * 9 + 3] = 0xff80;
    EXPECT_EQ(sc_kmeans_predict(&o, half.data(), 400, 9, again.data(), nullptr), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("row 17 (counted from 0) holds infinity at position 3"),
              std::string::npos)
        << sc_last_error();
    o.bf16_rows = 2;
    EXPECT_EQ(sc_kmeans_predict(&o, half.data(), 400, 9, again.data(), nullptr), SC_USAGE);
}

} // namespace
