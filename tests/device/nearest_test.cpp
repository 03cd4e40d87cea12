// nearest_update: squared distances to the nearest of a growing list of centres are exact in double.
#include <omp.h>

#include "fixture.h"

namespace
{

struct Side {
    std::vector<float> x, centred;
    std::vector<double> norms;
};

Side side(int64_t n, int64_t dim, unsigned seed, float mean, float scale = 1)
{
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Side s;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t d = 0; d < dim; d++) {
            s.x.push_back(mean + scale * normal(random));
            s.centred.push_back(s.x.back() - mean);
            sum += double(s.centred.back()) * s.centred.back();
        }
        s.norms.push_back(std::sqrt(sum));
    }
    return s;
}

struct OnDevice {
    Buffer x, centred, norms;
    OnDevice(const ops *table, const Side &s)
        : x(table, s.x.size() * 4), centred(table, s.centred.size() * 4), norms(table, s.norms.size() * 8)
    {
        x.upload(s.x.data(), s.x.size() * 4);
        centred.upload(s.centred.data(), s.centred.size() * 4);
        norms.upload(s.norms.data(), s.norms.size() * 8);
    }
    nearest_rows rows() const
    {
        return {x.as<float>(), centred.as<float>(), norms.as<double>()};
    }
};

TEST(Nearest, IsTheSmallestDistance)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables())
        for (int64_t dim : {1, 7, 8, 64, 201})
            for (float mean : {0.0f, 300.0f}) { // a large mean takes the digits of a product that keeps it
                const int64_t n = 300, k = 37;
                const Side rows = side(n, dim, 1, mean);
                Side centres = side(k, dim, 2, mean);
                std::copy_n(rows.x.begin() + 5 * dim, dim, centres.x.begin() + 9 * dim); // row 5 is centre 9
                std::copy_n(rows.centred.begin() + 5 * dim, dim, centres.centred.begin() + 9 * dim);
                centres.norms[9] = rows.norms[5];
                std::vector<int32_t> from;
                std::vector<double> start;
                for (int64_t i = 0; i < n; i++) {
                    from.push_back(i == 5 ? 0 : int32_t(i * 7 % (k + 1)));
                    start.push_back(i % 3 == 0 ? 1e300 : double(dim) * (i % 5));
                }
                const OnDevice dr(table, rows), dc(table, centres);
                const nearest_rows r = dr.rows(), c = dc.rows();
                Buffer df(table, from.size() * 4), dd(table, start.size() * 8);
                df.upload(from.data(), from.size() * 4);
                std::vector<double> got[2];
                for (int run = 0; run < 2; run++) {
                    omp_set_num_threads(run == 0 ? 1 : 3);
                    dd.upload(start.data(), start.size() * 8);
                    ASSERT_OK(
                        table->nearest_update(nullptr, dd.as<double>(), &r, n, &c, df.as<int32_t>(), k, dim));
                    got[run] = dd.array<double>();
                }
                EXPECT_EQ(got[0], got[1]);
                EXPECT_EQ(got[0][5], 0);
                for (int64_t i = 0; i < n; i++) {
                    long double want = start[i];
                    for (int64_t j = from[i]; j < k; j++) {
                        long double sum = 0;
                        for (int64_t d = 0; d < dim; d++) {
                            const long double diff =
                                (long double)rows.x[i * dim + d] - centres.x[j * dim + d];
                            sum += diff * diff;
                        }
                        want = std::min(want, sum);
                    }
                    ASSERT_NEAR(got[0][i], double(want), 1e-13 * double(want)) << i;
                }
            }
    omp_set_num_threads(before);
}

// What is known of the ways between centres spares products, and changes no distance; the owner is the nearest.
TEST(Nearest, CentresApartSpareNothingThatCounts)
{
    const int before = omp_get_max_threads();
    for (const ops *table : present_tables()) {
        if (!table->nearest_update_apart)
            continue;
        for (int64_t dim : {1, 8, 33}) {
            const int64_t n = 90, k = 40, known = 31, capacity = 50;
            const Side rows = side(n, dim, 5, 0), centres = side(k, dim, 6, 0, 3);
            std::vector<float> apart(capacity * (capacity - 1) / 2);
            for (int64_t a = 0; a < known; a++)
                for (int64_t b = a + 1; b < known; b++) {
                    double sum = 0;
                    for (int64_t d = 0; d < dim; d++)
                        sum += std::pow(double(centres.x[a * dim + d]) - centres.x[b * dim + d], 2);
                    apart[a * (2 * capacity - a - 1) / 2 + b - a - 1] = float(std::sqrt(sum) * (1 - 1e-6));
                }
            std::vector<int32_t> from;
            for (int64_t i = 0; i < n; i++)
                from.push_back(int32_t(i % 4 == 0 ? 0 : i % (k + 1)));
            const OnDevice dr(table, rows), dc(table, centres);
            const nearest_rows r = dr.rows(), c = dc.rows();
            Buffer df = upload_array(table, from), da = upload_array(table, apart);
            Buffer plain = upload_array(table, std::vector<double>(n, INFINITY));
            ASSERT_OK(
                table->nearest_update(nullptr, plain.as<double>(), &r, n, &c, df.as<int32_t>(), k, dim));
            const centres_apart ways = {da.as<float>(), capacity, known};
            for (int threads : {1, 3}) {
                omp_set_num_threads(threads);
                Buffer dd = upload_array(table, std::vector<double>(n, INFINITY));
                Buffer owner = upload_array(table, std::vector<int32_t>(n, -1));
                ASSERT_OK(table->nearest_update_apart(nullptr, dd.as<double>(), owner.as<int32_t>(), &r, n,
                                                      &c, &ways, df.as<int32_t>(), k, dim));
                EXPECT_EQ(dd.array<double>(), plain.array<double>());
                const std::vector<int32_t> owners = owner.array<int32_t>();
                for (int64_t i = 0; i < n; i++) {
                    int32_t want = -1;
                    double nearest = INFINITY;
                    for (int64_t j = from[i]; j < k; j++) {
                        double sum = 0;
                        for (int64_t d = 0; d < dim; d++)
                            sum += std::pow(double(rows.x[i * dim + d]) - centres.x[j * dim + d], 2);
                        if (sum < nearest) {
                            nearest = sum;
                            want = int32_t(j);
                        }
                    }
                    ASSERT_EQ(owners[i], want) << i;
                }
            }
        }
    }
    omp_set_num_threads(before);
}

TEST(Nearest, BeyondTheRangeOfFloat)
{
    for (const ops *table : present_tables()) {
        const Side rows = side(4, 16, 3, 0, 1e25f), centres = side(9, 16, 4, 0, 1e25f);
        const OnDevice dr(table, rows), dc(table, centres);
        const nearest_rows r = dr.rows(), c = dc.rows();
        const std::vector<int32_t> from(4, 0);
        const std::vector<double> start(4, INFINITY);
        Buffer df(table, 16), dd(table, 32);
        df.upload(from.data(), 16);
        dd.upload(start.data(), 32);
        ASSERT_OK(table->nearest_update(nullptr, dd.as<double>(), &r, 4, &c, df.as<int32_t>(), 9, 16));
        for (double d2 : dd.array<double>()) {
            EXPECT_GT(d2, 1e50);
            EXPECT_TRUE(std::isfinite(d2));
        }
    }
}

} // namespace
