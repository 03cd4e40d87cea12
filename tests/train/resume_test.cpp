// A run that was stopped and goes on ends with the bytes of one that was not; a checkpoint that does not fit is
// refused with the reason.
#include "train/support.h"

namespace
{

class Resume : public testing::Test
{
  protected:
    void SetUp() override
    {
        write_dialogues(folder.file("dialogues.jsonl"), 12);
    }
    void TearDown() override
    {
        sc_cancel_reset();
    }
    // Stopped after a few of its steps, with a checkpoint.
    void stop_in(TrainCall &call)
    {
        call.o.epochs = 6;
        call.o.micro_batch = 1;
        call.o.save_every = 1;
        ASSERT_EQ(call.run_until(2), SC_INTERRUPTED) << sc_last_error();
        checkpoint = checkpoint_of(call);
        ASSERT_FALSE(checkpoint.empty());
        ASSERT_FALSE(std::filesystem::exists(call.file("adapter_model.safetensors")));
    }
    static std::string checkpoint_of(const TrainCall &call)
    {
        std::string found;
        size_t n = 0;
        if (std::filesystem::exists(call.file("checkpoints")))
            for (const auto &entry : std::filesystem::directory_iterator(call.file("checkpoints"))) {
                found = entry.path().string();
                n++;
            }
        EXPECT_LE(n, 1u); // only the newest stays
        return found;
    }
    TempFolder folder;
    std::string checkpoint;
};

// What the bits of a result are; events.jsonl holds times.
std::map<std::string, std::string> result_of(const TrainCall &call)
{
    auto files = files_below(call.out);
    files.erase("events.jsonl");
    files.erase(".lock");
    return files;
}

TEST_F(Resume, AnInterruptedRunEndsWithTheSameBytes)
{
    struct {
        const char *name, *method;
        bool shuffle;
        double dropout;
        int64_t save_every;
    } const cases[] = {{"lora", "lora", true, 0, 0},
                       {"lora-dropout", "lora", true, 0.3, 3},
                       {"lora-plain", "lora", false, 0, 1},
                       {"full", "full", true, 0, 0}};
    for (const auto &c : cases) {
        TrainCall whole(folder, std::string(c.name) + "-whole"),
            parts(folder, std::string(c.name) + "-parts");
        for (TrainCall *call : {&whole, &parts}) {
            call->o.method = c.method;
            call->o.shuffle = c.shuffle;
            call->o.dropout = c.dropout;
            call->o.save_every = c.save_every;
            call->o.epochs = 4;
            call->o.micro_batch = 1;
        }
        ASSERT_OK(whole.run());
        EXPECT_EQ(whole.result.first_step, 0);
        int stops = 0;
        sc_status status = SC_INTERRUPTED;
        int64_t most = 0;
        for (int attempt = 0; attempt < 30 && status == SC_INTERRUPTED; attempt++) {
            // 2, 3 or 4 steps, then the stop; the last attempts run through
            status = attempt < 3 ? parts.run_until(2 + static_cast<size_t>(attempt)) : parts.run();
            stops += status == SC_INTERRUPTED;
            EXPECT_GE(parts.result.first_step, most) << c.name;
            most = parts.result.first_step;
        }
        ASSERT_EQ(status, SC_OK) << c.name << ": " << sc_last_error();
        EXPECT_GE(stops, 1) << c.name;
        EXPECT_GT(most, 0) << c.name;
        EXPECT_EQ(result_of(whole), result_of(parts)) << c.name;
        EXPECT_EQ(parts.result.first_loss, whole.result.first_loss);
        EXPECT_EQ(parts.result.last_loss, whole.result.last_loss);
        EXPECT_EQ(parts.result.n_tokens, whole.result.n_tokens);
    }
}

// Killed while a finished run took its checkpoints away: what is left of them is none, and the next run takes it away.
TEST_F(Resume, ACheckpointHalfRemovedIsNoCheckpoint)
{
    TrainCall whole(folder, "whole"), call(folder, "out");
    stop_in(call);
    whole.o.epochs = call.o.epochs;
    whole.o.micro_batch = call.o.micro_batch;
    whole.o.save_every = call.o.save_every;
    ASSERT_OK(whole.run());
    std::filesystem::rename(call.file("checkpoints"), call.file("checkpoints.removed"));
    ASSERT_OK(call.run());
    EXPECT_EQ(call.result.first_step, 0);
    EXPECT_EQ(result_of(call), result_of(whole));
    EXPECT_FALSE(std::filesystem::exists(call.file("checkpoints.removed")));
}

TEST_F(Resume, OtherSettingsAreAConflictThatNamesThem)
{
    TrainCall call(folder, "out");
    stop_in(call);
    const auto before = files_below(checkpoint);
    call.o.lr = 2e-3;
    call.o.common.seed = 5;
    EXPECT_EQ(call.run(), SC_CONFLICT);
    const std::string sentence = sc_last_error();
    EXPECT_TRUE(mentions(sentence, "lr (0.001, now 0.002)")) << sentence;
    EXPECT_TRUE(mentions(sentence, "seed (0, now 5)")) << sentence;
    EXPECT_FALSE(mentions(sentence, "epochs")) << sentence;
    EXPECT_TRUE(mentions(sentence, "--resume never")) << sentence;
    EXPECT_EQ(files_below(checkpoint), before);
    call.o.lr = 1e-3;
    call.o.common.seed = 0;
    write_text(folder.file("dialogues.jsonl"), dialogue_line(3) + dialogue_line(4));
    EXPECT_EQ(call.run(), SC_CONFLICT);
    EXPECT_TRUE(mentions(sc_last_error(), "dialogues (")) << sc_last_error();
    write_dialogues(folder.file("dialogues.jsonl"), 12);
    EXPECT_OK(call.run());
    EXPECT_GT(call.result.first_step, 0);
}

TEST_F(Resume, NeverStartsAnewAndAlwaysInsists)
{
    TrainCall call(folder, "out");
    call.o.resume = "always";
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "no checkpoint")) << sc_last_error();
    call.o.resume = "auto";
    stop_in(call);
    call.o.resume = "always";
    call.o.epochs = 6;
    ASSERT_EQ(call.run_until(1), SC_INTERRUPTED) << sc_last_error();
    EXPECT_GT(call.result.first_step, 0);
    call.o.resume = "never";
    ASSERT_OK(call.run());
    EXPECT_EQ(call.result.first_step, 0);
    EXPECT_EQ(lines_of(call.file("events.jsonl")).size(), static_cast<size_t>(call.result.n_steps));
}

TEST_F(Resume, ATruncatedCheckpointIsRefused)
{
    TrainCall call(folder, "out");
    stop_in(call);
    const std::string tensors = checkpoint + "/state.safetensors", state = checkpoint + "/state.json";
    const std::string all = read_text(tensors), json = read_text(state);
    for (size_t length : {size_t{0}, size_t{7}, size_t{100}, all.size() / 2, all.size() - 1}) {
        write_text(tensors, all.substr(0, length));
        EXPECT_EQ(call.run(), SC_BAD_INPUT) << length;
        EXPECT_TRUE(mentions(sc_last_error(), "state.safetensors")) << sc_last_error();
    }
    write_text(tensors, all);
    for (size_t length : {size_t{0}, size_t{9}, json.size() / 2}) {
        write_text(state, json.substr(0, length));
        EXPECT_EQ(call.run(), SC_BAD_INPUT) << length;
        EXPECT_TRUE(mentions(sc_last_error(), "state.json")) << sc_last_error();
    }
    for (const char *step : {"-1", "1000000000", "0.5", "\"2\""}) {
        std::string spoilt = json;
        const size_t at = spoilt.find("\"step\": ") + 8;
        spoilt.replace(at, spoilt.find(',', at) - at, step);
        write_text(state, spoilt);
        EXPECT_EQ(call.run(), SC_BAD_INPUT) << step << ": " << sc_last_error();
    }
    EXPECT_FALSE(std::filesystem::exists(call.file("adapter_model.safetensors")));
    call.o.resume = "never";
    EXPECT_OK(call.run());
}

TEST_F(Resume, AnUnfinishedCheckpointIsNotSeen)
{
    TrainCall call(folder, "out");
    std::filesystem::create_directories(call.file("checkpoints/unfinished"));
    write_text(call.file("checkpoints/unfinished/state.json"), "{");
    std::filesystem::create_directories(call.file("checkpoints/step-x"));
    ASSERT_OK(call.run());
    EXPECT_EQ(call.result.first_step, 0);
    EXPECT_FALSE(std::filesystem::exists(call.file("checkpoints")));
}

} // namespace
