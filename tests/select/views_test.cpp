// Rows joined of several parts.
#include <filesystem>

#include "device/tables.h"
#include "fixture.h"

extern "C" {
#include "formats/npy.h"
#include "select/views.h"
}

namespace
{

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
    ASSERT_EQ(view_make(&o_, 0, &data_, &base_, cpu_ops(), &v), SC_OK);
    EXPECT_EQ(v.x, base_.x);
    EXPECT_EQ(v.dim, DIM);
    view_free(&v);
}

TEST_F(Joined, PartsCountAsMuchAsTheirWeightsSay)
{
    view v = {};
    o_.metadata_weight = 0.5;
    o_.user_weight = 2;
    ASSERT_EQ(view_make(&o_, VIEW_METADATA | VIEW_USER, &data_, &base_, cpu_ops(), &v), SC_OK)
        << sc_last_error();
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

TEST_F(Joined, TheSameBytesOnEveryTable)
{
    view cpu = {};
    ASSERT_EQ(view_make(&o_, VIEW_USER, &data_, &base_, cpu_ops(), &cpu), SC_OK) << sc_last_error();
    for (const ops *table : present_tables()) {
        view v = {};
        ASSERT_EQ(view_make(&o_, VIEW_USER, &data_, &base_, table, &v), SC_OK) << sc_last_error();
        ASSERT_EQ(v.dim, cpu.dim);
        EXPECT_EQ(std::memcmp(v.x, cpu.x, (size_t)(v.n * v.dim) * sizeof *v.x), 0) << table->name;
        view_free(&v);
    }
    view_free(&cpu);
}

TEST_F(Joined, AllAlikeAddsNothing)
{
    std::fill(items_.x.begin(), items_.x.end(), 4.0f);
    write_items(ITEMS);
    view v = {};
    ASSERT_EQ(view_make(&o_, VIEW_METADATA, &data_, &base_, cpu_ops(), &v), SC_OK);
    EXPECT_EQ(spread(v, DIM, WIDE, [](int64_t) { return true; }), 0);
    view_free(&v);
}

TEST_F(Joined, SaysWhatIsMissing)
{
    view v = {};
    write_items(ITEMS - 1);
    EXPECT_EQ(view_make(&o_, VIEW_METADATA, &data_, &base_, cpu_ops(), &v), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("16 items"), std::string::npos) << sc_last_error();
    o_.item_embeddings = nullptr;
    EXPECT_EQ(view_make(&o_, VIEW_METADATA, &data_, &base_, cpu_ops(), &v), SC_USAGE);
    o_.user_weight = NAN;
    EXPECT_EQ(view_make(&o_, VIEW_USER, &data_, &base_, cpu_ops(), &v), SC_USAGE);
    o_.user_weight = 1;
    o_.factors = 0;
    EXPECT_EQ(view_make(&o_, VIEW_USER, &data_, &base_, cpu_ops(), &v), SC_USAGE);
    o_.factors = 6;
    data_.n_interactions = 0;
    EXPECT_EQ(view_make(&o_, VIEW_USER, &data_, &base_, cpu_ops(), &v), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("no interactions"), std::string::npos);
}

} // namespace
