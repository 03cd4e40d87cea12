// Rows with everything that any strategy looks at.
#ifndef SC_TESTS_SELECT_EVERYTHING_H
#define SC_TESTS_SELECT_EVERYTHING_H

#include "fixture.h"

struct Everything {
    Data d;
    std::vector<double> p, entropy, surprise;
    std::vector<int32_t> labels, items;
};

inline Everything everything(int64_t n)
{
    const int64_t k = 5;
    Everything e{
        normal_rows("random", n, 6, 51), std::vector<double>(n * k), std::vector<double>(n), {}, {}, {}};
    std::mt19937 random(4), other(5);
    std::uniform_real_distribution<double> uniform;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < k; j++)
            sum += e.p[i * k + j] = std::exp(4 * uniform(random));
        for (int64_t j = 0; j < k; j++) {
            const double p = e.p[i * k + j] /= sum;
            e.entropy[i] -= p * std::log(p);
        }
        e.labels.push_back((int32_t)(i % k));
        e.items.push_back((int32_t)(i * i % 23));
        e.surprise.push_back(uniform(other));
    }
    return e;
}

inline selection_task task_of(const Everything &e, int64_t budget)
{
    selection_task task = {};
    task.x = e.d.x.data(), task.n = e.d.n, task.dim = e.d.dim, task.budget = budget;
    task.p = e.p.data(), task.entropy = e.entropy.data(), task.labels = e.labels.data(), task.k = 5;
    task.items = e.items.data(), task.n_items = 23, task.alpha = 0.4, task.lambda = 0.5, task.seed = 3,
    task.neighbours = 20, task.surprise = e.surprise.data();
    return task;
}

#endif
