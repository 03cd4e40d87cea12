// What a run says before it starts: the plan of its memory and the first example; and what every step says.
#include "train/support.h"

extern "C" {
#include "train/trainer.h"
}

namespace
{

struct Messages {
    std::vector<std::string> lines;
    Messages()
    {
        sc_log_set([](void *user, sc_log_level,
                      const char *message) { static_cast<Messages *>(user)->lines.emplace_back(message); },
                   this, SC_LOG_INFO);
    }
    ~Messages()
    {
        sc_log_set(nullptr, nullptr, SC_LOG_WARN);
    }
    Messages(const Messages &) = delete;
    Messages &operator=(const Messages &) = delete;
};

struct JsonRelease {
    void operator()(json_t *j) const
    {
        json_decref(j);
    }
};
using Json = std::unique_ptr<json_t, JsonRelease>;

class Plan : public testing::Test
{
  protected:
    void SetUp() override
    {
        write_dialogues(folder.file("dialogues.jsonl"), 12);
    }
    Json plan(TrainCall &call)
    {
        char *text = nullptr;
        call.o.model = call.model.c_str();
        call.o.dialogues = call.dialogues.c_str();
        call.o.out = call.out.c_str();
        EXPECT_OK(sc_train_plan(&call.o, &text));
        Json json(json_loads(text ? text : "null", 0, nullptr));
        free(text);
        return json;
    }
    TempFolder folder;
};

json_int_t int_at(const Json &json, const char *key)
{
    return json_integer_value(json_object_get(json.get(), key));
}

std::map<std::string, int64_t> arrays_of(const Json &json)
{
    std::map<std::string, int64_t> out;
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(json_object_get(json.get(), "memory"), "arrays"), i, entry)
        out[json_string_value(json_object_get(entry, "name"))] =
            json_integer_value(json_object_get(entry, "bytes"));
    return out;
}

} // namespace

TEST_F(Plan, NamesEveryArrayAndWritesNothing)
{
    TrainCall call(folder, "out");
    call.o.validation_share = 0.25;
    const Json adapter = plan(call);
    EXPECT_FALSE(std::filesystem::exists(call.out));
    EXPECT_EQ(int_at(adapter, "examples"), 9);
    EXPECT_EQ(int_at(adapter, "held_back"), 3);
    EXPECT_EQ(int_at(adapter, "steps"), 9);
    const json_t *memory = json_object_get(adapter.get(), "memory");
    int64_t sum = 0;
    for (const auto &[name, bytes] : arrays_of(adapter))
        sum += bytes;
    EXPECT_EQ(sum, json_integer_value(json_object_get(memory, "bytes")));
    EXPECT_TRUE(json_is_true(json_object_get(memory, "fits")));
    const int64_t values = 2 * 4 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 48) * 3);
    EXPECT_EQ(int_at(adapter, "trained_values"), values);
    EXPECT_EQ(arrays_of(adapter)["moments"], 8 * values);
    EXPECT_EQ(arrays_of(adapter)["gradients"], 4 * values);
    EXPECT_EQ(arrays_of(adapter)["a checkpoint's copy"], 4 * values);

    call.o.method = "full";
    call.o.common.dtype = "bf16";
    const Json full = plan(call);
    EXPECT_GT(arrays_of(full)["float masters"], 0);
    EXPECT_EQ(arrays_of(full)["float masters"], arrays_of(full)["gradients"]);
    EXPECT_EQ(arrays_of(full).count("adapter"), 0u);
    size_t i, smaller = 0;
    const json_t *way;
    json_array_foreach(json_object_get(full.get(), "ways"), i, way)
    {
        EXPECT_LT(json_integer_value(json_object_get(way, "bytes")),
                  json_integer_value(json_object_get(json_object_get(full.get(), "memory"), "bytes")));
        smaller += std::string(json_string_value(json_object_get(way, "settings"))) == "--recompute";
    }
    EXPECT_EQ(smaller, 1u);
}

// The bounds hold for the batches that come, whatever the order, and are not far above them.
TEST_F(Plan, NoBatchIsLargerThanPlanned)
{
    write_dialogues(folder.file("dialogues.jsonl"), 60);
    for (int64_t micro : {0, 1, 2, 5}) {
        SCOPED_TRACE(micro);
        TrainCall call(folder, "out");
        call.o.model = call.model.c_str();
        call.o.dialogues = call.dialogues.c_str();
        call.o.batch_size = 30;
        call.o.micro_batch = micro;
        call.o.validation_share = 0.5;
        trainer t = {};
        t.o = &call.o;
        ASSERT_OK(device_open(&call.o.common, &t.device));
        ASSERT_OK(model_outline(t.o->model, t.device, &t.model));
        ASSERT_OK(tokenizer_open(t.o->model, &t.tokenizer));
        ASSERT_OK(train_data_open(&t));
        memory_task task = {};
        ASSERT_OK(train_largest_batch(&t, &task));
        const auto check = [&](const example_set &set, const memory_batch &bound, int64_t epoch) {
            const size_t n = static_cast<size_t>(set.n);
            if (&set == &t.training) {
                train_order_rows(&t, epoch);
                std::copy_n(t.order, n, t.step_rows);
            } else {
                std::copy_n(set.list, n, t.step_rows);
            }
            size_t n_batches = 0;
            ASSERT_OK(train_pack_rows(&t, set.rows, n, &n_batches));
            int64_t most = 0, most_rows = 0;
            for (size_t b = 0, at = 0; b < n_batches; at = t.ends[b++]) {
                int64_t tokens = 0, supervised = 0, longest = 0;
                for (size_t i = at; i < t.ends[b]; i++) {
                    const int64_t row = t.step_rows[i],
                                  length = set.rows->offsets[row + 1] - set.rows->offsets[row];
                    tokens += length;
                    supervised += set.rows->supervised[row];
                    longest = std::max(longest, length);
                }
                const auto rows = static_cast<int64_t>(t.ends[b] - at);
                EXPECT_LE(tokens, bound.n_tokens);
                EXPECT_LE(supervised, bound.n_supervised);
                EXPECT_LE(rows, bound.n_seqs);
                EXPECT_LE(longest, bound.longest);
                most = std::max(most, tokens);
                most_rows = std::max(most_rows, rows);
            }
            EXPECT_GT(most, bound.n_tokens / 2);
            if (micro > 0) {
                EXPECT_EQ(most_rows, bound.n_seqs);
            }
        };
        for (int64_t epoch = 0; epoch < 20; epoch++)
            check(t.training, task.training, epoch);
        check(t.held, task.validation, 0);
        train_data_close(&t);
        tokenizer_close(t.tokenizer);
        model_close(t.model);
        device_close(t.device);
    }
}

// A validation keeps no activations: a large one needs no more than training.
TEST_F(Plan, ValidationIsNotPlannedAsTraining)
{
    TrainCall call(folder, "out");
    write_dialogues(folder.file("dialogues.jsonl"), 4);
    write_dialogues(folder.file("held.jsonl"), 40);
    call.o.batch_size = 4;
    const auto without = arrays_of(plan(call));
    const std::string held = folder.file("held.jsonl");
    call.o.validation = held.c_str();
    const auto with = arrays_of(plan(call));
    EXPECT_EQ(with.at("gradients of activations"), without.at("gradients of activations"));
    EXPECT_LT(with.at("activations"), 5 * without.at("activations"));
    EXPECT_GT(with.at("batch"), without.at("batch"));
}

// Either line says what is still to be set.
TEST_F(Plan, WaysOutLeaveOutWhatIsSet)
{
    TrainCall call(folder, "out");
    call.o.method = "full";
    call.o.recompute = true;
    const Json full = plan(call);
    std::vector<std::string> ways;
    size_t i;
    const json_t *way;
    json_array_foreach(json_object_get(full.get(), "ways"), i, way)
        ways.emplace_back(json_string_value(json_object_get(way, "settings")));
    EXPECT_EQ(ways, (std::vector<std::string>{"--micro-batch 1", "--method lora",
                                              "--method lora --micro-batch 1"}));
}

TEST_F(Plan, ShardsAreNamed)
{
    TrainCall call(folder, "out");
    call.o.method = "full";
    for (int64_t bytes : {0, 30000}) {
        call.o.shard_bytes = bytes;
        const Json full = plan(call);
        std::string names;
        size_t i;
        const json_t *name;
        json_array_foreach(json_object_get(full.get(), "writes"), i, name) names +=
            std::string(json_string_value(name)) + "\n";
        EXPECT_EQ(mentions(names, "/model.safetensors.index.json\n"), bytes > 0) << names;
        EXPECT_EQ(mentions(names, "/model.safetensors\n"), bytes == 0) << names;
    }
}

TEST_F(Plan, TheFirstExampleShowsWhatIsLearnt)
{
    const Messages messages;
    TrainCall call(folder, "out");
    call.o.epochs = 1;
    ASSERT_OK(call.run());
    std::string all;
    for (const std::string &line : messages.lines)
        all += line + "\n";
    EXPECT_TRUE(mentions(all, "the first example, 'dialogue-0'")) << all;
    EXPECT_TRUE(mentions(all, "I would like a slow film with rain, please, number 0<|im_end|>")) << all;
    EXPECT_TRUE(mentions(all, "\xe2\x9f\xa6"
                              "1. Night Ferry (2003)<|im_end|>\xe2\x9f\xa7"))
        << all;
    EXPECT_TRUE(mentions(all, "  | <|im_start|>user\n")) << all;
    EXPECT_FALSE(mentions(all, "\033")) << "colour is the terminal's";
}

TEST_F(Plan, ALongPromptIsCutInItsMiddleOnly)
{
    const std::string wish = std::string(1500, 'x') + "end";
    write_text(folder.file("dialogues.jsonl"),
               "{\"id\": \"long\", \"messages\": [{\"role\": \"user\", \"content\": \"" + wish +
                   "\"}, {\"role\": \"assistant\", \"content\": \"One\\nTwo\"}]}\n");
    const Messages messages;
    TrainCall call(folder, "out");
    call.o.max_tokens = 4000;
    plan(call);
    std::string all;
    for (const std::string &line : messages.lines)
        all += line + "\n";
    EXPECT_TRUE(mentions(all, " bytes) ... ")) << all;
    EXPECT_TRUE(mentions(all, "xend<|im_end|>")) << all;
    EXPECT_TRUE(mentions(all, "\xe2\x9f\xa6"
                              "One\xe2\x9f\xa7\n  | \xe2\x9f\xa6"
                              "Two<|im_end|>\xe2\x9f\xa7"))
        << all;
}

TEST_F(Plan, EveryStepSaysHowFastItWas)
{
    TrainCall call(folder, "out");
    call.o.epochs = 2;
    ASSERT_OK(call.run());
    const auto lines = lines_of(call.file("events.jsonl"));
    ASSERT_EQ(lines.size(), 8u);
    for (const std::string &line : lines) {
        const Json event(json_loads(line.c_str(), 0, nullptr));
        for (const char *key :
             {"loss", "norm", "lr", "seconds", "tokens_per_second", "gflops", "share_of_peak"})
            EXPECT_GT(json_number_value(json_object_get(event.get(), key)), 0) << key << " in " << line;
        for (const char *key : {"tokens", "supervised"})
            EXPECT_GT(int_at(event, key), 0) << key;
        EXPECT_LT(json_number_value(json_object_get(event.get(), "share_of_peak")), 10)
            << "times of a busy machine, but of the same kind: " << line;
        EXPECT_NEAR(json_number_value(json_object_get(event.get(), "tokens_per_second")),
                    static_cast<double>(int_at(event, "tokens")) /
                        json_number_value(json_object_get(event.get(), "seconds")),
                    1);
    }
}
