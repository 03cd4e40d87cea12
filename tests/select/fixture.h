// Data sets that selection finds hard, and strategies run on them.
#ifndef SC_TESTS_SELECT_FIXTURE_H
#define SC_TESTS_SELECT_FIXTURE_H

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

extern "C" {
#include "data/dataset.h"
#include "select/features.h"
#include "select/kmeans.h"
#include "select/order.h"
#include "select/strategy.h"
}

using Floats = std::vector<float>;

struct Data {
    std::string name;
    int64_t n, dim;
    Floats x;
};

inline Data normal_rows(
    const std::string &name, int64_t n, int64_t dim, unsigned seed,
    const std::function<void(Data &)> &change = [](Data &) {})
{
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Data d{name, n, dim, Floats(n * dim)};
    for (float &v : d.x)
        v = normal(random);
    change(d);
    return d;
}

// Two groups of users, each of which met items of its own half; user 19 and item 0 are in nothing.
inline std::vector<interaction> two_groups()
{
    std::vector<interaction> in;
    for (int32_t u = 0; u < 19; u++)
        for (int32_t i = 1; i < 16; i++)
            if ((i % 2 == u % 2) && (u * 7 + i * 3) % 4 != 0)
                in.push_back({u, i, 1});
    return in;
}

inline void unit_norms(Data &d)
{
    for (int64_t i = 0; i < d.n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < d.dim; j++)
            sum += (double)d.x[i * d.dim + j] * d.x[i * d.dim + j];
        for (int64_t j = 0; j < d.dim; j++)
            d.x[i * d.dim + j] /= (float)std::sqrt(sum);
    }
}

inline std::vector<Data> all_data()
{
    return {
        normal_rows("random", 120, 12, 1),
        normal_rows("unit norms", 120, 12, 2, unit_norms),
        normal_rows("duplicates", 90, 8, 3,
                    [](Data &d) {
                        for (int64_t i = 30; i < d.n; i++)
                            std::copy_n(d.x.begin() + (i % 30) * d.dim, d.dim, d.x.begin() + i * d.dim);
                    }),
        normal_rows("collinear", 60, 6, 4,
                    [](Data &d) {
                        for (int64_t i = 1; i < d.n; i++)
                            for (int64_t j = 0; j < d.dim; j++)
                                d.x[i * d.dim + j] = d.x[j] * (float)(i % 7 + 1);
                    }),
        normal_rows("constant columns", 80, 10, 5,
                    [](Data &d) {
                        for (int64_t i = 0; i < d.n; i++)
                            d.x[i * d.dim] = 100, d.x[i * d.dim + 1] = -30;
                    }),
        normal_rows("one huge row", 80, 9, 6,
                    [](Data &d) {
                        for (int64_t j = 0; j < d.dim; j++)
                            d.x[40 * d.dim + j] *= 1e4f;
                    }),
        normal_rows("more columns than rows", 15, 40, 7),
        normal_rows("one row", 1, 3, 8),
        normal_rows("zeros", 20, 4, 9, [](Data &d) { std::fill(d.x.begin(), d.x.end(), 0.0f); }),
    };
}

// More rows than a pool holds.
inline std::vector<Data> many_rows()
{
    const int64_t n = 2600, dim = 12;
    auto groups = [](Data &d) {
        for (int64_t i = 0; i < d.n; i++)
            for (int64_t j = 0; j < d.dim; j++)
                d.x[i * d.dim + j] = 0.3f * d.x[i * d.dim + j] + (float)((i * 7 + j * (i % 40)) % 11) - 5;
    };
    return {
        normal_rows("random", n, dim, 21),
        normal_rows("unit norms", n, dim, 22, unit_norms),
        normal_rows("groups", n, dim, 23, groups),
        normal_rows("groups of unit norm", n, dim, 24,
                    [&](Data &d) {
                        groups(d);
                        unit_norms(d);
                    }),
        normal_rows("two directions large", n, dim, 25,
                    [](Data &d) {
                        for (int64_t i = 0; i < d.n; i++)
                            d.x[i * d.dim] = d.x[i * d.dim] * 3 + 200, d.x[i * d.dim + 1] -= 90;
                    }),
        normal_rows("thirty rows over and over", n, dim, 26,
                    [](Data &d) {
                        for (int64_t i = 30; i < d.n; i++)
                            std::copy_n(d.x.begin() + (i * 13 % 30) * d.dim, d.dim, d.x.begin() + i * d.dim);
                    }),
        normal_rows("one row over and over", n, dim, 27,
                    [](Data &d) {
                        for (int64_t i = 1; i < d.n; i++)
                            std::copy_n(d.x.begin(), d.dim, d.x.begin() + i * d.dim);
                    }),
        normal_rows("some huge rows", n, dim, 28,
                    [](Data &d) {
                        for (int64_t i = 5; i < d.n; i += 500)
                            for (int64_t j = 0; j < d.dim; j++)
                                d.x[i * d.dim + j] *= 1e5f;
                    }),
    };
}

inline device *open_device(int threads)
{
    sc_common common = sc_common_default();
    common.device = "cpu";
    common.threads = threads;
    device *d = nullptr;
    EXPECT_EQ(device_open(&common, &d), SC_OK) << sc_last_error();
    return d;
}

inline std::vector<selection_pick> run(const char *name, selection_task task, int threads,
                                       const std::vector<uint8_t> &excluded = {}, const sc_cap *cap = nullptr,
                                       const std::vector<double> &costs = {}, double budget_cost = 0)
{
    const strategy *s = nullptr;
    EXPECT_EQ(strategy_find(name, &s), SC_OK);
    device *d = open_device(threads);
    task.device = d;
    std::vector<selection_pick> picks(task.budget);
    limits l = {};
    int64_t n = 0;
    EXPECT_EQ(limits_open(&l, task.n, excluded.empty() ? nullptr : excluded.data(), cap, cap ? 1 : 0), SC_OK)
        << sc_last_error();
    for (int64_t g = 0; g < task.n_given; g++)
        limits_take(&l, task.given[g]);
    if (!costs.empty()) {
        EXPECT_EQ(limits_set_budget(&l, costs.data(), budget_cost), SC_OK) << sc_last_error();
        task.budget = std::min(task.budget, limits_room(&l));
    }
    task.limits = &l;
    if (l.n_open == 0) {
        limits_close(&l);
        device_close(d);
        return {};
    }
    EXPECT_EQ(s->run(&task, picks.data(), &n), SC_OK) << sc_last_error();
    EXPECT_TRUE(n == task.budget || l.n_open == 0);
    picks.resize(n);
    limits_close(&l);
    device_close(d);
    return picks;
}

inline void expect_same(const std::vector<selection_pick> &a, const std::vector<selection_pick> &b)
{
    ASSERT_EQ(a.size(), b.size());
    for (size_t t = 0; t < a.size(); t++) {
        ASSERT_EQ(a[t].row, b[t].row) << "pick " << t;
        ASSERT_EQ(a[t].score, b[t].score) << "pick " << t;
        ASSERT_EQ(a[t].objective, b[t].objective) << "pick " << t;
    }
}

#endif
