// Factors of users and items, and rows joined of several parts.
#include <omp.h>

#include <filesystem>
#include <numeric>

#include "fixture.h"

extern "C" {
#include "formats/npy.h"
#include "select/als.h"
#include "select/views.h"
}

namespace
{

const als_options SETTINGS = {6, 20, 40, 0.5, 3};

// Two groups of users, each of which met items of its own half; user 19 and item 0 are in nothing.
std::vector<interaction> two_groups()
{
    std::vector<interaction> in;
    for (int32_t u = 0; u < 19; u++)
        for (int32_t i = 1; i < 16; i++)
            if ((i % 2 == u % 2) && (u * 7 + i * 3) % 4 != 0)
                in.push_back({u, i, 1});
    return in;
}

struct Factors {
    Floats users = Floats(20 * 6, 9), items = Floats(16 * 6, 9);
    std::vector<uint8_t> user_seen = std::vector<uint8_t>(20, 9), item_seen = std::vector<uint8_t>(16, 9);
};

Factors fit(const std::vector<interaction> &in, const als_options &o, sc_status want = SC_OK)
{
    Factors f;
    EXPECT_EQ(als_fit(in.data(), in.size(), 20, 16, &o, f.users.data(), f.items.data(), f.user_seen.data(),
                      f.item_seen.data()),
              want)
        << sc_last_error();
    return f;
}

TEST(Als, TheLastSideSolvesItsEquations)
{
    const std::vector<interaction> in = two_groups();
    const Factors f = fit(in, SETTINGS);
    for (int item = 1; item < 16; item++)
        for (int p = 0; p < 6; p++) {
            double residual = SETTINGS.regularisation * f.items[item * 6 + p], size = 0;
            for (int u = 0; u < 20; u++) {
                const bool met = std::any_of(in.begin(), in.end(), [&](const interaction &x) {
                    return x.user == u && x.item == item;
                });
                double dot = 0;
                for (int q = 0; q < 6; q++)
                    dot += (double)f.users[u * 6 + q] * f.items[item * 6 + q];
                const double term = (met ? 41 : 1) * (dot - met) * f.users[u * 6 + p];
                residual += term;
                size += std::fabs(term);
            }
            ASSERT_NEAR(residual, 0, 1e-5 * (size + 1)) << item;
        }
}

TEST(Als, FindsTheGroupsAndWhoIsInNone)
{
    const Factors f = fit(two_groups(), SETTINGS);
    const auto score = [&](int u, int i) {
        return std::inner_product(&f.users[u * 6], &f.users[u * 6] + 6, &f.items[i * 6], 0.0);
    };
    double own = 0, other = 0;
    for (int u = 0; u < 19; u++)
        for (int i = 1; i < 16; i++)
            (i % 2 == u % 2 ? own : other) += score(u, i);
    EXPECT_GT(own / 142, 0.45); // half of them are interactions
    EXPECT_LT(other / 143, 0.2);
    EXPECT_EQ(f.user_seen[19], 0);
    EXPECT_EQ(f.item_seen[0], 0);
    EXPECT_EQ(std::accumulate(f.user_seen.begin(), f.user_seen.end(), 0), 19);
    EXPECT_EQ(std::accumulate(f.item_seen.begin(), f.item_seen.end(), 0), 15);
    for (int p = 0; p < 6; p++)
        EXPECT_EQ(f.users[19 * 6 + p] == 0 && f.items[p] == 0, true);
}

TEST(Als, TheSameBytesForAnyThreads)
{
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    const Factors one = fit(two_groups(), SETTINGS);
    omp_set_num_threads(3);
    const Factors three = fit(two_groups(), SETTINGS);
    omp_set_num_threads(before);
    EXPECT_EQ(one.users, three.users);
    EXPECT_EQ(one.items, three.items);
}

TEST(Als, RefusesWhatIsOutside)
{
    als_options o = SETTINGS;
    fit({{0, 16, 1}}, o, SC_BAD_INPUT);
    fit({{-1, 1, 1}}, o, SC_BAD_INPUT);
    o.factors = 0;
    fit({}, o, SC_USAGE);
    o.factors = 513;
    fit({}, o, SC_USAGE);
}

TEST(View, NamesParts)
{
    unsigned parts;
    ASSERT_EQ(view_parse("semantic", &parts), SC_OK);
    EXPECT_EQ(parts, 0u);
    ASSERT_EQ(view_parse("metadata", &parts), SC_OK);
    EXPECT_EQ(parts, (unsigned)VIEW_METADATA);
    ASSERT_EQ(view_parse("semantic+metadata+user", &parts), SC_OK);
    EXPECT_EQ(parts, (unsigned)(VIEW_METADATA | VIEW_USER));
    for (const char *bad : {"", "+", "users", "semantic+", "semantic,user", "user+meta"})
        EXPECT_EQ(view_parse(bad, &parts), SC_USAGE) << bad;
}

class Joined : public testing::Test
{
  protected:
    static constexpr int64_t N = 40, DIM = 5, ITEMS = 16, WIDE = 3;
    void SetUp() override
    {
        char name[] = "/tmp/seedcorn-view-XXXXXX";
        folder_ = mkdtemp(name);
        path_ = folder_ + "/items.npy";
        for (int64_t i = 0; i < N; i++) {
            reviews_[i].item = i == 7 ? -1 : (int32_t)(i % ITEMS);
            reviews_[i].user = i < 2 ? -1 : (int32_t)(i % 20);
        }
        data_.reviews = reviews_.data(), data_.n_reviews = N, data_.n_items = ITEMS, data_.n_users = 20;
        data_.interactions = interactions_.data(), data_.n_interactions = interactions_.size();
        data_.path = folder_.data();
        base_.x = x_.x.data(), base_.n = N, base_.dim = DIM;
        write_items(ITEMS);
        o_ = sc_select_default();
        o_.item_embeddings = path_.c_str();
        o_.factors = 6;
    }
    void TearDown() override
    {
        std::filesystem::remove_all(folder_);
    }
    void write_items(int64_t n)
    {
        const int64_t shape[2] = {n, WIDE};
        ASSERT_EQ(npy_write(path_.c_str(), NPY_F4, 2, shape, items_.x.data()), SC_OK);
    }
    // Root mean square distance from the mean, of some columns of the joined rows.
    static double spread(const view &v, int64_t first, int64_t width,
                         const std::function<bool(int64_t)> &counts)
    {
        double squares = 0, n = 0;
        std::vector<double> mean(width);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t i = 0; i < v.n; i++)
                for (int64_t d = 0; counts(i) && d < width; d++) {
                    const double value = v.x[i * v.dim + first + d];
                    if (pass == 0)
                        mean[d] += value, n += d == 0;
                    else
                        squares += std::pow(value - mean[d] / n, 2);
                }
        return std::sqrt(squares / n);
    }
    std::string folder_, path_;
    std::vector<review> reviews_ = std::vector<review>(N);
    std::vector<interaction> interactions_ = two_groups();
    Data x_ = normal_rows("reviews", N, DIM, 61), items_ = normal_rows("items", 20, WIDE, 62, [](Data &d) {
                                                      for (float &v : d.x)
                                                          v = 30 * v + 500;
                                                  });
    dataset data_ = {};
    features base_ = {};
    sc_select_options o_;
};

TEST_F(Joined, SemanticIsWhatItIs)
{
    view v = {};
    ASSERT_EQ(view_make(&o_, 0, &data_, &base_, &v), SC_OK);
    EXPECT_EQ(v.x, base_.x);
    EXPECT_EQ(v.dim, DIM);
    view_free(&v);
}

TEST_F(Joined, PartsCountAsMuchAsTheirWeightsSay)
{
    view v = {};
    o_.metadata_weight = 0.5;
    o_.user_weight = 2;
    ASSERT_EQ(view_make(&o_, VIEW_METADATA | VIEW_USER, &data_, &base_, &v), SC_OK) << sc_last_error();
    ASSERT_EQ(v.dim, DIM + WIDE + 12);
    EXPECT_EQ(v.n_unknown_users, 4); // rows 0 and 1, and two of user 19
    EXPECT_EQ(v.n_unknown_items, 4); // row 7, and three of item 0
    const auto every = [](int64_t) { return true; };
    const double own = spread(v, 0, DIM, every);
    EXPECT_NEAR(spread(v, DIM, WIDE, [](int64_t i) { return i != 7; }), 0.5 * own, 1e-5 * own);
    const auto user = [&](int64_t i) { return reviews_[i].user >= 0 && reviews_[i].user != 19; };
    const auto item = [&](int64_t i) { return reviews_[i].item > 0; };
    EXPECT_NEAR(std::hypot(spread(v, DIM + WIDE, 6, user), spread(v, DIM + WIDE + 6, 6, item)), 2 * own,
                1e-5 * own);
    for (int64_t d = 0; d < DIM; d++)
        EXPECT_EQ(v.x[7 * v.dim + d], x_.x[7 * DIM + d]);
    for (int64_t d = 0; d < WIDE; d++) { // unknown: the mean of the others
        double mean = 0;
        for (int64_t i = 0; i < N; i++)
            mean += i == 7 ? 0 : (double)v.x[i * v.dim + DIM + d] / (N - 1);
        EXPECT_NEAR(v.x[7 * v.dim + DIM + d], mean, 1e-4 * std::fabs(mean));
    }
    view_free(&v);
}

TEST_F(Joined, AllAlikeAddsNothing)
{
    std::fill(items_.x.begin(), items_.x.end(), 4.0f);
    write_items(ITEMS);
    view v = {};
    ASSERT_EQ(view_make(&o_, VIEW_METADATA, &data_, &base_, &v), SC_OK);
    EXPECT_EQ(spread(v, DIM, WIDE, [](int64_t) { return true; }), 0);
    view_free(&v);
}

TEST_F(Joined, SaysWhatIsMissing)
{
    view v = {};
    write_items(ITEMS - 1);
    EXPECT_EQ(view_make(&o_, VIEW_METADATA, &data_, &base_, &v), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("16 items"), std::string::npos) << sc_last_error();
    o_.item_embeddings = nullptr;
    EXPECT_EQ(view_make(&o_, VIEW_METADATA, &data_, &base_, &v), SC_USAGE);
    o_.user_weight = NAN;
    EXPECT_EQ(view_make(&o_, VIEW_USER, &data_, &base_, &v), SC_USAGE);
    o_.user_weight = 1;
    o_.factors = 0;
    EXPECT_EQ(view_make(&o_, VIEW_USER, &data_, &base_, &v), SC_USAGE);
    o_.factors = 6;
    data_.n_interactions = 0;
    EXPECT_EQ(view_make(&o_, VIEW_USER, &data_, &base_, &v), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("no interactions"), std::string::npos);
}

} // namespace
