#include "support.h"

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"

namespace
{

struct Heard {
    std::vector<std::pair<sc_log_level, std::string>> messages;
    std::vector<sc_progress> reports; /* the texts are not valid later */
    std::vector<std::string> notes;
};

void hear(void *user, sc_log_level level, const char *message)
{
    static_cast<Heard *>(user)->messages.emplace_back(level, message);
}

void hear_progress(void *user, const sc_progress *progress)
{
    static_cast<Heard *>(user)->reports.push_back(*progress);
    static_cast<Heard *>(user)->notes.emplace_back(progress->note);
}

class Log : public ::testing::Test
{
  protected:
    void TearDown() override
    {
        sc_log_set(nullptr, nullptr, SC_LOG_DEBUG);
        sc_progress_set(nullptr, nullptr);
        sc_cancel_reset();
    }
    Heard heard;
};

void pause_ms(int ms)
{
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

} // namespace

TEST_F(Log, SilentWithoutACallback)
{
    log_warn("nobody hears %d", 1);
    sc_log_set(hear, &heard, SC_LOG_DEBUG);
    sc_log_set(nullptr, nullptr, SC_LOG_DEBUG);
    log_warn("nobody hears %d", 2);
    EXPECT_TRUE(heard.messages.empty());
}

TEST_F(Log, DropsWhatIsBelowTheLowestLevel)
{
    sc_log_set(hear, &heard, SC_LOG_WARN);
    log_debug("a");
    log_info("b");
    log_warn("c %s", "d\ne");
    ASSERT_EQ(heard.messages.size(), 1u);
    EXPECT_EQ(heard.messages[0].first, SC_LOG_WARN);
    EXPECT_EQ(heard.messages[0].second, "c d\\ne");
}

TEST_F(Log, LongMessagesStayWhole)
{
    sc_log_set(hear, &heard, SC_LOG_DEBUG);
    log_info("%s", std::string(100000, 'x').c_str());
    ASSERT_EQ(heard.messages.size(), 1u);
    EXPECT_EQ(heard.messages[0].second.size(), 100000u);
}

TEST_F(Log, ThreadsSpeakOneAtATime)
{
    sc_log_set(hear, &heard, SC_LOG_DEBUG);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([] {
            for (int i = 0; i < 250; i++)
                log_info("x");
        });
    for (auto &thread : threads)
        thread.join();
    EXPECT_EQ(heard.messages.size(), 1000u);
}

TEST_F(Log, ACallbackMayLogAndSetCallbacks)
{
    static int calls;
    calls = 0;
    sc_log_set(
        [](void *, sc_log_level, const char *) {
            calls++;
            log_warn("from inside");
            sc_log_set(nullptr, nullptr, SC_LOG_DEBUG);
        },
        nullptr, SC_LOG_DEBUG);
    log_warn("once");
    log_warn("twice");
    EXPECT_EQ(calls, 1);
}

TEST_F(Log, ProgressIsThrottledAndEndsOnce)
{
    sc_progress_set(hear_progress, &heard);
    auto start = std::chrono::steady_clock::now();
    progress *p = progress_begin("embed", "reviews", 1000);
    for (int i = 0; i < 1000; i++) {
        progress_add(p, 1);
        if (i % 4 == 0)
            pause_ms(1);
    }
    progress_end(p);
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ASSERT_GE(heard.reports.size(), 3u);
    EXPECT_LE(static_cast<double>(heard.reports.size()), seconds * 10 + 2);
    EXPECT_EQ(heard.reports.front().done, 0);
    for (size_t i = 0; i < heard.reports.size(); i++)
        EXPECT_EQ(heard.reports[i].finished, i + 1 == heard.reports.size());
    const sc_progress &last = heard.reports.back();
    EXPECT_EQ(last.done, 1000);
    EXPECT_EQ(last.total, 1000);
    EXPECT_EQ(last.remaining, 0.0);
    EXPECT_NEAR(last.rate, 1000 / last.seconds, 1e-6 * last.rate);
}

TEST_F(Log, RateAndRemainingTimeLeaveOutWhatWasSkipped)
{
    sc_progress_set(hear_progress, &heard);
    progress *p = progress_begin("synth", "requests", 1000000);
    progress_skip(p, 500000);
    pause_ms(120);
    progress_note(p, "cost %.2f", 1.5);
    for (int i = 0; i < 3; i++) {
        pause_ms(110);
        progress_add(p, 1);
    }
    const sc_progress report = heard.reports.back();
    EXPECT_EQ(heard.notes.back(), "cost 1.50");
    EXPECT_EQ(report.done, 500003);
    EXPECT_GT(report.rate, 1.0);
    EXPECT_LT(report.rate, 10.0);
    EXPECT_NEAR(report.remaining, (1000000 - 500003) / report.rate, 1e-6 * report.remaining);
    progress_end(p);
    /* Stopped early: nothing remains of this piece of work. */
    EXPECT_TRUE(heard.reports.back().finished);
}

TEST_F(Log, UnknownTotalHasNoRemainingTime)
{
    sc_progress_set(hear_progress, &heard);
    progress *p = progress_begin("read", "bytes", 0);
    pause_ms(110);
    progress_add(p, 10);
    EXPECT_EQ(heard.reports.back().remaining, -1.0);
    EXPECT_EQ(heard.reports.back().total, 0);
    progress_end(p);
}

TEST_F(Log, ManyThreadsAddUp)
{
    sc_progress_set(hear_progress, &heard);
    progress *p = progress_begin("x", "y", 40000);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([p] {
            for (int i = 0; i < 10000; i++)
                progress_add(p, 1);
        });
    for (auto &thread : threads)
        thread.join();
    progress_end(p);
    EXPECT_EQ(heard.reports.back().done, 40000);
}

TEST_F(Log, NoProgressObjectIsFine)
{
    progress_add(nullptr, 1);
    progress_skip(nullptr, 1);
    progress_note(nullptr, "x");
    progress_end(nullptr);
}

TEST_F(Log, CancelFromASignalHandler)
{
    EXPECT_EQ(check_cancelled(), SC_OK);
    EXPECT_FALSE(sc_cancelled());
    auto before = std::signal(SIGUSR1, [](int) { sc_cancel(); });
    std::raise(SIGUSR1);
    std::signal(SIGUSR1, before);
    EXPECT_TRUE(sc_cancelled());
    EXPECT_EQ(check_cancelled(), SC_INTERRUPTED);
    EXPECT_TRUE(says("kept"));
    sc_cancel_reset();
    EXPECT_EQ(check_cancelled(), SC_OK);
}
