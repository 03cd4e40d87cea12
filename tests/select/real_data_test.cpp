// Every strategy on every view of real reviews, embedded by a tiny model. Skipped where the data is not there.
#include <filesystem>
#include <fstream>

#include "fixture.h"

extern "C" {
#include "base/json.h"
#include "formats/npy.h"
#include "seedcorn/embed.h"
#include "seedcorn/import.h"
#include "seedcorn/select.h"
}

namespace
{

namespace fs = std::filesystem;

const std::string MODEL = SC_SOURCE_DIR "/tests/fixtures/tiny_chat/model";

class RealReviews : public testing::Test
{
  protected:
    // The data set and its embeddings, made once for all tests; "" where the data is not there.
    static void SetUpTestSuite()
    {
        const std::string from = SC_SOURCE_DIR "/../shared/data/imdb_seed/";
        const std::string reviews = from + "imdb_2k_reviews.jsonl.gz", items = from + "meta_imdb_2k.jsonl.gz";
        if (!fs::exists(reviews))
            return;
        char name[] = "/tmp/seedcorn-real-XXXXXX";
        folder = mkdtemp(name);
        const std::string data = file("data");
        const char *const review_files[] = {reviews.c_str(), nullptr}, *const item_files[] = {items.c_str(),
                                                                                              nullptr};
        sc_import_reviews_options import = sc_import_reviews_default();
        sc_import_result imported;
        import.reviews = review_files, import.items = item_files, import.out = data.c_str();
        ASSERT_EQ(sc_import_reviews(&import, &imported), SC_OK) << sc_last_error();
        for (const char *text : {"review", "item"}) {
            const std::string out = file(std::string(text) + ".npy");
            sc_embed_options embed = sc_embed_default();
            sc_embed_result embedded;
            embed.data = data.c_str(), embed.model = MODEL.c_str(), embed.out = out.c_str();
            embed.text = text, embed.max_tokens = 32;
            ASSERT_EQ(sc_embed(&embed, &embedded), SC_OK) << sc_last_error();
        }
    }
    static void TearDownTestSuite()
    {
        if (!folder.empty())
            fs::remove_all(folder);
    }
    void SetUp() override
    {
        if (folder.empty())
            GTEST_SKIP() << "the public data set imdb_seed does not lie beside the repository";
    }
    static std::string file(const std::string &name)
    {
        return folder + "/" + name;
    }
    // The rows that were chosen, in order, and what the last line of the curve says was reached.
    std::vector<int64_t> select(const std::string &strategy, const std::string &view, int64_t budget,
                                double *objective = nullptr)
    {
        const std::string data = file("data"), reviews = file("review.npy"), items = file("item.npy"),
                          out = file(strategy + "-" + view + ".jsonl");
        sc_select_options o = sc_select_default();
        sc_select_result result;
        o.data = data.c_str(), o.embeddings = reviews.c_str(), o.out = out.c_str();
        o.strategy = strategy.c_str(), o.view = view.c_str(), o.budget = budget;
        o.clusters = 16, o.factors = 8, o.item_embeddings = items.c_str();
        if (view.find("metadata") == std::string::npos)
            o.item_embeddings = nullptr;
        if (strategy == "nll")
            o.model = MODEL.c_str();
        EXPECT_EQ(sc_select(&o, &result), SC_OK) << strategy << " on " << view << ": " << sc_last_error();
        std::vector<int64_t> rows;
        std::ifstream lines(out);
        for (std::string line; std::getline(lines, line);) {
            json_t *pick = json_loads(line.c_str(), 0, nullptr);
            rows.push_back(json_integer_value(json_object_get(pick, "row")));
            EXPECT_TRUE(std::isfinite(json_number_value(json_object_get(pick, "score"))));
            json_decref(pick);
        }
        EXPECT_EQ(result.n_selected, (int64_t)rows.size());
        if (objective)
            *objective = result.objective;
        return rows;
    }
    static inline std::string folder;
};

TEST_F(RealReviews, EveryStrategyOnEveryView)
{
    int n;
    const strategy *all = strategy_list(&n);
    std::vector<const char *> views = {"semantic", "metadata", "user", "semantic+metadata+user"};
#ifdef __SANITIZE_ADDRESS__ // which takes ten times as long
    views = {"semantic+metadata+user"};
#endif
    for (const char *view : views)
        for (int s = 0; s < n; s++) {
            SCOPED_TRACE(std::string(all[s].name) + " on " + view);
            double objective = NAN;
            const std::vector<int64_t> rows = select(all[s].name, view, 40, &objective);
            EXPECT_EQ(rows.size(), 40u);
            EXPECT_EQ(std::set<int64_t>(rows.begin(), rows.end()).size(), rows.size());
            EXPECT_TRUE(std::isfinite(objective));
            if (std::string(all[s].name) == "kmeans" ||
                view != views.back()) // kmeans has as many clusters as picks
                continue;
            const std::vector<int64_t> fewer = select(all[s].name, view, 15);
            EXPECT_EQ(fewer, std::vector<int64_t>(rows.begin(), rows.begin() + 15));
        }
}

TEST_F(RealReviews, FisherIsTheTextbooksSequence)
{
    npy_file map;
    ASSERT_EQ(npy_open_as(file("review.npy").c_str(), NPY_F4, 2, &map), SC_OK);
    const int64_t n = map.shape[0], dim = map.shape[1], budget = 60;
    const float *x = static_cast<const float *>(map.data);
    std::vector<long double> a(dim * dim), u(dim);
    for (int64_t d = 0; d < dim; d++)
        a[d * dim + d] = 1;
    std::vector<int64_t> expected;
    for (int64_t t = 0; t < budget; t++) {
        int64_t best = -1;
        long double most = -1;
        for (int64_t i = 0; i < n; i++) {
            if (std::find(expected.begin(), expected.end(), i) != expected.end())
                continue;
            long double gain = 0;
            for (int64_t d = 0; d < dim; d++) {
                long double sum = 0;
                for (int64_t e = 0; e < dim; e++)
                    sum += a[d * dim + e] * x[i * dim + e];
                gain += sum * x[i * dim + d];
            }
            if (gain > most) {
                most = gain;
                best = i;
            }
        }
        expected.push_back(best);
        for (int64_t d = 0; d < dim; d++) {
            u[d] = 0;
            for (int64_t e = 0; e < dim; e++)
                u[d] += a[d * dim + e] * x[best * dim + e];
        }
        for (int64_t d = 0; d < dim; d++)
            for (int64_t e = 0; e < dim; e++)
                a[d * dim + e] -= u[d] * u[e] / (1 + most);
    }
    npy_close(&map);
    EXPECT_EQ(select("fisher", "semantic", budget), expected);
}

} // namespace
