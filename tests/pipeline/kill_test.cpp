// A run that is killed in every stage and started again ends with the bytes of one that was not, and does not
// repeat what is finished.
#include "pipeline/tool.h"

extern "C" {
#include "base/json.h"
#include "base/random.h"
}

namespace
{

struct StageRecord {
    std::string key, state, finished;
    double seconds = 0;
};

std::vector<StageRecord> stages_of(const std::string &run_dir)
{
    std::vector<StageRecord> stages;
    json_t *root = json_load_file((run_dir + "/manifest.json").c_str(), 0, nullptr);
    const char *key;
    json_t *entry;
    json_object_foreach(json_object_get(root, "stages"), key, entry)
    {
        const char *state = json_string_value(json_object_get(entry, "state"));
        const char *finished = json_string_value(json_object_get(entry, "finished"));
        stages.push_back({key, state ? state : "", finished ? finished : "",
                          json_number_value(json_object_get(entry, "seconds"))});
    }
    json_decref(root);
    return stages;
}

// Waits until the child has begun a stage; false if it ended before.
bool wait_for(Tool &tool, const std::string &events, size_t from, const std::string &stage)
{
    const std::string wanted = "\"event\":\"begin\",\"stage\":\"" + stage + "\"";
    while (tool.running()) {
        const std::string text = read_text(events);
        if (text.size() > from && mentions(text.substr(from), wanted))
            return true;
        usleep(300);
    }
    return false;
}

// Lets the stage work for a while, but not beyond its end, so that the later stages are killed too.
void let_work(Tool &tool, const std::string &events, size_t from, const std::string &stage, double seconds)
{
    const std::string end = "\"event\":\"end\",\"stage\":\"" + stage + "\"";
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (tool.running() && std::chrono::steady_clock::now() < until &&
           !mentions(read_text(events).substr(from), end))
        usleep(300);
}

// The bytes that may not differ: all results, but not times, places and progress.
std::map<std::string, std::string> results_of(const std::string &run_dir)
{
    std::map<std::string, std::string> kept;
    for (auto &[name, bytes] : files_below(run_dir)) {
        const std::string base = path_base(name.c_str());
        for (const char *result :
             {"adapter_model.safetensors", "adapter_config.json", "model.safetensors", "metrics.json",
              "metrics.jsonl", "replies.jsonl", "dialogues.jsonl", "selection.jsonl", "embeddings.npy",
              "reviews.jsonl", "conversations.jsonl"})
            if (base == result)
                kept[name] = bytes;
    }
    return kept;
}

TEST(Killed, InEveryStageEndsWithTheSameBytes)
{
    TempFolder folder;
    write_text(folder.file("tiny.yaml"), tiny_config());
    const std::string whole = folder.file("whole"), parts = folder.file("parts");
    const ToolResult first =
        run_tool(folder, {"run", folder.file("tiny.yaml"), "--run-dir", whole, "--quiet"});
    ASSERT_EQ(first.code, 0) << first.err;
    EXPECT_NE(first.out.find("R@20"), std::string::npos) << "a run ends with its table: " << first.out;
    const auto plan = stages_of(whole);
    ASSERT_EQ(plan.size(), 11u);

    const std::string events = parts + "/events.jsonl";
    const std::vector<std::string> command = {"run", folder.file("tiny.yaml"), "--run-dir", parts, "--quiet"};
    random_stream numbers = random_at(20, RANDOM_TEST, 0, 0);
    std::map<std::string, StageRecord> finished; // as first seen
    size_t kills = 0, in_stage = 0;
    const auto note = [&] {
        for (const auto &s : stages_of(parts)) {
            if (s.state != "done")
                continue;
            const auto [at, fresh] = finished.emplace(s.key, s);
            if (!fresh) {
                EXPECT_EQ(at->second.finished, s.finished) << s.key << " was done again";
                EXPECT_EQ(at->second.seconds, s.seconds) << s.key << " was done again";
            }
        }
    };
    for (size_t round = 0; round < plan.size() + 5; round++) {
        // Every stage once, and the longest ones again.
        const StageRecord *target = round < plan.size() ? &plan[round] : nullptr;
        if (target == nullptr)
            target = &plan[5 + round % 2]; // train/lora, train/full: done by then unless killed early
        const size_t from = read_text(events).size();
        Tool tool(folder, command);
        if (wait_for(tool, events, from, target->key)) {
            let_work(tool, events, from, target->key, target->seconds * random_uniform(&numbers));
            in_stage += tool.running();
        }
        tool.send(SIGKILL);
        kills += tool.wait().code == 128 + SIGKILL;
        note();
    }
    EXPECT_GE(kills, 8u);
    EXPECT_GE(in_stage, 6u);
    const ToolResult last = run_tool(folder, command);
    ASSERT_EQ(last.code, 0) << last.err;
    note();
    EXPECT_EQ(finished.size(), plan.size());

    const auto a = results_of(whole), b = results_of(parts);
    ASSERT_GE(a.size(), 14u);
    for (const auto &[name, bytes] : b)
        EXPECT_TRUE(a.count(name)) << name << " is left over";
    for (const auto &[name, bytes] : a) {
        ASSERT_TRUE(b.count(name)) << name;
        EXPECT_TRUE(bytes == b.at(name)) << name << " differs";
    }
    // After its end no stage began again.
    std::map<std::string, bool> ended;
    for (const auto &line : lines_of(events)) {
        json_t *row = json_loads(line.c_str(), 0, nullptr);
        ASSERT_NE(row, nullptr) << line;
        const std::string event = json_string_value(json_object_get(row, "event"));
        const std::string stage = json_string_value(json_object_get(row, "stage"));
        EXPECT_FALSE(event == "begin" && ended[stage]) << stage;
        ended[stage] = ended[stage] || event == "end";
        json_decref(row);
    }
    // What the killed ones left is gone.
    EXPECT_TRUE(leftovers(parts).empty()) << leftovers(parts).front();
}

TEST(Interrupted, DrainsAndSaysSo)
{
    TempFolder folder;
    write_text(folder.file("tiny.yaml"), tiny_config());
    const std::string run_dir = folder.file("run"), events = run_dir + "/events.jsonl";
    const std::vector<std::string> command = {"run", folder.file("tiny.yaml"), "--run-dir", run_dir,
                                              "--quiet"};
    {
        Tool tool(folder, command);
        ASSERT_TRUE(wait_for(tool, events, 0, "train/lora"));
        tool.send(SIGINT);
        const ToolResult r = tool.wait();
        EXPECT_EQ(r.code, 130) << r.err;
        EXPECT_TRUE(r.out.empty()) << r.out;
        EXPECT_FALSE(r.err.empty());
    }
    Tool tool(folder, command);
    ASSERT_TRUE(wait_for(tool, events, read_text(events).size(), "train/lora"));
    tool.send(SIGTERM);
    EXPECT_EQ(tool.wait().code, 143);
    const ToolResult last = run_tool(folder, command);
    EXPECT_EQ(last.code, 0) << last.err;
}

} // namespace
