// What strategies say of their memory against what they take, in a process of their own.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "everything.h"

extern "C" {
#include "select/estimate.h"
}

namespace
{

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) // their memory is not the strategy's
constexpr int64_t N = 300000, DIM = 16, K = 8, BUDGET = 100;

int64_t peak_bytes()
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss * 1024;
}

// The rows' own memory is taken before, and so is that of the limits.
struct Work {
    Data d = normal_rows("random", N, DIM, 61);
    std::vector<double> p = std::vector<double>(N * K, 1.0 / K), entropy = std::vector<double>(N);
    std::vector<int32_t> labels = std::vector<int32_t>(N);
    std::vector<selection_pick> picks = std::vector<selection_pick>(BUDGET);
    limits l = {};
    device *dev = open_device(1);
    selection_task task = {};
    Work()
    {
        std::mt19937 random(3);
        for (int64_t i = 0; i < N; i++) {
            double sum = 0;
            for (int64_t j = 0; j < K; j++)
                sum += p[(size_t)(i * K + j)] = (double)(random() % 1000 + 1);
            for (int64_t j = 0; j < K; j++) {
                const double own = p[(size_t)(i * K + j)] /= sum;
                entropy[(size_t)i] -= own * std::log(own);
            }
        }
        EXPECT_EQ(limits_open(&l, N, nullptr, nullptr, 0), SC_OK);
        std::fill(l.just_closed, l.just_closed + N, 0);
        task.device = dev, task.x = d.x.data(), task.n = N, task.dim = DIM, task.budget = BUDGET;
        task.p = p.data(), task.entropy = entropy.data(), task.labels = labels.data(), task.k = K;
        task.alpha = 0.5, task.lambda = 1, task.limits = &l;
    }
    ~Work()
    {
        limits_close(&l);
        device_close(dev);
    }
};

// What the test below runs in another process; nothing by itself.
TEST(Estimate, InAProcessOfItsOwn)
{
    if (!std::getenv("SEEDCORN_TEST_STRATEGY"))
        return;
    Work w;
    const strategy *s = nullptr;
    ASSERT_EQ(strategy_find(std::getenv("SEEDCORN_TEST_STRATEGY"), &s), SC_OK);
    int64_t n = 0;
    const int64_t before = peak_bytes();
    ASSERT_EQ(s->run(&w.task, w.picks.data(), &n), SC_OK) << sc_last_error();
    ASSERT_EQ(n, BUDGET);
    std::ofstream(std::getenv("SEEDCORN_TEST_OUT")) << peak_bytes() - before;
}

TEST(Estimate, MemoryIsThatOfTheStrategy)
{
    Work w;
    for (const char *name : {"fisher", "js", "kcenter"}) {
        SCOPED_TRACE(name);
        const std::string out = "/tmp/seedcorn-estimate-" + std::to_string(getpid());
        const pid_t child = fork();
        if (child == 0) {
            setenv("SEEDCORN_TEST_STRATEGY", name, 1);
            setenv("SEEDCORN_TEST_OUT", out.c_str(), 1);
            execl("/proc/self/exe", "select_test", "--gtest_filter=Estimate.InAProcessOfItsOwn",
                  "--gtest_brief=1", nullptr);
            _exit(127);
        }
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_EQ(status, 0);
        double taken = 0;
        std::ifstream(out) >> taken;
        unlink(out.c_str());
        const strategy *s = nullptr;
        ASSERT_EQ(strategy_find(name, &s), SC_OK);
        estimate e = {};
        s->plan(&w.task, &e);
        const double said = (double)estimate_bytes(&e);
        RecordProperty(std::string(name) + "_ratio", std::to_string(said / taken));
        EXPECT_GT(said, 4e6);
        EXPECT_LT(said, 1.35 * taken) << taken;
        EXPECT_GT(said, taken / 1.35) << taken;
    }
}

#endif

TEST(Estimate, PhasesFollowEachOther)
{
    estimate e = {};
    estimate_array_add(&e, "always", 10, 8);
    estimate_phase_begin(&e);
    estimate_array_add(&e, "first", 5, 4);
    estimate_resident_add(&e, "first, too", 5, 4);
    estimate_phase_end(&e);
    estimate_resident_add(&e, "always, too", 1, 100);
    estimate_phase_begin(&e);
    estimate_array_add(&e, "second", 30, 1);
    estimate_phase_end(&e);
    EXPECT_EQ(estimate_bytes(&e), 80 + 100 + 40);
    EXPECT_EQ(estimate_device_bytes(&e), 100 + 20);
}

// Every strategy's probes run, on few rows and on many, and leave a time.
TEST(Estimate, EveryStrategyIsMeasured)
{
    int n;
    const strategy *s = strategy_list(&n);
    device *dev = open_device(2);
    for (int64_t rows : {3, 5000})
        for (int i = 0; i < n; i++) {
            SCOPED_TRACE(s[i].name);
            const Everything every = everything(rows);
            limits l = {};
            ASSERT_EQ(limits_open(&l, rows, nullptr, nullptr, 0), SC_OK);
            selection_task task = task_of(every, std::min<int64_t>(rows, 100));
            task.device = dev, task.limits = &l;
            estimate e = {};
            s[i].plan(&task, &e);
            ASSERT_GT(e.n_work, 0);
            ASSERT_EQ(estimate_measure(&e, &task), SC_OK) << sc_last_error();
            for (int k = 0; k < e.n_work; k++) {
                EXPECT_GT(e.work[k].operations, 0) << e.work[k].name;
                EXPECT_GT(e.work[k].seconds, 0) << e.work[k].name;
                EXPECT_LT(e.work[k].seconds, 60) << e.work[k].name;
            }
            EXPECT_GT(estimate_bytes(&e), 0);
            limits_close(&l);
        }
    device_close(dev);
}

} // namespace
