// Training on every table: the same losses within what the type costs, and checkpoints that go from one device to another.
#include "device/tables.h"
#include "train/support.h"

namespace
{

std::vector<double> losses_of(const TrainCall &call)
{
    std::vector<double> out;
    for (const std::string &line : lines_of(call.file("events.jsonl"))) {
        json_t *event = json_loads(line.c_str(), 0, nullptr);
        json_t *loss = json_object_get(event, "loss");
        if (loss && json_object_get(event, "step"))
            out.push_back(json_number_value(loss));
        json_decref(event);
    }
    return out;
}

} // namespace

class TrainTables : public testing::TestWithParam<PresentPlugin>
{
    const Plugin plugin_{GetParam().path.c_str()};

  protected:
    void SetUp() override
    {
        write_dialogues(folder.file("dialogues.jsonl"), 10);
    }
    void TearDown() override
    {
        sc_cancel_reset();
    }
    std::vector<double> losses(const std::string &name, const char *where, const char *type,
                               const char *method, int64_t epochs, int64_t batch_size = 1)
    {
        TrainCall call(folder, name);
        call.o.common.device = where;
        call.o.common.dtype = type;
        call.o.method = method;
        call.o.epochs = epochs;
        call.o.batch_size = batch_size;
        EXPECT_OK(call.run());
        return losses_of(call);
    }
    TempFolder folder;
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TrainTables);
INSTANTIATE_TEST_SUITE_P(Plugins, TrainTables, testing::ValuesIn(present_plugins()),
                         testing::PrintToStringParamName());

// Fifty steps of bf16, or ten of an adapter, stay within twice the way that the CPU's bf16 goes from float.
TEST_P(TrainTables, FiftyStepsInBf16)
{
    for (const bool full : {true, false}) {
        const std::string method = full ? "full" : "lora";
        const int64_t epochs = full ? 10 : 2;
        const std::vector<double> exact = losses(method + "-exact", "cpu", "fp32", method.c_str(), epochs, 2),
                                  cpu = losses(method + "-cpu", "cpu", "bf16", method.c_str(), epochs, 2),
                                  card = losses(method + "-card", "cuda", "bf16", method.c_str(), epochs, 2);
        ASSERT_EQ(exact.size(), size_t(5 * epochs));
        ASSERT_EQ(cpu.size(), exact.size());
        ASSERT_EQ(card.size(), exact.size());
        double of_cpu = 0, of_card = 0;
        for (size_t i = 0; i < exact.size(); i++) {
            of_cpu = std::max(of_cpu, std::fabs(cpu[i] - exact[i]));
            of_card = std::max(of_card, std::fabs(card[i] - exact[i]));
        }
        EXPECT_GT(of_cpu, 0) << method;
        EXPECT_LE(of_card, 2 * of_cpu) << method;
        EXPECT_LT(card.back(), card.front()) << method;
    }
}

TEST_P(TrainTables, StepsInFloatAreTheCpus)
{
    write_dialogues(folder.file("dialogues.jsonl"), 3); // products of floats take the emulator longest
    const std::vector<double> cpu = losses("cpu", "cpu", "fp32", "lora", 1),
                              card = losses("card", "cuda", "fp32", "lora", 1);
    ASSERT_EQ(card.size(), cpu.size());
    for (size_t i = 0; i < cpu.size(); i++)
        EXPECT_NEAR(card[i], cpu[i], 1e-4 * cpu[i]) << i;
}

// A run that a card began goes on without one, and the other way round.
TEST_P(TrainTables, ACheckpointGoesOnOnAnotherDevice)
{
    write_dialogues(folder.file("dialogues.jsonl"), 4);
    const std::vector<double> want = losses("whole", "cpu", "fp32", "lora", 1);
    for (bool from_card : {true, false}) {
        TrainCall call(folder, from_card ? "from-card" : "to-card");
        call.o.epochs = 1;
        call.o.batch_size = 1;
        call.o.save_every = 1;
        call.o.common.device = from_card ? "cuda" : "cpu";
        ASSERT_EQ(call.run_until(1), SC_INTERRUPTED) << sc_last_error();
        const size_t done = losses_of(call).size();
        ASSERT_LT(done, want.size());
        call.o.common.device = from_card ? "cpu" : "cuda";
        ASSERT_OK(call.run());
        const std::vector<double> found = losses_of(call);
        ASSERT_EQ(found.size(), want.size());
        for (size_t i = 0; i < want.size(); i++)
            EXPECT_NEAR(found[i], want[i], 1e-4 * want[i]) << i;
    }
}

// What does not fit is refused before the start, with what would.
TEST_P(TrainTables, ThePlanKnowsTheCardsMemory)
{
    if (GetParam().name != "emu")
        GTEST_SKIP() << "needs the emulator, whose memory can be limited, not a GPU";
    TrainCall call(folder, "too-small");
    call.o.common.device = "cuda";
    call.o.method = "full";
    setenv("EMU_MEMORY", "500000", 1);
    const sc_status status = call.run();
    unsetenv("EMU_MEMORY");
    EXPECT_EQ(status, SC_MEMORY) << sc_last_error();
    EXPECT_TRUE(mentions(sc_last_error(), "training would take")) << sc_last_error();
    EXPECT_TRUE(mentions(sc_last_error(), "--method lora")) << sc_last_error();
    EXPECT_FALSE(std::filesystem::exists(call.file("training.json")));
}
