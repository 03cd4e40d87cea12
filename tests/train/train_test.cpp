// sc_train from files to files: it learns, accumulation changes nothing, and bad input is named.
#include <unistd.h>

#include <functional>

#include "train/support.h"

namespace
{

class Train : public testing::Test
{
  protected:
    void SetUp() override
    {
        write_dialogues(folder.file("dialogues.jsonl"), 12);
    }
    // A copy of the tiny model whose first `count` floats of one tensor are multiplied.
    std::string spoilt_model(const std::string &tensor, float factor)
    {
        const std::string to = folder.file("spoilt");
        std::filesystem::copy(chat_model(), to, std::filesystem::copy_options::recursive);
        std::string bytes = read_text(to + "/model.safetensors");
        uint64_t header = 0;
        std::memcpy(&header, bytes.data(), sizeof(header));
        json_t *table = json_loadb(bytes.data() + 8, header, 0, nullptr);
        json_t *range = json_object_get(json_object_get(table, tensor.c_str()), "data_offsets");
        const auto begin = static_cast<size_t>(json_integer_value(json_array_get(range, 0)));
        const auto end = static_cast<size_t>(json_integer_value(json_array_get(range, 1)));
        json_decref(table);
        EXPECT_GT(end, begin) << tensor;
        for (size_t at = 8 + header + begin; at < 8 + header + end; at += sizeof(float)) {
            float value;
            std::memcpy(&value, &bytes[at], sizeof(value));
            value *= factor;
            std::memcpy(&bytes[at], &value, sizeof(value));
        }
        write_text(to + "/model.safetensors", bytes);
        return to;
    }
    TempFolder folder;
};

Floats tensor_floats(const std::string &path)
{
    safetensors *s = nullptr;
    EXPECT_OK(safetensors_open(path.c_str(), &s));
    Floats all;
    for (size_t i = 0; s != nullptr && i < safetensors_count(s); i++) {
        const st_tensor *t = safetensors_at(s, i);
        Floats one(static_cast<size_t>(t->n_values));
        EXPECT_OK(st_tensor_floats(t, 0, t->n_values, one.data()));
        all.insert(all.end(), one.begin(), one.end());
    }
    safetensors_close(s);
    return all;
}

double number_of(const std::string &line, const char *key)
{
    json_t *row = json_loads(line.c_str(), 0, nullptr);
    const double value = json_number_value(json_object_get(row, key));
    json_decref(row);
    return value;
}

TEST_F(Train, LearnsFourDialoguesByHeart)
{
    write_dialogues(folder.file("dialogues.jsonl"), 4);
    for (const char *method : {"lora", "full"}) {
        TrainCall call(folder, method);
        call.o.method = method;
        call.o.epochs = 40;
        call.o.batch_size = 4;
        call.o.lr = 0.02;
        call.o.rank = 8;
        ASSERT_OK(call.run());
        EXPECT_EQ(call.result.n_steps, 40);
        EXPECT_EQ(call.result.n_examples, 4);
        EXPECT_GT(call.result.first_loss, 4) << method; // near log(640) = 6.5 nats for random weights
        EXPECT_LT(call.result.last_loss, 0.5 * call.result.first_loss) << method;
        const auto events = lines_of(call.file("events.jsonl"));
        ASSERT_EQ(events.size(), 40u);
        EXPECT_DOUBLE_EQ(number_of(events[0], "step"), 1);
        EXPECT_NEAR(number_of(events[39], "loss"), call.result.last_loss, 1e-6);
        EXPECT_NEAR(number_of(events[0], "lr"), 0.02 / 4, 1e-9); // a tenth of the steps warms up
        EXPECT_FALSE(std::filesystem::exists(call.file("checkpoints")));
        EXPECT_TRUE(leftovers(call.out).empty());
    }
    EXPECT_TRUE(std::filesystem::exists(folder.file("lora/adapter_config.json")));
    EXPECT_TRUE(std::filesystem::exists(folder.file("full/tokenizer.json")));
    EXPECT_TRUE(std::filesystem::exists(folder.file("full/chat_template.jinja")));
}

TEST_F(Train, OneTimesEightIsEightTimesOne)
{
    for (const char *method : {"lora", "full"}) {
        TrainCall whole(folder, std::string(method) + "-whole"),
            parts(folder, std::string(method) + "-parts");
        for (TrainCall *call : {&whole, &parts}) {
            call->o.method = method;
            call->o.epochs = 2;
            call->o.batch_size = 8;
            call->o.eps = 1e-3; // else a gradient of 1e-9 of either sign moves a weight by the whole rate
        }
        whole.o.micro_batch = 8;
        parts.o.micro_batch = 1;
        ASSERT_OK(whole.run());
        ASSERT_OK(parts.run());
        ASSERT_EQ(whole.result.n_steps, 4); // 8 and 4 dialogues an epoch
        const auto a = lines_of(whole.file("events.jsonl")), b = lines_of(parts.file("events.jsonl"));
        ASSERT_EQ(a.size(), b.size());
        for (size_t i = 0; i < a.size(); i++) {
            EXPECT_NEAR(number_of(a[i], "loss"), number_of(b[i], "loss"), 1e-6 * number_of(a[i], "loss"))
                << method;
            EXPECT_NEAR(number_of(a[i], "norm"), number_of(b[i], "norm"), 1e-4 * number_of(a[i], "norm"))
                << method;
        }
        const std::string name =
            std::string(method) == "lora" ? "adapter_model.safetensors" : "model.safetensors";
        const Floats x = tensor_floats(whole.file(name)), y = tensor_floats(parts.file(name));
        EXPECT_GT(x.size(), 1000u);
        EXPECT_LT(max_difference(x, y), 1e-5) << method;
    }
}

TEST_F(Train, TheSameSeedGivesTheSameBytesAndAnotherDoesNot)
{
    std::map<std::string, std::string> adapters;
    for (const char *name : {"a", "b", "other seed", "no shuffle"}) {
        TrainCall call(folder, name);
        call.o.epochs = 2;
        call.o.dropout = 0.2;
        call.o.common.seed = std::string(name) == "other seed" ? 8 : 7;
        call.o.shuffle = std::string(name) != "no shuffle";
        ASSERT_OK(call.run());
        adapters[name] = read_text(call.file("adapter_model.safetensors"));
    }
    EXPECT_EQ(adapters["a"], adapters["b"]);
    EXPECT_NE(adapters["a"], adapters["other seed"]);
    EXPECT_NE(adapters["a"], adapters["no shuffle"]);
}

TEST_F(Train, AnAdapterIsGoneOnFrom)
{
    TrainCall first(folder, "first"), second(folder, "second");
    first.o.epochs = second.o.epochs = 4;
    first.o.lr = second.o.lr = 0.01;
    ASSERT_OK(first.run());
    second.o.init_adapter = first.out.c_str();
    ASSERT_OK(second.run());
    EXPECT_LT(second.result.first_loss, first.result.first_loss - 0.1);
    EXPECT_LT(second.result.last_loss, first.result.last_loss);
}

TEST_F(Train, MergedWeightsSayWhatTheAdapterSays)
{
    TrainCall call(folder, "adapter");
    call.o.epochs = 4;
    call.o.lr = 0.01;
    ASSERT_OK(call.run());
    const std::string merged = folder.file("merged"), base = chat_model();
    sc_merge_options m = sc_merge_default();
    m.common = call.o.common;
    m.model = base.c_str();
    m.adapter = call.out.c_str();
    m.out = merged.c_str();
    sc_merge_result merge_result = {};
    ASSERT_OK(sc_merge(&m, &merge_result));
    Opened plain(base), adapted(base), one(merged);
    ASSERT_TRUE(plain.ok() && adapted.ok() && one.ok());
    ASSERT_OK(model_lora_load(adapted, call.out.c_str()));
    Ints ids;
    for (int32_t i = 0; i < 40; i++)
        ids.push_back(3 + 13 * i);
    const Ints ends = {0, 25, 40};
    const Floats x = logits_of(plain, ids, ends), y = logits_of(adapted, ids, ends),
                 z = logits_of(one, ids, ends);
    EXPECT_GT(max_difference(x, y), 1e-2); // the adapter does something
    EXPECT_LT(max_difference(y, z), 1e-4);
    EXPECT_TRUE(std::filesystem::exists(merged + "/chat_template.jinja"));
    EXPECT_TRUE(leftovers(merged).empty());
}

TEST_F(Train, DoraAndRsloraLearnAndAreGoneOnFrom)
{
    TrainCall plain(folder, "plain"), first(folder, "first"), second(folder, "second");
    for (TrainCall *call : {&plain, &first, &second}) {
        call->o.epochs = 4;
        call->o.lr = 0.01;
    }
    first.o.dora = first.o.rslora = true;
    ASSERT_OK(plain.run());
    ASSERT_OK(first.run());
    EXPECT_EQ(first.result.first_loss, plain.result.first_loss) << "both start as the base model";
    EXPECT_LT(first.result.last_loss, first.result.first_loss - 0.1);
    EXPECT_NE(first.result.last_loss, plain.result.last_loss);
    const std::string config = read_text(first.file("adapter_config.json"));
    EXPECT_TRUE(mentions(config, "\"use_dora\": true")) << config;
    EXPECT_TRUE(mentions(config, "\"use_rslora\": true")) << config;
    second.o.init_adapter = first.out.c_str();
    ASSERT_OK(second.run());
    EXPECT_LT(second.result.first_loss, first.result.first_loss - 0.1);
    EXPECT_TRUE(mentions(read_text(second.file("adapter_config.json")), "\"use_dora\": true"));
}

TEST_F(Train, RecomputingChangesNoByte)
{
    for (const char *method : {"lora", "full"}) {
        TrainCall kept(folder, std::string(method) + "-kept"), again(folder, std::string(method) + "-again");
        kept.o.method = again.o.method = method;
        kept.o.dropout = again.o.dropout = std::string(method) == "lora" ? 0.1 : 0;
        again.o.recompute = true;
        ASSERT_OK(kept.run());
        ASSERT_OK(again.run());
        const char *name = std::string(method) == "lora" ? "adapter_model.safetensors" : "model.safetensors";
        EXPECT_EQ(read_text(kept.file(name)), read_text(again.file(name))) << method;
    }
}

TEST_F(Train, AdamPutsTheDecayIntoTheGradient)
{
    std::map<std::string, std::string> adapters;
    for (const char *name : {"adamw", "adam", "adamw 0", "adam 0"}) {
        TrainCall call(folder, name);
        call.o.epochs = 2;
        call.o.optimizer = std::string(name).substr(0, 5) == "adamw" ? "adamw" : "adam";
        call.o.weight_decay = std::string(name).back() == '0' ? 0 : 0.1;
        ASSERT_OK(call.run());
        adapters[name] = read_text(call.file("adapter_model.safetensors"));
    }
    EXPECT_EQ(adapters["adamw 0"], adapters["adam 0"]);
    EXPECT_NE(adapters["adamw"], adapters["adam"]);
    EXPECT_NE(adapters["adamw"], adapters["adamw 0"]);
}

TEST_F(Train, AnAdapterOfAnotherShapeIsRefused)
{
    TrainCall call(folder, "out");
    const std::string other = tiny("adapter"); // of three blocks; the chat model has two
    call.o.init_adapter = other.c_str();
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "belongs to another model")) << sc_last_error();
    EXPECT_TRUE(mentions(sc_last_error(), "layers.2.")) << sc_last_error();
}

// The base model as bf16, in shards of a few kB: merged, rounded, read back, and what that changed.
TEST_F(Train, MergeSaysWhatRoundingChangedAndWritesShards)
{
    TrainCall call(folder, "adapter");
    call.o.epochs = 2;
    call.o.lr = 0.01;
    ASSERT_OK(call.run());
    const std::string base = folder.file("base"), merged = folder.file("merged"),
                      exact = folder.file("exact");
    {
        const Opened m(chat_model());
        ASSERT_OK(model_save(m, base.c_str(), DTYPE_BF16, 0));
    }
    sc_merge_options m = sc_merge_default();
    sc_merge_result r = {};
    m.common = call.o.common;
    m.model = base.c_str();
    m.adapter = call.out.c_str();
    m.out = merged.c_str();
    m.shard_bytes = 20000;
    ASSERT_OK(sc_merge(&m, &r));
    EXPECT_TRUE(std::filesystem::exists(merged + "/model.safetensors.index.json"));
    size_t shards = 0;
    for (const auto &[name, bytes] : files_below(merged)) {
        shards += mentions(name, "model-0000");
        EXPECT_TRUE(!mentions(name, "model-0000") || bytes.size() < 20000 + 4000 || mentions(name, "00001"))
            << name;
    }
    EXPECT_GE(shards, 2u);
    EXPECT_FALSE(std::filesystem::exists(merged + "/model.safetensors"));
    EXPECT_TRUE(r.rounded);
    EXPECT_GT(r.n_compared, 20);
    EXPECT_GT(r.largest_logit_change, 0);
    EXPECT_LT(r.largest_logit_change, 0.1 * r.largest_logit);
    EXPECT_LE(r.n_first_words_differ, r.n_compared);
    Opened adapted(base), one(merged);
    ASSERT_TRUE(adapted.ok() && one.ok());
    ASSERT_OK(model_lora_load(adapted, call.out.c_str()));
    const Floats x = logits_of(adapted, {5, 6, 7, 8}, {0, 4}), y = logits_of(one, {5, 6, 7, 8}, {0, 4});
    EXPECT_LT(max_difference(x, y), 3 * r.largest_logit_change + 1e-3);
    const std::string plain = chat_model(); // float: nothing is rounded
    m.model = plain.c_str();
    m.out = exact.c_str();
    m.shard_bytes = 0;
    ASSERT_OK(sc_merge(&m, &r));
    EXPECT_FALSE(r.rounded);
    EXPECT_EQ(r.largest_logit_change, 0);
    m.shard_bytes = -1;
    EXPECT_EQ(sc_merge(&m, &r), SC_USAGE);
}

TEST_F(Train, FullTrainingWritesShards)
{
    TrainCall call(folder, "out");
    call.o.method = "full";
    call.o.epochs = 1;
    call.o.shard_bytes = 30000;
    ASSERT_OK(call.run());
    ASSERT_TRUE(std::filesystem::exists(call.file("model.safetensors.index.json")));
    TrainCall one(folder, "one");
    one.o.method = "full";
    one.o.epochs = 1;
    ASSERT_OK(one.run());
    const Opened sharded(call.out), whole(one.out);
    ASSERT_TRUE(sharded.ok() && whole.ok());
    ASSERT_EQ(sharded->n_parameters, whole->n_parameters);
    size_t total = 0;
    for (int64_t i = 0; i < whole->n_parameters; i++) {
        const parameter &a = sharded->parameters[i], &b = whole->parameters[i];
        const size_t bytes = static_cast<size_t>(a.rows * a.cols) * sizeof(float);
        ASSERT_EQ(a.rows * a.cols, b.rows * b.cols) << a.name;
        EXPECT_EQ(std::memcmp(a.value, b.value, bytes), 0) << a.name;
        total += bytes;
    }
    json_t *index = json_loads(read_text(call.file("model.safetensors.index.json")).c_str(), 0, nullptr);
    EXPECT_EQ(static_cast<size_t>(
                  json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size"))),
              total);
    const json_t *map = json_object_get(index, "weight_map");
    EXPECT_EQ(static_cast<int64_t>(json_object_size(map)), whole->n_parameters);
    std::map<std::string, size_t> sizes, tensors;
    for (int64_t i = 0; i < whole->n_parameters; i++) {
        const parameter &p = whole->parameters[i];
        const char *file = json_string_value(json_object_get(map, p.name));
        ASSERT_NE(file, nullptr) << p.name;
        sizes[file] += static_cast<size_t>(p.rows * p.cols) * sizeof(float);
        tensors[file]++;
    }
    EXPECT_GT(sizes.size(), 1u);
    for (const auto &[file, bytes] : sizes)
        EXPECT_TRUE(bytes <= 30000 || tensors[file] == 1) << file << " holds " << bytes;
    json_decref(index);
}

TEST_F(Train, MergeRefusesWhatIsNoAdapter)
{
    const std::string base = chat_model(), out = folder.file("merged"), none = folder.file("none");
    sc_merge_options m = sc_merge_default();
    m.model = base.c_str();
    m.out = out.c_str();
    m.adapter = none.c_str();
    sc_merge_result merge_result = {};
    EXPECT_EQ(sc_merge(&m, &merge_result), SC_BAD_INPUT);
    m.model = none.c_str();
    EXPECT_EQ(sc_merge(&m, &merge_result), SC_BAD_INPUT);
    EXPECT_TRUE(files_below(out).empty());
}

TEST_F(Train, ALossThatIsNoNumberNamesStepAndDialogue)
{
    TrainCall call(folder, "out");
    call.model = spoilt_model("model.norm.weight", 3e38f);
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "dialogue-")) << sc_last_error();
    EXPECT_TRUE(mentions(sc_last_error(), "step 1;")) << sc_last_error();
    EXPECT_FALSE(std::filesystem::exists(call.file("adapter_model.safetensors")));
}

TEST_F(Train, ALossThatRunsAwayKeepsTheCheckpoint)
{
    TrainCall call(folder, "out");
    call.o.method = "full";
    call.o.lr = 1e30;
    call.o.warmup_steps = 0;
    call.o.save_every = 1;
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "step 2;")) << sc_last_error();
    EXPECT_TRUE(mentions(sc_last_error(), "dialogue-")) << sc_last_error();
    EXPECT_TRUE(std::filesystem::exists(call.file("checkpoints/step-1/state.safetensors")));
    EXPECT_FALSE(std::filesystem::exists(call.file("model.safetensors")));
}

TEST_F(Train, OptionsOutOfRangeAreUsage)
{
    const std::vector<std::function<void(sc_train_options &)>> wrong = {
        [](auto &o) { o.method = "half"; },
        [](auto &o) { o.epochs = 0; },
        [](auto &o) { o.batch_size = 0; },
        [](auto &o) { o.max_tokens = 0; },
        [](auto &o) { o.lr = -1; },
        [](auto &o) { o.lr = NAN; },
        [](auto &o) { o.schedule = "square"; },
        [](auto &o) { o.beta1 = 1; },
        [](auto &o) { o.eps = 0; },
        [](auto &o) { o.rank = 0; },
        [](auto &o) { o.dropout = 1; },
        [](auto &o) { o.resume = "maybe"; },
        [](auto &o) { o.targets = "z_proj"; },
        [](auto &o) { o.clip_norm = -1; },
        [](auto &o) { o.weight_decay = NAN; },
        [](auto &o) { o.epochs = INT64_MAX; },
        [](auto &o) { o.micro_batch = -1; },
        [](auto &o) { o.alpha = NAN; },
        [](auto &o) { o.optimizer = "sgd"; },
        [](auto &o) { o.shard_bytes = -1; },
        [](auto &o) { o.dry_run = true; },
        [](auto &o) {
            o.method = "full";
            o.dora = true;
        },
        [](auto &o) {
            o.batch_size = INT64_MAX;
            o.epochs = INT64_MAX;
        }};
    for (size_t i = 0; i < wrong.size(); i++) {
        TrainCall call(folder, "out");
        wrong[i](call.o);
        EXPECT_EQ(call.run(), SC_USAGE) << i << ": " << sc_last_error();
        EXPECT_FALSE(std::filesystem::exists(call.file("adapter_model.safetensors"))) << i;
    }
}

TEST_F(Train, BadFilesAreNamed)
{
    TrainCall call(folder, "out");
    call.dialogues = folder.file("absent.jsonl");
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "absent.jsonl")) << sc_last_error();
    write_text(folder.file("empty.jsonl"), "");
    call.dialogues = folder.file("empty.jsonl");
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "empty.jsonl")) << sc_last_error();
    write_text(folder.file("torn.jsonl"), dialogue_line(0) + dialogue_line(1).substr(0, 40));
    call.dialogues = folder.file("torn.jsonl");
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "torn.jsonl:2")) << sc_last_error();
    call.dialogues = folder.file("dialogues.jsonl");
    call.model = folder.file("no-model");
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "no-model")) << sc_last_error();
    call.model = chat_model();
    call.o.max_tokens = 40; // shorter than any request
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "dialogue-0")) << sc_last_error();
    EXPECT_FALSE(std::filesystem::exists(call.file("adapter_model.safetensors")));
}

TEST_F(Train, APlaceThatCannotBeWritten)
{
    write_text(folder.file("file"), "x");
    TrainCall call(folder, "file/out");
    EXPECT_EQ(call.run(), SC_IO) << sc_last_error();
    TrainCall absent(folder, "out");
    absent.out = "/proc/seedcorn/out";
    EXPECT_EQ(absent.run(), SC_IO) << sc_last_error();
}

TEST_F(Train, AnotherProcessInTheSameFolder)
{
    TrainCall call(folder, "out");
    file_lock *lock = nullptr;
    ASSERT_OK(file_make_dirs(call.out.c_str()));
    ASSERT_OK(file_lock_take(call.out.c_str(), &lock));
    EXPECT_EQ(call.run(), SC_BUSY);
    EXPECT_TRUE(mentions(sc_last_error(), std::to_string(getpid()))) << sc_last_error();
    file_lock_release(lock);
    EXPECT_OK(call.run());
}

} // namespace
