// The programs of examples/c, built against the public headers and the shared library alone.
#include <cstring>

#include "pipeline/tool.h"
#include "train/support.h"

extern "C" {
#include "seedcorn/seedcorn.h"
}

namespace
{

class Examples : public testing::Test
{
  protected:
    ToolResult run(const std::string &name, const std::vector<std::string> &arguments,
                   const std::string &input = "")
    {
        write_text(folder.file("input"), input);
        const auto read_input = [&] { dup2(open(folder.file("input").c_str(), O_RDONLY), STDIN_FILENO); };
        return Tool(folder, arguments, read_input, (std::string(SC_EXAMPLES "/example_") + name).c_str())
            .wait();
    }
    ToolResult select(const std::vector<std::string> &arguments)
    {
        return run("select", arguments);
    }
    TempFolder folder;
};

TEST_F(Examples, SelectChoosesWhatTheLibraryDoes)
{
    const int64_t n = 300, dim = 7, budget = 20;
    std::vector<float> x(n * dim);
    for (size_t i = 0; i < x.size(); i++)
        x[i] = float(int((i * 7919) % 1000) - 500) / 300;
    const std::string bytes(reinterpret_cast<const char *>(x.data()), x.size() * sizeof(float));
    const std::string rows = folder.file("rows.f32");
    write_text(rows, bytes);
    for (const char *strategy : {"fisher", "kcenter", "js"}) {
        sc_selector_options o = sc_selector_default();
        o.strategy = strategy;
        o.budget = budget;
        std::vector<sc_pick> picks(budget);
        ASSERT_EQ(sc_selector_fit(&o, x.data(), n, dim, picks.data(), nullptr), SC_OK) << sc_last_error();
        std::string expected;
        for (const sc_pick &pick : picks) {
            char line[128];
            snprintf(line, sizeof line, "%lld\t%.17g\t%.17g\n", static_cast<long long>(pick.row), pick.score,
                     pick.objective);
            expected += line;
        }
        const ToolResult r = select({rows, "7", strategy, "20"});
        EXPECT_EQ(r.code, 0) << r.err;
        EXPECT_EQ(r.out, expected);
    }
}

TEST_F(Examples, SelectSaysWhatIsWrong)
{
    write_text(folder.file("short.f32"), "abc");
    write_text(folder.file("rows.f32"), std::string(4 * 7 * 3, '\0'));
    EXPECT_EQ(select({}).code, SC_USAGE);
    EXPECT_EQ(select({folder.file("absent"), "7", "fisher", "1"}).code, SC_BAD_INPUT);
    EXPECT_EQ(select({folder.file("short.f32"), "7", "fisher", "1"}).code, SC_BAD_INPUT);
    const ToolResult r = select({folder.file("rows.f32"), "7", "fishr", "1"});
    EXPECT_EQ(r.code, SC_USAGE);
    EXPECT_TRUE(mentions(r.err, "fisher")) << r.err;
    EXPECT_TRUE(r.out.empty());
}

// The same reply as the library's, and the second one knows the first.
TEST_F(Examples, GenerateAnswersLineByLine)
{
    const std::string model = chat_model();
    sc_generate_options o = sc_generate_default();
    o.model = model.c_str();
    o.max_tokens = 128;
    o.repetition_penalty = 1.1;
    sc_generator *g = nullptr;
    ASSERT_EQ(sc_generator_open(&o, &g), SC_OK) << sc_last_error();
    sc_reply first = {}, second = {};
    std::vector<sc_message> said = {{"user", "a slow film"}};
    sc_conversation c = {said.data(), said.size()};
    ASSERT_EQ(sc_generator_reply(g, &c, 1, &first), SC_OK) << sc_last_error();
    said.push_back({"assistant", first.text});
    said.push_back({"user", "another"});
    c = {said.data(), said.size()};
    ASSERT_EQ(sc_generator_reply(g, &c, 1, &second), SC_OK) << sc_last_error();
    const ToolResult r = run("generate", {model}, "a slow film\nanother\n");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, std::string(first.text) + "\n" + second.text + "\n");
    sc_replies_free(&first, 1);
    sc_replies_free(&second, 1);
    sc_generator_close(g);
    EXPECT_EQ(run("generate", {}).code, SC_USAGE);
    const ToolResult absent = run("generate", {folder.file("none")}, "hello\n");
    EXPECT_EQ(absent.code, SC_BAD_INPUT);
    EXPECT_TRUE(mentions(absent.err, "none")) << absent.err;
}

TEST_F(Examples, TrainWritesAnAdapterThatGenerateReads)
{
    write_dialogues(folder.file("dialogues.jsonl"), 12);
    const std::string out = folder.file("adapter");
    const ToolResult r = run("train", {chat_model(), folder.file("dialogues.jsonl"), out});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(mentions(r.out, "steps, loss ")) << r.out;
    EXPECT_TRUE(mentions(r.err, "the first example")) << r.err;
    EXPECT_TRUE(std::filesystem::exists(out + "/adapter_model.safetensors"));
    EXPECT_EQ(run("generate", {chat_model(), out}, "a noir\n").code, 0);
    EXPECT_EQ(run("train", {chat_model(), folder.file("none.jsonl"), folder.file("b")}).code, SC_BAD_INPUT);
    EXPECT_EQ(run("train", {}).code, SC_USAGE);
}

TEST_F(Examples, EmbedComparesReviews)
{
    const std::string data = folder.file("data");
    sc_import_reviews_options import = sc_import_reviews_default();
    const char *const reviews[] = {SC_SOURCE_DIR "/data/sample/reviews.jsonl", nullptr};
    const char *const items[] = {SC_SOURCE_DIR "/data/sample/items.jsonl", nullptr};
    import.reviews = reviews;
    import.items = items;
    import.out = data.c_str();
    ASSERT_EQ(sc_import_reviews(&import, nullptr), SC_OK) << sc_last_error();
    const ToolResult r = run("embed", {data, chat_model(), folder.file("e.npy")});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(mentions(r.err, "reviews")) << r.err;
    size_t n = 0;
    std::istringstream lines(r.out);
    for (std::string line; std::getline(lines, line); n++) {
        EXPECT_EQ(std::stoul(line), n + 1);
        const double cosine = std::stod(line.substr(line.find('\t')));
        EXPECT_GT(cosine, -1.0001);
        EXPECT_LT(cosine, 1.0001);
    }
    EXPECT_EQ(n + 1, lines_of(data + "/reviews.jsonl").size());
    EXPECT_EQ(run("embed", {}).code, SC_USAGE);
    EXPECT_EQ(run("embed", {folder.file("none"), chat_model(), folder.file("f.npy")}).code, SC_BAD_INPUT);
}

} // namespace
