// train through the real tool: its plan against what it then takes, a plan that does not fit, a disk that fills up
// between checkpoints, and the first example in colour.
#include <pty.h>
#include <sys/mount.h>

#include "pipeline/tool.h"

namespace
{

class Training : public testing::Test
{
  protected:
    void SetUp() override
    {
        write_dialogues(folder.file("dialogues.jsonl"), 24);
    }
    std::vector<std::string> command(const std::string &out, const std::vector<std::string> &more) const
    {
        std::vector<std::string> words = {
            "train", "--model", chat_model(), "--dialogues", folder.file("dialogues.jsonl"),
            "--out", out,       "--dtype",    "fp32",        "--threads",
            "1",     "--json"};
        words.insert(words.end(), more.begin(), more.end());
        return words;
    }
    json_t *json(const ToolResult &r)
    {
        json_decref(last);
        last = json_loads(r.out.c_str(), 0, nullptr);
        EXPECT_NE(last, nullptr) << r.out << r.err;
        return last;
    }
    void TearDown() override
    {
        json_decref(last);
    }
    TempFolder folder;
    json_t *last = nullptr;
};

int64_t bytes_of(const json_t *plan)
{
    return json_integer_value(json_object_get(json_object_get(plan, "memory"), "bytes"));
}

} // namespace

// Large ranks, so that the arrays and not the program are most of it.
TEST_F(Training, ThePlanIsWhatTheProcessTakes)
{
    for (const std::string &recompute : {std::string("--no-recompute"), std::string("--recompute")}) {
        std::vector<std::string> words =
            command(folder.file("out" + recompute), {"--rank", "2048", "--epochs", "1", "--micro-batch", "24",
                                                     "--batch-size", "24", recompute});
        words.push_back("--dry-run");
        const ToolResult planned = run_tool(folder, words);
        ASSERT_EQ(planned.code, 0) << planned.err;
        const auto plan = static_cast<double>(bytes_of(json(planned)));
        words.pop_back();
        // AddressSanitizer would keep what has been given back.
        const ToolResult done =
            run_tool(folder, words, [] { setenv("ASAN_OPTIONS", "quarantine_size_mb=1", 1); });
        ASSERT_EQ(done.code, 0) << done.err;
        const auto peak = static_cast<double>(done.peak_bytes);
        EXPECT_GT(plan, 200e6);
        EXPECT_LT(std::fabs(peak - plan), 0.08 * plan) << "planned " << plan << ", took " << peak;
    }
}

// A limit on the process's memory that the plan is above: refused before anything is allocated.
TEST_F(Training, WhatDoesNotFitIsRefusedWithWhatWould)
{
    const auto limited = [] {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) // which reserve terabytes of addresses
        setenv("SEEDCORN_MEMORY", "700000000", 1);
#else
        const struct rlimit limit = {700u << 20, 700u << 20};
        setrlimit(RLIMIT_AS, &limit);
#endif
    };
    const std::string out = folder.file("out");
    const ToolResult r = run_tool(
        folder, command(out, {"--rank", "4096", "--micro-batch", "24", "--batch-size", "24", "--quiet"}),
        limited);
    EXPECT_EQ(r.code, 11) << r.err;
    EXPECT_TRUE(mentions(r.err, "GB are free")) << r.err;
    EXPECT_TRUE(mentions(r.err, "activations")) << r.err;
    EXPECT_TRUE(mentions(r.err, "--recompute takes")) << r.err;
    EXPECT_TRUE(mentions(r.err, "--micro-batch 1 takes")) << r.err;
    EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
    EXPECT_FALSE(std::filesystem::exists(out + "/events.jsonl"));
    const ToolResult plan = run_tool(
        folder, command(out, {"--rank", "4096", "--micro-batch", "24", "--batch-size", "24", "--dry-run"}),
        limited);
    ASSERT_EQ(plan.code, 0) << plan.err;
    EXPECT_TRUE(json_is_false(json_object_get(json_object_get(json(plan), "memory"), "fits"))) << plan.out;
    const ToolResult small = run_tool(folder, command(out, {"--rank", "4", "--epochs", "1"}), limited);
    EXPECT_EQ(small.code, 0) << small.err;
}

TEST_F(Training, ThePlanIsReadable)
{
    std::vector<std::string> words = command(folder.file("out"), {"--dry-run", "--validation-share", "0.2"});
    words.erase(std::find(words.begin(), words.end(), "--json"));
    const ToolResult r = run_tool(folder, words);
    ASSERT_EQ(r.code, 0) << r.err;
    for (const char *part : {"dialogues ", "held back", "steps ", "memory ", "at its peak", "it fits",
                             "activations", "moments", "--recompute", "would write"})
        EXPECT_TRUE(mentions(r.out, part)) << part << " in\n" << r.out;
    EXPECT_FALSE(std::filesystem::exists(folder.file("out")));
}

// The second checkpoint does not fit beside the first: the first is kept whole, and goes on when there is room.
TEST_F(Training, ADiskThatFillsUpBetweenCheckpoints)
{
    const std::vector<std::string> more = {"--rank", "16",           "--epochs", "2",      "--batch-size",
                                           "4",      "--save-every", "1",        "--quiet"};
    const ToolResult whole = run_tool(folder, command(folder.file("whole"), more));
    ASSERT_EQ(whole.code, 0) << whole.err;
    const auto adapter = std::filesystem::file_size(folder.file("whole/adapter_model.safetensors"));
    const std::string place = folder.file("disk"), out = place + "/out";
    std::filesystem::create_directories(place);
    const std::string size =
        "size=" + std::to_string(3 * adapter * 3 / 2); // a checkpoint is three times an adapter
    if (geteuid() != 0 || mount("none", place.c_str(), "tmpfs", 0, size.c_str()) != 0)
        GTEST_SKIP() << "mounting a small file system is not permitted here";
    const ToolResult full = run_tool(folder, command(out, more));
    EXPECT_EQ(full.code, 10) << full.err;
    EXPECT_TRUE(mentions(full.err, "checkpoints/unfinished")) << full.err;
    EXPECT_TRUE(std::filesystem::exists(out + "/checkpoints/step-1/state.json"));
    EXPECT_FALSE(std::filesystem::exists(out + "/checkpoints/unfinished"));
    EXPECT_TRUE(leftovers(out).empty());
    EXPECT_EQ(mount("none", place.c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
    const ToolResult again = run_tool(folder, command(out, more));
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_EQ(json_integer_value(json_object_get(json(again), "first_step")), 1);
    EXPECT_EQ(read_text(out + "/adapter_model.safetensors"),
              read_text(folder.file("whole/adapter_model.safetensors")));
    umount(place.c_str());
}

// No checkpoint could be written at all: the code, the place, and nothing half-done.
TEST_F(Training, ADiskThatHoldsNoCheckpoint)
{
    const auto small = [] {
        signal(SIGXFSZ, SIG_IGN);
        const struct rlimit limit = {9000, 9000};
        setrlimit(RLIMIT_FSIZE, &limit);
    };
    const std::string out = folder.file("out");
    const ToolResult r = run_tool(folder, command(out, {"--save-every", "1", "--quiet"}), small);
    EXPECT_EQ(r.code, 10) << r.err;
    EXPECT_TRUE(mentions(r.err, "checkpoints/unfinished")) << r.err;
    EXPECT_TRUE(leftovers(out).empty());
}

// On a terminal that knows colour what is learnt is green between its marks; elsewhere there are the marks alone.
TEST_F(Training, TheFirstExampleInATerminal)
{
    const std::vector<std::string> words = command(folder.file("out"), {"--dry-run"});
    for (bool colour : {true, false}) {
        int terminal = -1;
        const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
        ASSERT_GE(child, 0);
        if (child == 0) {
            setenv("TERM", "xterm", 1);
            if (colour)
                unsetenv("NO_COLOR");
            else
                setenv("NO_COLOR", "1", 1);
            std::vector<char *> argv = {const_cast<char *>(SC_TOOL)};
            for (const std::string &word : words)
                argv.push_back(const_cast<char *>(word.c_str()));
            argv.push_back(nullptr);
            execv(SC_TOOL, argv.data());
            _exit(127);
        }
        std::string said;
        char block[4096];
        for (ssize_t n = read(terminal, block, sizeof(block)); n > 0;
             n = read(terminal, block, sizeof(block)))
            said.append(block, static_cast<size_t>(n));
        int status = 0;
        waitpid(child, &status, 0);
        close(terminal);
        EXPECT_EQ(WEXITSTATUS(status), 0) << said;
        const std::string learnt = "\xe2\x9f\xa6"
                                   "1. Night Ferry (2003)<|im_end|>\xe2\x9f\xa7";
        EXPECT_TRUE(mentions(said, colour ? "\033[32m" + learnt + "\033[0m" : learnt)) << said;
        EXPECT_EQ(mentions(said, "\033[32m"), colour) << said;
    }
}
