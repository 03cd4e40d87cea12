// What the tests of train, pipeline and cli share: the tiny chat model, dialogues of our own, and a run that is
// stopped on its way.
#ifndef SC_TESTS_TRAIN_SUPPORT_H
#define SC_TESTS_TRAIN_SUPPORT_H

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <thread>

#include "model/fixture.h"

extern "C" {
#include "seedcorn/log.h"
#include "seedcorn/train.h"
}

inline std::string chat_model()
{
    return SC_SOURCE_DIR "/tests/fixtures/tiny_chat/model";
}

inline bool mentions(const std::string &text, const std::string &part)
{
    return text.find(part) != std::string::npos;
}

inline std::vector<std::string> lines_of(const std::string &path)
{
    std::vector<std::string> lines;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);)
        lines.push_back(line);
    return lines;
}

// Every file below a folder: relative path -> bytes.
inline std::map<std::string, std::string> files_below(const std::string &folder)
{
    std::map<std::string, std::string> files;
    if (!std::filesystem::is_directory(folder))
        return files;
    for (const auto &entry : std::filesystem::recursive_directory_iterator(folder))
        if (entry.is_regular_file())
            files[std::filesystem::relative(entry.path(), folder).string()] =
                read_text(entry.path().string());
    return files;
}

// Temporary files that a failure left behind.
inline std::vector<std::string> leftovers(const std::string &folder)
{
    std::vector<std::string> names;
    for (const auto &[name, bytes] : files_below(folder))
        if (mentions(name, ".tmp-") || mentions(name, "unfinished"))
            names.push_back(name);
    return names;
}

// A chat of two turns; the number changes its words and its length.
inline std::string dialogue_line(int number)
{
    static const char *const wishes[] = {"a slow film with rain", "something loud and silly",
                                         "a noir from the forties", "a quiet film about the sea",
                                         "a musical that is not sweet"};
    static const char *const titles[] = {"Night Ferry (2003)", "The Quiet Harbour (1994)",
                                         "A Field of Rye (2011)"};
    std::string answer;
    for (int i = 0; i < 1 + number % 3; i++)
        answer += std::to_string(i + 1) + ". " + titles[(number + i) % 3] + (i < number % 3 ? "\\n" : "");
    return "{\"id\": \"dialogue-" + std::to_string(number) +
           "\", \"messages\": [{\"role\": \"user\", \"content\": \"I would like " + wishes[number % 5] +
           ", please, number " + std::to_string(number) + "\"}, {\"role\": \"assistant\", \"content\": \"" +
           answer + "\"}]}\n";
}

inline void write_dialogues(const std::string &path, int n)
{
    std::string text;
    for (int i = 0; i < n; i++)
        text += dialogue_line(i);
    write_text(path, text);
}

// Strings of options live here as long as the options are used.
struct TrainCall {
    std::string model = chat_model(), dialogues, out;
    sc_train_options o = sc_train_default();
    sc_train_result result = {};
    TrainCall(const TempFolder &folder, const std::string &out_name)
        : dialogues(folder.file("dialogues.jsonl")), out(folder.file(out_name))
    {
        o.common.device = "cpu";
        o.common.dtype = "fp32";
        o.common.threads = 1;
        o.batch_size = 3;
        o.rank = 4;
        o.alpha = 8;
        o.lr = 1e-3;
    }
    sc_status run()
    {
        o.model = model.c_str();
        o.dialogues = dialogues.c_str();
        o.out = out.c_str();
        return sc_train(&o, &result);
    }
    std::string file(const std::string &name) const
    {
        return out + "/" + name;
    }
    // Asks the run to stop as soon as events.jsonl has `steps` more lines than before.
    sc_status run_until(size_t steps)
    {
        const size_t wanted = lines_of(file("events.jsonl")).size() + steps;
        std::atomic<bool> finished{false};
        std::thread watch([&] {
            while (!finished) {
                if (lines_of(file("events.jsonl")).size() >= wanted) {
                    sc_cancel();
                    return;
                }
                std::this_thread::sleep_for(std::chrono::microseconds(200));
            }
        });
        const sc_status status = run();
        finished = true;
        watch.join();
        sc_cancel_reset();
        return status;
    }
};

#endif
