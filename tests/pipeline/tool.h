// The tool as a child process: what it wrote, and how it ended.
#ifndef SC_TESTS_PIPELINE_TOOL_H
#define SC_TESTS_PIPELINE_TOOL_H

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "train/support.h"

struct ToolResult {
    int code = -1; // exit code; 128 + the number of the signal that killed it
    std::string out, err;
    int64_t peak_bytes = 0; // of memory that was in use
};

class Tool
{
  public:
    // `prepare` runs in the child, before the tool does; `program` is another one than the tool.
    explicit Tool(const TempFolder &folder, const std::vector<std::string> &arguments,
                  const std::function<void()> &prepare = nullptr, const char *program = SC_TOOL)
        : out_(folder.file("stdout")), err_(folder.file("stderr"))
    {
        std::vector<std::string> words = {program};
        words.insert(words.end(), arguments.begin(), arguments.end());
        std::vector<char *> argv;
        for (auto &word : words)
            argv.push_back(word.data());
        argv.push_back(nullptr);
        child_ = fork();
        if (child_ == 0) {
            const int out = open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
            const int err = open(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
            dup2(out, STDOUT_FILENO);
            dup2(err, STDERR_FILENO);
            setenv("OMP_WAIT_POLICY", "passive", 1);
            if (prepare)
                prepare();
            execv(program, argv.data());
            _exit(127);
        }
    }
    ~Tool()
    {
        if (!ended_) {
            send(SIGKILL);
            wait();
        }
    }
    Tool(const Tool &) = delete;
    Tool &operator=(const Tool &) = delete;
    void send(int number) const
    {
        kill(child_, number);
    }
    bool running()
    {
        if (!ended_ && waitpid(child_, &status_, WNOHANG) == child_)
            ended_ = true;
        return !ended_;
    }
    ToolResult wait()
    {
        ToolResult r;
        struct rusage usage = {};
        if (!ended_)
            wait4(child_, &status_, 0, &usage);
        ended_ = true;
        r.peak_bytes = usage.ru_maxrss * 1024;
        r.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
        r.out = read_text(out_);
        r.err = read_text(err_);
        return r;
    }

  private:
    std::string out_, err_;
    pid_t child_ = -1;
    int status_ = 0;
    bool ended_ = false;
};

inline ToolResult run_tool(const TempFolder &folder, const std::vector<std::string> &arguments,
                           const std::function<void()> &prepare = nullptr)
{
    return Tool(folder, arguments, prepare).wait();
}

// The sample, from reviews to metrics, with the tiny model: every stage of a run takes well under a second.
inline std::string tiny_config()
{
    const std::string sample = SC_SOURCE_DIR "/data/sample/", base = chat_model();
    return "seed: 0\nthreads: 1\ndtype: fp32\n"
           "import:\n"
           "  - {kind: reviews, reviews: " +
           sample + "reviews.jsonl, items: " + sample +
           "items.jsonl}\n"
           "  - {kind: dialogues, name: conversations, input: " +
           sample +
           "dialogues.jsonl, format: messages}\n"
           "embed: {model: " +
           base +
           ", max_tokens: 64}\n"
           "select: {strategy: fisher, budget: 12}\n"
           "synth: {teacher: offline, dialogues_per_seed: 1}\n"
           "train:\n"
           "  - {name: lora, model: " +
           base +
           ", rank: 4, epochs: 3, batch_size: 4, dropout: 0.1, save_every: 2}\n"
           "  - {name: full, model: " +
           base +
           ", method: full, epochs: 1, batch_size: 4, save_every: 1}\n"
           "recommend:\n"
           "  - {name: zero-shot, model: " +
           base +
           ", constrained: true, items: reviews, beams: 3}\n"
           "  - {name: lora, model: " +
           base +
           ", adapter: lora, items: reviews, max_tokens: 24}\n"
           "eval: {items: reviews, exclude_seen: true}\n";
}

#endif
