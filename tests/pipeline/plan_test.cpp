// From YAML to a plan: which stage feeds which, and what is refused with file:line.
#include "train/support.h"

extern "C" {
#include "pipeline/plan.h"
}

namespace
{

class Plan : public testing::Test
{
  protected:
    void TearDown() override
    {
        plan_free(&p);
    }
    sc_status read(const std::string &yaml)
    {
        plan_free(&p);
        write_text(folder.file("run.yaml"), yaml);
        return plan_read(folder.file("run.yaml").c_str(), "RUN", &p);
    }
    void refuses(const std::string &yaml, int line, const std::string &said, sc_status code = SC_USAGE)
    {
        EXPECT_EQ(read(yaml), code) << yaml;
        const std::string sentence = sc_last_error();
        EXPECT_TRUE(mentions(sentence, said)) << sentence;
        if (line > 0) {
            EXPECT_TRUE(mentions(sentence, "run.yaml:" + std::to_string(line) + ": ")) << sentence;
        }
        EXPECT_EQ(p.n, 0u);
    }
    const stage *at(const std::string &key) const
    {
        for (size_t i = 0; i < p.n; i++)
            if (key == p.stages[i].key)
                return &p.stages[i];
        ADD_FAILURE() << "no stage " << key;
        return &p.stages[0];
    }
    // The key of the stage that feeds a setting; "" if none does.
    std::string feeder(const std::string &key, const std::string &setting_name) const
    {
        const stage *s = at(key);
        for (size_t i = 0; i < s->n_links; i++)
            if (setting_name == s->links[i].setting->name)
                return p.stages[s->links[i].producer].key;
        return "";
    }
    TempFolder folder;
    plan p = {};
};

const std::string SMALL = "pull: smollm2-135m-instruct\n"
                          "import:\n"
                          "  - {kind: reviews, reviews: r.jsonl, items: i.jsonl}\n"
                          "  - {kind: dialogues, name: talks, input: /data/d.jsonl, format: messages}\n"
                          "embed:\n"
                          "select: {budget: 5}\n"
                          "synth: {teacher: offline}\n"
                          "train: {epochs: 2}\n"
                          "recommend:\n"
                          "  - name: plain\n"
                          "  - {name: tuned, adapter: lora, constrained: true, items: reviews}\n"
                          "generate: {name: said, adapter: lora, stop: [x, \"y z\"]}\n"
                          "eval: {items: reviews, exclude_seen: true, seed: 3}\n";

TEST_F(Plan, LinksWhatIsLeftOutAndWhatIsNamed)
{
    ASSERT_OK(read(SMALL));
    std::string keys;
    for (size_t i = 0; i < p.n; i++)
        keys += std::string(p.stages[i].key) + " ";
    EXPECT_EQ(keys, "pull/smollm2-135m-instruct import/reviews import/talks embed select synth train/lora "
                    "recommend/plain recommend/tuned generate/said eval/plain eval/tuned ");
    EXPECT_EQ(feeder("embed", "data"), "import/reviews");
    EXPECT_EQ(feeder("embed", "model"), "pull/smollm2-135m-instruct");
    EXPECT_EQ(feeder("select", "embeddings"), "embed");
    EXPECT_EQ(feeder("synth", "selection"), "select");
    EXPECT_EQ(feeder("train/lora", "dialogues"), "synth");
    EXPECT_EQ(feeder("recommend/plain", "adapter"), "");
    EXPECT_EQ(feeder("recommend/tuned", "adapter"), "train/lora");
    EXPECT_EQ(feeder("recommend/tuned", "dialogues"), "import/talks");
    EXPECT_EQ(feeder("recommend/tuned", "items"), "import/reviews");
    EXPECT_EQ(feeder("generate/said", "model"), "pull/smollm2-135m-instruct");
    EXPECT_EQ(feeder("generate/said", "adapter"), "train/lora");
    EXPECT_EQ(feeder("generate/said", "dialogues"), "import/talks");
    EXPECT_STREQ(at("generate/said")->product, "RUN/generate/said/replies.jsonl");
    // One eval for each recommend, with the settings of the one that stands there.
    EXPECT_EQ(feeder("eval/plain", "replies"), "recommend/plain");
    EXPECT_EQ(feeder("eval/tuned", "replies"), "recommend/tuned");
    EXPECT_EQ(feeder("eval/tuned", "dialogues"), "import/talks");
    EXPECT_EQ(feeder("eval/tuned", "items"), "import/reviews");
    const auto *eval = static_cast<const sc_eval_options *>(at("eval/tuned")->options.values);
    EXPECT_TRUE(eval->exclude_seen);
    EXPECT_EQ(eval->common.seed, 3);
    EXPECT_STREQ(at("synth")->product, "RUN/synth/dialogues.jsonl");
    EXPECT_STREQ(at("import/reviews")->items, "RUN/import/reviews/items.jsonl");
    EXPECT_EQ(at("import/talks")->items, nullptr);
}

TEST_F(Plan, PathsStartAtTheFilesFolder)
{
    ASSERT_OK(read(SMALL));
    const auto *reviews =
        static_cast<const sc_import_reviews_options *>(at("import/reviews")->options.values);
    EXPECT_EQ(reviews->reviews[0], folder.file("r.jsonl"));
    EXPECT_STREQ(options_string(&at("import/talks")->options, "input"), "/data/d.jsonl");
}

TEST_F(Plan, ResolveFillsInWhatTheProducersMade)
{
    ASSERT_OK(read(SMALL));
    for (size_t i = 0; i < p.n; i++) {
        if (p.stages[i].product == nullptr)
            p.stages[i].product = strdup("/cache/model"); // what pull tells when it has run
        ASSERT_OK(plan_resolve(&p, i));
    }
    EXPECT_STREQ(options_string(&at("recommend/tuned")->options, "model"), "/cache/model");
    EXPECT_STREQ(options_string(&at("recommend/tuned")->options, "adapter"), "RUN/train/lora");
    EXPECT_STREQ(options_string(&at("eval/tuned")->options, "items"), "RUN/import/reviews/items.jsonl");
    EXPECT_STREQ(options_string(&at("select")->options, "embeddings"), "RUN/embed/embeddings.npy");
}

TEST_F(Plan, TheWholePlanAsYamlIsYaml)
{
    ASSERT_OK(read(SMALL));
    strbuf text = {};
    ASSERT_OK(plan_yaml(&p, &text));
    EXPECT_TRUE(mentions(text.data, "clip-norm: 1")) << text.data; // every default is there
    write_text(folder.file("all.yaml"), text.data);
    strbuf_free(&text);
    plan again = {};
    EXPECT_EQ(plan_read(folder.file("all.yaml").c_str(), "RUN", &again), SC_OK) << sc_last_error();
    EXPECT_EQ(again.n, p.n);
    plan_free(&again);
}

TEST_F(Plan, CommonSettingsOfTheTopHoldWhereAStageHasNone)
{
    ASSERT_OK(read("seed: 9\nthreads: 2\nselect: {data: d, embeddings: e.npy, budget: 3, seed: 4}\n"
                   "synth: {data: d}\n"));
    EXPECT_EQ(options_int(&at("select")->options, "seed"), 4);
    EXPECT_EQ(options_int(&at("select")->options, "threads"), 2);
    EXPECT_EQ(options_int(&at("synth")->options, "seed"), 9);
}

TEST_F(Plan, MisspeltWordsAreNamedWithTheNearest)
{
    refuses("selekt: {budget: 3}\n", 1, "did you mean 'select'?");
    refuses("seed: 0\n\ntrain:\n  epochs: 3\n  bach_size: 4\n", 5, "did you mean 'batch-size'?");
    refuses("train:\n  - epochs: many\n", 2, "whole number");
    refuses("select:\n  strategy: fischer\n", 2, "js|fisher|bait");
    refuses("sed: 1\nselect: {budget: 3}\n", 1, "did you mean 'seed'?");
    refuses("something_else: 1\n", 1, "is no verb of a run");
    refuses("train: {model: m, dialogues: d}\nrecommend:\n  - {model: m, dialogues: d, adapter: lor}\n", 3,
            "did you mean 'lora'?");
    refuses("import: {kind: revews}\n", 1, "not 'revews'");
    refuses("import: {reviews: a}\n", 1, "kind");
}

TEST_F(Plan, ARepeatedKeyIsRefused)
{
    refuses("train: {epochs: 1}\nselect: {budget: 1}\ntrain: {epochs: 2}\n", 3, "second time");
    refuses("train:\n  epochs: 1\n  epochs: 2\n", 3, "'epochs' stands here a second time");
    refuses("pull: smollm2-135m-instruct\ntrain:\n  - {name: a, dialogues: d}\n  - {name: a, dialogues: d}\n",
            4, "a second 'train/a'");
}

TEST_F(Plan, NamesThatAreNoFolders)
{
    for (const char *name : {"a/b", "..", "''", "'a b'", ".hidden"})
        refuses("pull: smollm2-135m-instruct\ntrain:\n  - {name: " + std::string(name) + ", dialogues: d}\n",
                3, "becomes a folder");
}

TEST_F(Plan, SeveralProducersMustBeNamed)
{
    refuses("pull: [smollm2-135m-instruct, minilm-l6-v2]\ntrain: {dialogues: d.jsonl}\n", 2, "name one");
    EXPECT_OK(read("pull: [smollm2-135m-instruct, minilm-l6-v2]\n"
                   "train: {model: smollm2-135m-instruct, dialogues: d.jsonl}\n"));
    EXPECT_EQ(feeder("train/lora", "model"), "pull/smollm2-135m-instruct");
}

TEST_F(Plan, WhatIsMissingIsNamedWithItsStage)
{
    refuses("train:\n  epochs: 1\n", 2, "--model DIR");
    refuses("select: {data: d, embeddings: e.npy}\n", 1, "--budget");
}

TEST_F(Plan, OutBelongsToRun)
{
    refuses("select:\n  budget: 3\n  out: here.jsonl\n", 3, "'out' is chosen by run");
}

TEST_F(Plan, FilesThatAreNoPlan)
{
    refuses("", 0, "run.yaml");
    refuses("- train\n", 0, "mapping of verbs");
    refuses("train: [1\n", 0, "not valid YAML");
    refuses("train: 3\n", 1, "mapping of its settings");
    refuses("seed: 1\n", 0, "no stage");
    refuses("seed: {a: 1}\ntrain: {model: m, dialogues: d}\n", 1, "seed");
    refuses("train: {model: {a: b}}\n", 1, "not a mapping");
    refuses("? [a, b]\n: 1\n", 1, "is no verb");
    refuses("train:\n  ? [a]\n  : 1\n", 2, "plain word");
    EXPECT_EQ(plan_read(folder.file("absent.yaml").c_str(), "RUN", &p), SC_BAD_INPUT);
    EXPECT_TRUE(mentions(sc_last_error(), "absent.yaml")) << sc_last_error();
    // An anchor that holds itself.
    refuses("train: &a [*a]\n", 0, "");
}

} // namespace
