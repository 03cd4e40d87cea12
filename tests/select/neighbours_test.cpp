// The rows most like each row, against all pairs in double.
#include "fixture.h"

extern "C" {
#include "select/cosine.h"
#include "select/neighbours.h"
}

namespace
{

void expect_neighbours(const Data &d, int64_t k)
{
    SCOPED_TRACE(d.name + ", " + std::to_string(k));
    std::vector<int32_t> rows[2];
    std::vector<float> cosines[2];
    for (int threads : {1, 2}) {
        device *dev = open_device(threads);
        rows[threads - 1].resize(d.n * k);
        cosines[threads - 1].resize(d.n * k);
        ASSERT_EQ(neighbours_find(dev, d.x.data(), d.n, d.dim, k, rows[threads - 1].data(),
                                  cosines[threads - 1].data()),
                  SC_OK);
        device_close(dev);
    }
    EXPECT_EQ(rows[0], rows[1]);
    EXPECT_EQ(cosines[0], cosines[1]);
    std::vector<double> norms(d.n);
    cosine_norms(d.x.data(), d.n, d.dim, norms.data());
    for (int64_t i = 0; i < d.n; i++) {
        std::vector<std::pair<double, int32_t>> all;
        for (int32_t j = 0; j < d.n; j++)
            all.push_back({i == j ? -1
                                  : -std::min(1.0, cosine_exact(&d.x[i * d.dim], norms[i], &d.x[j * d.dim],
                                                                norms[j], d.dim)),
                           j});
        std::sort(all.begin(), all.end());
        for (int64_t q = 0; q < k; q++) {
            ASSERT_EQ(rows[0][i * k + q], all[q].second) << i << " " << q;
            ASSERT_EQ(cosines[0][i * k + q], (float)-all[q].first);
        }
    }
}

TEST(Neighbours, AreThoseOfAllPairs)
{
    for (const Data &d : all_data())
        for (int64_t k : {int64_t{1}, (d.n + 2) / 3, d.n})
            expect_neighbours(d, k);
    for (const Data &d :
         many_rows()) // more than a block of rows or columns, and more equal ones than are kept
        expect_neighbours(d, 10);
}

} // namespace
