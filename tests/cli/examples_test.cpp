// The programs of examples/c, built against the public headers and the shared library alone.
#include <cstring>

#include "pipeline/tool.h"

extern "C" {
#include "seedcorn/seedcorn.h"
}

namespace
{

class Examples : public testing::Test
{
  protected:
    ToolResult select(const std::vector<std::string> &arguments)
    {
        return Tool(folder, arguments, nullptr, SC_EXAMPLE_SELECT).wait();
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

} // namespace
