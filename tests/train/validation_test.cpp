// What is held back: never trained on, split by seeds, measured as training measures, and what it decides.
#include <functional>
#include <set>

#include "train/support.h"

extern "C" {
#include "train/trainer.h"
}

namespace
{

json_t *event_with(const std::vector<std::string> &lines, const char *key, size_t place)
{
    for (const std::string &line : lines) {
        json_t *event = json_loads(line.c_str(), 0, nullptr);
        if (json_object_get(event, key) != nullptr && place-- == 0)
            return event;
        json_decref(event);
    }
    return nullptr;
}

std::vector<double> validation_losses(const TrainCall &call)
{
    std::vector<double> out;
    const auto lines = lines_of(call.file("events.jsonl"));
    for (size_t i = 0;; i++) {
        json_t *event = event_with(lines, "validation_loss", i);
        if (event == nullptr)
            return out;
        out.push_back(json_number_value(json_object_get(event, "validation_loss")));
        json_decref(event);
    }
}

class Validation : public testing::Test
{
  protected:
    void SetUp() override
    {
        write_dialogues(folder.file("dialogues.jsonl"), 12);
    }
    TempFolder folder;
};

// Dialogues in memory: only ids and seeds matter to the split.
class Seeded
{
  public:
    explicit Seeded(const std::vector<int> &seeds)
    {
        for (size_t i = 0; i < seeds.size(); i++) {
            dialogue d = {};
            d.extra = seeds[i] < 0 ? json_object() : json_pack("{s:{s:[i]}}", "seed", "rows", seeds[i]);
            rows_.push_back(d);
        }
        all = {};
        all.rows = rows_.data();
        all.n = rows_.size();
    }
    ~Seeded()
    {
        for (dialogue &d : rows_)
            json_decref(d.extra);
    }
    Seeded(const Seeded &) = delete;
    Seeded &operator=(const Seeded &) = delete;
    dialogues all;

  private:
    std::vector<dialogue> rows_;
};

struct Split {
    sc_status status;
    std::vector<int64_t> training, held;
};

Split split(const Seeded &d, double share, uint64_t seed)
{
    example_set training = {}, held = {};
    Split s = {train_split(&d.all, share, seed, &training, &held), {}, {}};
    s.training.assign(training.list, training.list + training.n);
    s.held.assign(held.list, held.list + held.n);
    free(training.list);
    free(held.list);
    return s;
}

} // namespace

TEST(Split, KeepsWhatGrewFromOneSeedTogether)
{
    std::vector<int> seeds;
    for (int i = 0; i < 60; i++)
        seeds.push_back(i % 20); // three dialogues a seed, far apart in the file
    const Seeded d(seeds);
    std::set<std::vector<int64_t>> seen;
    for (uint64_t seed = 0; seed < 8; seed++) {
        const Split s = split(d, 0.2, seed);
        ASSERT_EQ(s.status, SC_OK) << sc_last_error();
        EXPECT_EQ(s.held.size(), 12u);
        EXPECT_EQ(s.training.size() + s.held.size(), 60u);
        std::set<int> held_seeds, training_seeds;
        for (int64_t row : s.held)
            held_seeds.insert(seeds[static_cast<size_t>(row)]);
        for (int64_t row : s.training)
            training_seeds.insert(seeds[static_cast<size_t>(row)]);
        EXPECT_EQ(held_seeds.size(), 4u);
        for (int one : held_seeds)
            EXPECT_EQ(training_seeds.count(one), 0u);
        EXPECT_TRUE(std::is_sorted(s.training.begin(), s.training.end()));
        EXPECT_EQ(split(d, 0.2, seed).held, s.held);
        seen.insert(s.held);
    }
    EXPECT_GT(seen.size(), 6u) << "the seed decides";
}

TEST(Split, DialoguesWithoutASeedStandAlone)
{
    const Seeded d(std::vector<int>(10, -1));
    EXPECT_EQ(split(d, 0.3, 1).held.size(), 3u);
    EXPECT_EQ(split(d, 0.01, 1).held.size(), 1u) << "at least one";
    EXPECT_EQ(split(d, 0, 1).held.size(), 0u);
    const Seeded same(std::vector<int>(10, 4));
    EXPECT_EQ(split(same, 0.1, 1).status, SC_BAD_INPUT) << "one item cannot be divided";
    EXPECT_TRUE(mentions(sc_last_error(), "1 items")) << sc_last_error();
}

// Dialogues of one item quote the same reviews, whichever of them they grew from.
TEST(Split, ReviewsOfOneItemStayTogether)
{
    std::vector<dialogue> rows(12);
    for (size_t i = 0; i < rows.size(); i++)
        rows[i].extra = json_pack("{s:{s:[i,i],s:s}}", "seed", "rows", static_cast<int>(i),
                                  static_cast<int>(i + 1) % 12, "parent_asin",
                                  i % 3 == 0   ? "a"
                                  : i % 3 == 1 ? "b"
                                               : "c");
    dialogues d = {};
    d.rows = rows.data();
    d.n = rows.size();
    example_set training = {}, held = {};
    ASSERT_OK(train_split(&d, 0.1, 3, &training, &held));
    ASSERT_EQ(held.n, 4);
    for (int64_t k = 0; k < held.n; k++)
        EXPECT_EQ(held.list[k] % 3, held.list[0] % 3);
    free(training.list);
    free(held.list);
    for (dialogue &row : rows)
        json_decref(row.extra);
}

TEST_F(Validation, AFileIsMeasuredAndTheBestIsWritten)
{
    write_text(folder.file("held.jsonl"), dialogue_line(20) + dialogue_line(21) + dialogue_line(22));
    const std::string held = folder.file("held.jsonl");
    TrainCall call(folder, "out");
    call.o.validation = held.c_str();
    call.o.epochs = 5;
    call.o.lr = 0.03;
    call.o.validate_every = 3;
    call.o.keep_checkpoints = 1;
    ASSERT_OK(call.run());
    EXPECT_EQ(call.result.n_examples, 12);
    EXPECT_EQ(call.result.n_validation, 3);
    EXPECT_EQ(call.result.n_steps, 20);
    const std::vector<double> losses = validation_losses(call);
    ASSERT_EQ(losses.size(), 8u); // before the first step, after 3, 6 ... 18, and at the end
    const auto best = std::min_element(losses.begin() + 1, losses.end());
    EXPECT_NEAR(call.result.best_loss, *best, 1e-8);
    const auto place = best - losses.begin();
    EXPECT_EQ(call.result.best_step, place == 7 ? 20 : 3 * place);
    // the weights that were written are those of the best step
    safetensors *s = nullptr;
    const std::string state =
        call.file("checkpoints/step-" + std::to_string(call.result.best_step) + "/state.safetensors");
    ASSERT_OK(safetensors_open(state.c_str(), &s));
    const std::unique_ptr<safetensors, SafetensorsClose> owner(s);
    const st_tensor *master = nullptr;
    ASSERT_OK(safetensors_need(s, "master.lora", &master));
    const Opened m(chat_model());
    ASSERT_OK(model_lora_load(m, call.out.c_str()));
    ASSERT_EQ(master->n_values, m->lora->n_values);
    EXPECT_EQ(std::memcmp(master->data, m->lora->values, master->n_bytes), 0);
    // and what was measured is their loss on the held dialogues
    TrainCall one(folder, "one");
    one.dialogues = held;
    one.o.init_adapter = call.out.c_str();
    one.o.epochs = 1;
    one.o.lr = 1e-20;
    ASSERT_OK(one.run());
    EXPECT_NEAR(one.result.first_loss, call.result.best_loss, 1e-6);
}

TEST_F(Validation, AShareIsNotTrainedOn)
{
    TrainCall call(folder, "out");
    call.o.validation_share = 0.25;
    call.o.epochs = 2;
    ASSERT_OK(call.run());
    EXPECT_EQ(call.result.n_examples, 9);
    EXPECT_EQ(call.result.n_validation, 3);
    EXPECT_EQ(validation_losses(call).size(), 3u) << "before the first step and after each epoch";
    EXPECT_EQ(call.result.n_steps, 6);
    EXPECT_FALSE(std::filesystem::exists(call.file("checkpoints")));
}

TEST_F(Validation, PatienceEndsARunThatGetsWorse)
{
    TrainCall call(folder, "out");
    call.o.validation_share = 0.3;
    call.o.epochs = 40;
    call.o.lr = 0.3; // by heart, then beyond
    call.o.schedule = "constant";
    call.o.validate_every = 1;
    call.o.patience = 2;
    ASSERT_OK(call.run());
    EXPECT_TRUE(call.result.stopped_early);
    EXPECT_LT(call.result.n_steps, 120);
    EXPECT_EQ(call.result.best_step, call.result.n_steps - 2);
    const std::vector<double> losses = validation_losses(call);
    EXPECT_EQ(static_cast<int64_t>(losses.size()), call.result.n_steps + 1);
    const std::string record = read_text(call.file("training.json"));
    EXPECT_TRUE(mentions(record, "\"stopped_early\": true")) << record;
}

TEST_F(Validation, AStoppedRunThatGoesOnEndsWithTheSameBytes)
{
    TrainCall whole(folder, "whole"), parts(folder, "parts");
    for (TrainCall *call : {&whole, &parts}) {
        call->o.validation_share = 0.25;
        call->o.validate_every = 2;
        call->o.patience = 9;
        call->o.epochs = 4;
        call->o.micro_batch = 1;
        call->o.lr = 0.05;
        call->o.dora = true;
        call->o.rslora = true;
    }
    ASSERT_OK(whole.run());
    ASSERT_EQ(parts.run_until(4), SC_INTERRUPTED) << sc_last_error();
    ASSERT_OK(parts.run());
    EXPECT_GT(parts.result.first_step, 0);
    EXPECT_EQ(parts.result.best_step, whole.result.best_step);
    EXPECT_EQ(parts.result.best_loss, whole.result.best_loss);
    EXPECT_EQ(read_text(parts.file("adapter_model.safetensors")),
              read_text(whole.file("adapter_model.safetensors")));
    EXPECT_EQ(read_text(parts.file("training.json")), read_text(whole.file("training.json")));
    // every step and every validation once, in both
    const auto a = lines_of(whole.file("events.jsonl")), b = lines_of(parts.file("events.jsonl"));
    ASSERT_EQ(a.size(), b.size());
    EXPECT_EQ(validation_losses(whole), validation_losses(parts));
}

// The steps before the validation are not lost, and nothing is counted twice.
TEST_F(Validation, ARunStoppedInsideAValidationEndsWithTheSameBytes)
{
    TrainCall whole(folder, "whole"), parts(folder, "parts");
    for (TrainCall *call : {&whole, &parts}) {
        call->o.validation_share = 0.25;
        call->o.validate_every = 2;
        call->o.epochs = 2;
        call->o.lr = 0.05;
        call->o.patience = 2;
    }
    ASSERT_OK(whole.run());
    ASSERT_EQ(whole.result.n_steps, 6);
    const std::vector<std::string> stops = {"step 2: validation on", "step 2: validation on",
                                            "step 4: validation on", "step 6: validation on"};
    for (const std::string &stop : stops) {
        sc_log_set(
            [](void *user, sc_log_level, const char *message) {
                if (mentions(message, *static_cast<const std::string *>(user)))
                    sc_cancel();
            },
            const_cast<std::string *>(&stop), SC_LOG_DEBUG);
        EXPECT_EQ(parts.run(), SC_INTERRUPTED) << stop << sc_last_error();
        sc_cancel_reset();
        sc_log_set(nullptr, nullptr, SC_LOG_WARN);
        EXPECT_TRUE(std::filesystem::exists(parts.file("checkpoints/step-" + stop.substr(5, 1)))) << stop;
    }
    ASSERT_OK(parts.run());
    EXPECT_EQ(parts.result.first_step, 6);
    EXPECT_EQ(read_text(parts.file("adapter_model.safetensors")),
              read_text(whole.file("adapter_model.safetensors")));
    EXPECT_EQ(read_text(parts.file("training.json")), read_text(whole.file("training.json")));
    EXPECT_EQ(lines_of(whole.file("events.jsonl")).size(), lines_of(parts.file("events.jsonl")).size());
    EXPECT_EQ(validation_losses(whole), validation_losses(parts));
}

TEST_F(Validation, ACheckpointThatContradictsItself)
{
    for (const char *change :
         {"\"best_step\": 99", "\"validated_step\": 99", "\"best_step\": 1", "\"step\": 1"}) {
        SCOPED_TRACE(change);
        std::filesystem::remove_all(folder.file("out"));
        TrainCall call(folder, "out");
        call.o.validation_share = 0.25;
        call.o.epochs = 6;
        call.o.validate_every = 2;
        ASSERT_EQ(call.run_until(6), SC_INTERRUPTED) << sc_last_error();
        std::string path;
        for (const auto &[name, bytes] : files_below(call.out))
            if (mentions(name, "state.json"))
                path = call.file(name); // the newest comes last
        ASSERT_FALSE(path.empty());
        std::string text = read_text(path);
        const std::string key = std::string(change).substr(0, std::string(change).find(':') + 1);
        const size_t at =
            text.find("\n  " + key) == std::string::npos ? text.find(key) : text.find("\n  " + key) + 3;
        ASSERT_NE(at, std::string::npos) << text;
        text.replace(at, text.find_first_of(",\n", at) - at, change);
        write_text(path, text);
        EXPECT_EQ(call.run(), SC_BAD_INPUT) << text;
        EXPECT_TRUE(mentions(sc_last_error(), "--resume never")) << sc_last_error();
    }
}

TEST_F(Validation, TheLastCheckpointsAndTheBestStay)
{
    TrainCall call(folder, "out");
    call.o.validation_share = 0.25;
    call.o.epochs = 8;
    call.o.lr = 1000; // soon too far
    call.o.schedule = "constant";
    call.o.validate_every = 1;
    call.o.save_every = 1;
    call.o.keep_checkpoints = 2;
    ASSERT_OK(call.run());
    ASSERT_EQ(call.result.n_steps, 24);
    std::set<std::string> names,
        want = {"step-23", "step-24", "step-" + std::to_string(call.result.best_step)};
    for (const auto &entry : std::filesystem::directory_iterator(call.file("checkpoints")))
        names.insert(entry.path().filename().string());
    EXPECT_LT(call.result.best_step, 23) << "the best is one that would have gone";
    EXPECT_EQ(names, want);
}

TEST_F(Validation, SettingsThatDoNotGoTogether)
{
    const std::string held = folder.file("dialogues.jsonl");
    const std::vector<std::function<void(sc_train_options &)>> wrong = {
        [](auto &o) { o.validation_share = 1; },
        [](auto &o) { o.validation_share = -0.1; },
        [&](auto &o) {
            o.validation_share = 0.1;
            o.validation = held.c_str();
        },
        [](auto &o) { o.patience = 1; },
        [](auto &o) { o.validate_every = 5; },
        [](auto &o) { o.keep_checkpoints = -1; },
        [](auto &o) {
            o.validation_share = 0.1;
            o.patience = -1;
        }};
    for (size_t i = 0; i < wrong.size(); i++) {
        TrainCall call(folder, "out");
        wrong[i](call.o);
        EXPECT_EQ(call.run(), SC_USAGE) << i << ": " << sc_last_error();
    }
    TrainCall call(folder, "out");
    write_text(folder.file("silent.jsonl"),
               "{\"id\": \"mute\", \"messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}\n");
    const std::string silent = folder.file("silent.jsonl");
    call.o.validation = silent.c_str();
    EXPECT_EQ(call.run(), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "mute")) << sc_last_error();
}
