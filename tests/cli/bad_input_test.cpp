// Bad input through the real tool: one sentence with the way out, the documented exit code, nothing half-written.
#include <sched.h>
#include <sys/mount.h>

#include "pipeline/tool.h"

namespace
{

// All files but locks and what a later call goes on from.
std::vector<std::string> results_in(const std::string &folder)
{
    std::vector<std::string> names;
    for (const auto &[name, bytes] : files_below(folder))
        if (!mentions(name, ".lock") && !mentions(name, ".partial"))
            names.push_back(name + " " + std::to_string(std::hash<std::string>{}(bytes)));
    return names;
}

class BadInput : public testing::Test
{
  protected:
    void SetUp() override
    {
        const std::string sample = SC_SOURCE_DIR "/data/sample/";
        data = folder.file("data");
        const ToolResult r = run_tool(folder, {"import", "reviews", "--reviews", sample + "reviews.jsonl",
                                               "--items", sample + "items.jsonl", "--out", data, "--quiet"});
        ASSERT_EQ(r.code, 0) << r.err;
        std::filesystem::create_directories(folder.file("work"));
    }
    std::string work(const std::string &name) const
    {
        return folder.file("work/" + name);
    }
    // Fails with the code and one sentence; nothing is left in work/ that was not there.
    std::string refuses(const std::vector<std::string> &arguments, int code, const std::string &said,
                        const std::function<void()> &prepare = nullptr)
    {
        const auto before = results_in(folder.file("work"));
        std::vector<std::string> words = arguments;
        words.push_back("--quiet");
        const ToolResult r = run_tool(folder, words, prepare);
        EXPECT_EQ(r.code, code) << r.err;
        EXPECT_TRUE(r.out.empty()) << r.out;
        EXPECT_TRUE(mentions(r.err, said)) << r.err;
        EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
        EXPECT_EQ(before, results_in(folder.file("work")));
        return r.err;
    }
    std::vector<std::string> embed(const std::string &model_folder, const std::string &out)
    {
        return {"embed", "--data",       data, "--model", model_folder, "--out",
                out,     "--max-tokens", "16", "--dtype", "fp32"};
    }
    std::string copy_of_model(const std::string &name)
    {
        const std::string to = folder.file(name);
        std::filesystem::copy(chat_model(), to, std::filesystem::copy_options::recursive);
        return to;
    }
    TempFolder folder;
    std::string data;
};

TEST_F(BadInput, AModelThatIsMissingOrTruncated)
{
    refuses(embed(folder.file("absent"), work("e.npy")), 3, "absent");
    const std::string cut = copy_of_model("cut");
    std::filesystem::resize_file(cut + "/model.safetensors", 100000);
    refuses(embed(cut, work("e.npy")), 3, "model.safetensors");
    std::filesystem::resize_file(cut + "/model.safetensors", 5);
    refuses(embed(cut, work("e.npy")), 3, "model.safetensors");
    const std::string no_words = copy_of_model("no-words");
    std::filesystem::remove(no_words + "/tokenizer.json");
    refuses(embed(no_words, work("e.npy")), 3, "tokenizer.json");
    const std::string no_config = copy_of_model("no-config");
    write_text(no_config + "/config.json", "{\"architectures\": [\"BertModel\"]}");
    refuses(embed(no_config, work("e.npy")), 3, "config.json");
}

TEST_F(BadInput, ATokenizerThatDoesNotFitTheWeights)
{
    const std::string other = copy_of_model("other");
    replace_in(
        other + "/tokenizer.json", "\"added_tokens\":[",
        "\"added_tokens\":[{\"id\":640,\"content\":\"<|extra|>\",\"single_word\":false,\"lstrip\":false,"
        "\"rstrip\":false,\"normalized\":false,\"special\":true},");
    const std::string said = refuses(embed(other, work("e.npy")), 3, "tokenizer");
    EXPECT_TRUE(mentions(said, "641")) << said;
}

TEST_F(BadInput, ANumberThatIsNoneInTheEmbeddings)
{
    ASSERT_EQ(run_tool(folder, embed(chat_model(), folder.file("e.npy"))).code, 0);
    std::string bytes = read_text(folder.file("e.npy"));
    const float nan = NAN;
    std::memcpy(&bytes[bytes.size() - 100 * 32 * sizeof(float)], &nan, sizeof(nan)); // row 80 of 180
    write_text(folder.file("e.npy"), bytes);
    for (const char *strategy : {"fisher", "js"})
        refuses({"select", "--data", data, "--embeddings", folder.file("e.npy"), "--out", work("s.jsonl"),
                 "--budget", "4", "--clusters", "4", "--strategy", strategy},
                3, "80");
}

TEST_F(BadInput, ABudgetAboveTheNumberOfReviews)
{
    ASSERT_EQ(run_tool(folder, embed(chat_model(), folder.file("e.npy"))).code, 0);
    const std::string said = refuses({"select", "--data", data, "--embeddings", folder.file("e.npy"), "--out",
                                      work("s.jsonl"), "--budget", "181"},
                                     2, "181");
    EXPECT_TRUE(mentions(said, "180")) << said;
}

TEST_F(BadInput, AnEmptyDataSet)
{
    write_text(folder.file("none.jsonl"), "");
    const ToolResult r = run_tool(
        folder, {"import", "reviews", "--reviews", folder.file("none.jsonl"), "--out", folder.file("empty")});
    if (r.code == 0) { // an empty import may be had; who works with it says so
        data = folder.file("empty");
        refuses(embed(chat_model(), work("e.npy")), 3, "empty");
    } else {
        EXPECT_EQ(r.code, 3) << r.err;
        EXPECT_FALSE(std::filesystem::exists(folder.file("empty")));
    }
}

TEST_F(BadInput, AReviewOfFiftyThousandWords)
{
    std::string words;
    for (int i = 0; i < 50000; i++)
        words += "word" + std::to_string(i % 97) + " ";
    write_text(folder.file("long.jsonl"),
               "{\"user_id\": \"u\", \"parent_asin\": \"i\", \"rating\": 5, \"title\": \"t\", "
               "\"text\": \"" +
                   words + "\", \"timestamp\": 1000}\n");
    ToolResult r = run_tool(
        folder, {"import", "reviews", "--reviews", folder.file("long.jsonl"), "--out", folder.file("long")});
    ASSERT_EQ(r.code, 0) << r.err;
    data = folder.file("long");
    auto words_of_call = embed(chat_model(), folder.file("e.npy"));
    words_of_call.push_back("--json");
    r = run_tool(folder, words_of_call);
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(mentions(r.out, "\"cut\": 1")) << r.out;
}

TEST_F(BadInput, AConfigWithAMisspeltKey)
{
    write_text(folder.file("run.yaml"), "train:\n  model: m\n  dialogues: d\n  epocs: 3\n");
    const std::string said =
        refuses({"run", folder.file("run.yaml"), "--run-dir", work("run")}, 2, "did you mean 'epochs'?");
    EXPECT_TRUE(mentions(said, "run.yaml:4: ")) << said;
    EXPECT_FALSE(std::filesystem::exists(work("run")));
}

TEST_F(BadInput, AnotherRunInTheSameFolder)
{
    write_text(folder.file("tiny.yaml"), tiny_config());
    std::filesystem::create_directories(work("run"));
    file_lock *lock = nullptr;
    ASSERT_OK(file_lock_take(work("run").c_str(), &lock));
    refuses({"run", folder.file("tiny.yaml"), "--run-dir", work("run")}, 12, std::to_string(getpid()));
    file_lock_release(lock);
}

TEST_F(BadInput, ACheckpointOfOtherSettings)
{
    write_dialogues(folder.file("dialogues.jsonl"), 6);
    TrainCall call(folder, "out");
    call.o.save_every = 1;
    call.o.epochs = 8;
    call.o.micro_batch = 1;
    ASSERT_EQ(call.run_until(2), SC_INTERRUPTED) << sc_last_error();
    const ToolResult r = run_tool(folder, {"train", "--model", chat_model(), "--dialogues",
                                           folder.file("dialogues.jsonl"), "--out", call.out, "--rank", "5"});
    EXPECT_EQ(r.code, 4) << r.err;
    EXPECT_TRUE(mentions(r.err, "rank (4, now 5)")) << r.err;
}

// RLIMIT_FSIZE stands for a disk that is full: a write fails half-way.
TEST_F(BadInput, AFullDisk)
{
    const auto small = [] {
        signal(SIGXFSZ, SIG_IGN);
        const struct rlimit limit = {4000, 4000};
        setrlimit(RLIMIT_FSIZE, &limit);
    };
    refuses(embed(chat_model(), work("e.npy")), 10, "work", small);
    write_dialogues(folder.file("dialogues.jsonl"), 4);
    const ToolResult r =
        run_tool(folder,
                 {"train", "--model", chat_model(), "--dialogues", folder.file("dialogues.jsonl"), "--out",
                  work("adapter"), "--epochs", "1", "--quiet"},
                 small);
    EXPECT_EQ(r.code, 10) << r.err;
    EXPECT_TRUE(leftovers(work("adapter")).empty());
    EXPECT_FALSE(std::filesystem::exists(work("adapter/adapter_model.safetensors")));
    const std::string sample = SC_SOURCE_DIR "/data/sample/";
    refuses({"import", "reviews", "--reviews", sample + "reviews.jsonl", "--out", work("copy")}, 10, "copy",
            small);
}

// A file system of its own needs root; elsewhere a folder without the right to write will do.
TEST_F(BadInput, AReadOnlyFolder)
{
    const std::string place = folder.file("read-only");
    std::filesystem::create_directories(place);
    const bool root = geteuid() == 0;
    if (root && mount("none", place.c_str(), "tmpfs", MS_RDONLY, "size=64k") != 0)
        GTEST_SKIP() << "root may write everywhere, and mounting is not permitted here";
    if (!root)
        chmod(place.c_str(), 0555);
    refuses(embed(chat_model(), place + "/e.npy"), 10, "read-only");
    write_text(folder.file("tiny.yaml"), tiny_config());
    refuses({"run", folder.file("tiny.yaml"), "--run-dir", place + "/run"}, 10, "read-only");
    write_dialogues(folder.file("dialogues.jsonl"), 4);
    refuses({"train", "--model", chat_model(), "--dialogues", folder.file("dialogues.jsonl"), "--out",
             place + "/adapter"},
            10, "read-only");
    if (root)
        umount(place.c_str());
    else
        chmod(place.c_str(), 0755);
}

// A disk of 300 kB that the whole run does not fit on: it stops with the code, and goes on when there is room.
TEST_F(BadInput, ARunOnADiskThatFillsUp)
{
    const std::string place = folder.file("small-disk");
    std::filesystem::create_directories(place);
    if (geteuid() != 0 || mount("none", place.c_str(), "tmpfs", 0, "size=300k") != 0)
        GTEST_SKIP() << "mounting a small file system is not permitted here";
    write_text(folder.file("tiny.yaml"), tiny_config());
    const std::vector<std::string> command = {"run", folder.file("tiny.yaml"), "--run-dir", place + "/run",
                                              "--quiet"};
    const ToolResult full = run_tool(folder, command);
    EXPECT_EQ(full.code, 10) << full.err;
    EXPECT_TRUE(mentions(full.err, "small-disk")) << full.err;
    EXPECT_TRUE(leftovers(place).empty()) << leftovers(place).front();
    EXPECT_EQ(mount("none", place.c_str(), "tmpfs", MS_REMOUNT, "size=8m"), 0);
    const ToolResult again = run_tool(folder, command);
    EXPECT_EQ(again.code, 0) << again.err;
    umount(place.c_str());
}

} // namespace
