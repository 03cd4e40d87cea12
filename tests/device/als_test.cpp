// als: the Gram matrix and the half-step, against long double, and to the bit the same on every table.
#include <omp.h>

#include "fixture.h"

namespace
{

std::vector<float> normal_floats(int64_t n, unsigned seed)
{
    std::vector<float> out;
    for (double v : random_values(size_t(n), seed))
        out.push_back(float(v));
    return out;
}

// One thread, then three; the bits of the table before, if there was one, have to come again.
template <class T> class SameBits
{
  public:
    void expect(const ops *table, const std::vector<T> &got)
    {
        if (first_.empty()) {
            first_ = got;
            name_ = table->name;
        }
        ASSERT_EQ(first_.size(), got.size());
        EXPECT_EQ(std::memcmp(first_.data(), got.data(), got.size() * sizeof(T)), 0)
            << table->name << " differs from " << name_;
    }
    const std::vector<T> &bits() const
    {
        return first_;
    }

  private:
    std::vector<T> first_;
    std::string name_;
};

class Als : public testing::Test
{
  protected:
    void TearDown() override
    {
        omp_set_num_threads(threads_);
    }

  private:
    const int threads_ = omp_get_max_threads();
};

void run_gram(const ops *table, const std::vector<float> &y, int64_t n, int64_t f, double lambda,
              std::vector<double> *out)
{
    Buffer dy = upload_array(table, y), gram(table, size_t(f * f) * sizeof(double)),
           work(table, table->als_gram_workspace(n, f));
    ASSERT_OK(table->als_gram(nullptr, gram.as<double>(), dy.as<float>(), n, f, lambda, work.get()));
    *out = gram.array<double>();
}

void check_gram(int64_t n, int64_t f)
{
    const std::vector<float> y = normal_floats(n * f, unsigned(n + f));
    SameBits<double> all;
    for (const ops *table : present_tables())
        for (int threads : {1, 3}) {
            std::vector<double> got;
            omp_set_num_threads(threads);
            run_gram(table, y, n, f, 0.25, &got);
            all.expect(table, got);
        }
    for (int64_t i = 0; i < f; i++)
        for (int64_t j = 0; j < f; j++) {
            long double sum = i == j ? 0.25L : 0.0L;
            for (int64_t k = 0; k < n; k++)
                sum += (long double)y[size_t(k * f + i)] * y[size_t(k * f + j)];
            ASSERT_NEAR(all.bits()[size_t(i * f + j)], double(sum), 1e-13 * double(n + 1)) << i << " " << j;
        }
}

TEST_F(Als, GramOfFewRows)
{
    for (int64_t f : {1, 8, 64, 65, 130})
        for (int64_t n : {0, 1, 16, 37})
            check_gram(n, f);
}

TEST_F(Als, GramOfSeveralRuns)
{
    check_gram(ALS_RUN, 3);
    check_gram(2 * ALS_RUN + 17, 5);
}

// The order that the contract names: runs of so many rows, not all rows one after the other.
void check_order(const ops *table, int64_t n, int64_t run)
{
    const std::vector<float> y = normal_floats(n, 8);
    double want = 0;
    for (int64_t at = 0; at < n; at += run) {
        double part = 0;
        for (int64_t k = at; k < n && k < at + run; k++)
            part += double(y[size_t(k)]) * double(y[size_t(k)]);
        want += part;
    }
    std::vector<double> got;
    run_gram(table, y, n, 1, 0.5, &got);
    EXPECT_EQ(got, std::vector<double>{want + 0.5}) << table->name;
}

TEST_F(Als, GramIsSummedByRuns)
{
    for (const ops *table : present_tables())
        check_order(table, 3 * ALS_RUN + 5, ALS_RUN);
}

TEST_F(Als, GramOfManyRowsHasLongerRuns)
{
    const int64_t n = ALS_RUNS * (ALS_RUN + 60) - 9;
    for (const ops *table : present_tables()) {
        EXPECT_EQ(table->als_gram_workspace(int64_t(1) << 40, 64), table->als_gram_workspace(n, 64));
        if (std::string(table->name) != "emu") // half a million rows are too many for it
            check_order(table, n, ALS_RUN + 60);
    }
}

// Who met whom: entity i of lists[i].size() rows.
struct Lists {
    std::vector<int64_t> offsets = {0};
    std::vector<int32_t> others;
    explicit Lists(const std::vector<int64_t> &lengths, int64_t n_others)
    {
        std::mt19937 random(unsigned(lengths.size()));
        for (int64_t length : lengths) {
            for (int64_t k = 0; k < length; k++)
                others.push_back(int32_t(random() % unsigned(n_others)));
            offsets.push_back(int64_t(others.size()));
        }
    }
    int64_t n() const
    {
        return int64_t(offsets.size()) - 1;
    }
};

struct Problem {
    Lists lists;
    int64_t f, n_others;
    double confidence;
    std::vector<float> y = normal_floats(n_others * f, unsigned(f));
    std::vector<double> gram = std::vector<double>(size_t(f * f));
    Problem(const std::vector<int64_t> &lengths, int64_t factors, int64_t rows, double c)
        : lists(lengths, rows), f(factors), n_others(rows), confidence(c)
    {
        for (int64_t k = 0; k < n_others; k++)
            for (int64_t i = 0; i < f; i++)
                for (int64_t j = 0; j < f; j++)
                    gram[size_t(i * f + j)] += double(y[size_t(k * f + i)]) * double(y[size_t(k * f + j)]);
        for (int64_t i = 0; i < f; i++)
            gram[size_t(i * f + i)] += 0.5;
    }
};

constexpr float UNTOUCHED = -7;

void solve(const ops *table, const Problem &p, std::vector<float> *out)
{
    const std::vector<float> before(size_t(p.lists.n() * p.f), UNTOUCHED);
    const size_t work_bytes = table->als_solve_workspace(p.lists.n(), p.f);
    Buffer x = upload_array(table, before), y = upload_array(table, p.y), gram = upload_array(table, p.gram),
           offsets = upload_array(table, p.lists.offsets), others = upload_array(table, p.lists.others),
           guarded(table, std::min(work_bytes, size_t(1) << 20));
    void *work = guarded.get();
    if (work_bytes > size_t(1) << 20) { // too much to be looked through
        ASSERT_OK(table->alloc(&work, work_bytes));
    }
    ASSERT_OK(table->als_solve(nullptr, x.as<float>(), y.as<float>(), gram.as<double>(),
                               offsets.as<int64_t>(), others.as<int32_t>(), p.lists.n(), p.f, p.confidence,
                               work));
    *out = x.array<float>();
    if (work != guarded.get())
        table->release(work);
}

// x of one entity by Gaussian elimination in long double.
std::vector<long double> reference(const Problem &p, int64_t entity)
{
    const size_t f = size_t(p.f);
    std::vector<long double> s(p.gram.begin(), p.gram.end()), b(f);
    for (int64_t at = p.lists.offsets[size_t(entity)]; at < p.lists.offsets[size_t(entity) + 1]; at++) {
        const float *y = &p.y[size_t(p.lists.others[size_t(at)]) * f];
        for (size_t i = 0; i < f; i++) {
            b[i] += (1 + (long double)p.confidence) * y[i];
            for (size_t j = 0; j < f; j++)
                s[i * f + j] += (long double)p.confidence * y[i] * y[j];
        }
    }
    for (size_t q = 0; q < f; q++)
        for (size_t i = q + 1; i < f; i++) {
            const long double scale = s[i * f + q] / s[q * f + q];
            for (size_t j = q; j < f; j++)
                s[i * f + j] -= scale * s[q * f + j];
            b[i] -= scale * b[q];
        }
    for (size_t i = f; i-- > 0;) {
        for (size_t j = i + 1; j < f; j++)
            b[i] -= s[i * f + j] * b[j];
        b[i] /= s[i * f + i];
    }
    return b;
}

void check_solve(const Problem &p)
{
    SameBits<float> all;
    for (const ops *table : present_tables())
        for (int threads : {1, 3}) {
            std::vector<float> got;
            omp_set_num_threads(threads);
            solve(table, p, &got);
            all.expect(table, got);
        }
    for (int64_t i = 0; i < p.lists.n(); i++) {
        const bool met = p.lists.offsets[size_t(i)] < p.lists.offsets[size_t(i) + 1];
        const std::vector<long double> want =
            met ? reference(p, i) : std::vector<long double>(size_t(p.f), UNTOUCHED);
        long double most = 0;
        for (long double v : want)
            most = std::max(most, std::fabs(v));
        for (int64_t d = 0; d < p.f;
             d++) // a float's rounding, and that of a well conditioned system in double
            ASSERT_NEAR(all.bits()[size_t(i * p.f + d)], double(want[size_t(d)]), 1.2e-7 * double(most))
                << "entity " << i << ", factor " << d << " of " << p.f;
    }
}

TEST_F(Als, SolvesEveryEntity)
{
    for (int64_t f : {1, 2, 7, 8, 16, 33, 64})
        check_solve(Problem({3, 0, 1, 17, 0, 40}, f, 30, 40));
}

TEST_F(Als, SolvesWhereSeveralTilesAreNeeded)
{
    for (int64_t f : {65, 128, 130})
        check_solve(Problem({5, 0, 33}, f, f + 30, 3));
}

TEST_F(Als, SolvesForTheMostFactors)
{
    check_solve(Problem({40}, ALS_FACTORS, ALS_FACTORS + 40, 1));
}

TEST_F(Als, ALongListAmongShortOnes)
{
    check_solve(Problem({2, 1500, 0, 1}, 8, 200, 40));
    check_solve(Problem({1025}, 64, 100, 1));
}

TEST_F(Als, ManyEntities)
{
    check_solve(Problem(std::vector<int64_t>(150, 2), 3, 20, 0.5));
    std::vector<int64_t> none(2000, 0);
    none[1999] = 2;
    check_solve(Problem(none, 2, 20, 0.5));
}

// More entities than have memory of their own at once: a block goes on to a second one.
TEST_F(Als, MoreEntitiesThanSlabs)
{
    const int64_t f = 65;
    for (const ops *table : present_tables()) {
        const size_t each = table->als_solve_workspace(1, f),
                     most = table->als_solve_workspace(int64_t(1) << 40, f);
        const int64_t slabs = each > 0 ? int64_t(most / each) : 100;
        std::vector<int64_t> lengths(size_t(slabs) + 6, 0);
        lengths[4] = 9;
        lengths.back() = 20; // that of block 5, too
        lengths[5] = 12;
        const Problem p(lengths, f, 100, 2);
        std::vector<float> got;
        solve(table, p, &got);
        for (int64_t i : {int64_t(4), int64_t(5), slabs + 5}) {
            const std::vector<long double> want = reference(p, i);
            for (int64_t d = 0; d < f; d++)
                ASSERT_NEAR(got[size_t(i * f + d)], double(want[size_t(d)]), 1e-6) << table->name << " " << i;
        }
    }
}

TEST_F(Als, WorkspaceDoesNotGrowWithoutEnd)
{
    for (const ops *table : present_tables())
        for (int64_t f : {1, 64, 65, 512})
            EXPECT_LE(table->als_solve_workspace(int64_t(1) << 40, f), size_t(256) << 20) << table->name;
}

TEST_F(Als, NoEntities)
{
    for (const ops *table : present_tables()) {
        std::vector<float> got;
        solve(table, Problem({}, 4, 3, 1), &got);
        EXPECT_TRUE(got.empty());
    }
}

TEST_F(Als, ShapesThatCannotBe)
{
    for (const ops *table : present_tables())
        for (int64_t f : {0, 513}) {
            EXPECT_EQ(table->als_gram(nullptr, nullptr, nullptr, 1, f, 1, nullptr), SC_INTERNAL);
            EXPECT_EQ(
                table->als_solve(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 1, f, 1, nullptr),
                SC_INTERNAL);
            EXPECT_NE(std::string(sc_last_error()).find("als_solve"), std::string::npos);
        }
}

} // namespace
