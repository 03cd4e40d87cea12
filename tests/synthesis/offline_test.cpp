// The offline teacher: what its dialogues promise, on the sample and on public reviews.
#include <cctype>
#include <map>
#include <set>

#include "synthesis/support.h"

extern "C" {
#include "data/dataset.h"
#include "data/dialogue.h"
#include "synthesis/phrases.h"
}

namespace
{
std::vector<std::string> words_of(const std::string &text)
{
    std::vector<std::string> out(1);
    for (unsigned char c : text) {
        if (isalnum(c) || c >= 0x80 || c == '\'')
            out.back() += (char)tolower(c);
        else if (!out.back().empty())
            out.emplace_back();
    }
    if (out.back().empty())
        out.pop_back();
    return out;
}

// Everything the offline teacher promises, for every line.
void check_dialogues(const std::string &path, const std::string &data, const std::string &catalogue,
                     const std::string &domain)
{
    Lines rows(path), reviews(data + "/reviews.jsonl"), items(data + "/items.jsonl"),
        titles(catalogue + "/items.jsonl");
    std::map<std::string, std::set<std::vector<std::string>>> copied; // runs of 13 words of an item's reviews
    for (json_t *r : reviews.rows) {
        std::vector<std::string> w = words_of(text_of(r, "text"));
        for (size_t i = 0; i + 13 <= w.size(); i++)
            copied[text_of(r, "parent_asin")].insert({w.begin() + (long)i, w.begin() + (long)i + 13});
    }
    std::set<std::string> known;
    std::map<std::string, std::string> title_of;
    auto plain = [](const std::string &t) {
        strbuf out = {};
        EXPECT_EQ(dataset_plain_title(t.c_str(), &out), SC_OK);
        std::string s = strbuf_text(&out);
        strbuf_free(&out);
        return s;
    };
    for (json_t *i : titles.rows)
        if (!text_of(i, "title").empty())
            known.insert(plain(text_of(i, "title")));
    for (json_t *i : items.rows)
        if (!text_of(i, "title").empty())
            title_of[text_of(i, "parent_asin")] = plain(text_of(i, "title"));

    std::map<std::vector<std::string>, int> beginnings;
    std::set<std::string> ids, used;
    size_t conversations = 0, naming = 0, mentioning = 0;
    for (json_t *row : rows.rows) {
        std::string id = text_of(row, "id"), request = text_of(row, "request");
        EXPECT_TRUE(ids.insert(id).second) << id;
        const json_t *messages = json_object_get(row, "messages"), *seed = json_object_get(row, "seed");
        const json_t *provenance = json_object_get(row, "provenance");
        ASSERT_EQ(json_array_size(messages), 2u);
        std::string prompt = text_of(json_array_get(messages, 0), "content"),
                    answer = text_of(json_array_get(messages, 1), "content");
        EXPECT_EQ(prompt.rfind("Pretend you are a " + domain + " recommender system. \n I will give you", 0),
                  0u)
            << prompt;
        EXPECT_NE(prompt.find("Here is the conversation: \n"), std::string::npos);
        EXPECT_EQ(prompt.substr(prompt.size() - 9), "\nSystem: ");
        EXPECT_NE(prompt.find(request), std::string::npos);
        EXPECT_EQ(request.find_first_of("{}\x02\x03"), std::string::npos) << request;
        conversations += request.find("\nSystem:") != std::string::npos;

        // The answer: 20 known, distinct titles, none that the user named.
        std::vector<std::string> targets = list_of(row, "targets"), seen = list_of(row, "seen");
        EXPECT_EQ(targets.size(), 20u) << id;
        std::set<std::string> distinct;
        std::string expected;
        for (size_t i = 0; i < targets.size(); i++) {
            EXPECT_TRUE(known.count(targets[i])) << targets[i];
            EXPECT_TRUE(distinct.insert(targets[i]).second) << targets[i];
            EXPECT_EQ(std::count(seen.begin(), seen.end(), targets[i]), 0) << targets[i];
            expected += (i ? "\n" : "") + std::to_string(i + 1) + ". " + targets[i];
        }
        EXPECT_EQ(answer, expected);
        for (const std::string &s : seen)
            EXPECT_NE(request.find(s), std::string::npos) << s;
        mentioning += !seen.empty();

        // The target is named only where the template says so.
        std::string item = text_of(seed, "parent_asin"), target = title_of[item];
        bool named = !target.empty() && phrases_name_title(request.c_str(), target.c_str());
        bool may = json_is_true(json_object_get(provenance, "mentions_target"));
        EXPECT_FALSE(named && !may) << target << ": " << request;
        naming += may;
        if (may) {
            EXPECT_EQ(distinct.count(target), 0u);
        } else if (known.count(target)) {
            EXPECT_EQ(targets[0], target);
        }

        std::vector<std::string> w = words_of(request);
        for (size_t i = 0; i + 13 <= w.size(); i++)
            EXPECT_EQ(copied[item].count({w.begin() + (long)i, w.begin() + (long)i + 13}), 0u) << request;
        beginnings[{w.begin(), w.begin() + std::min<long>(8, (long)w.size())}]++;
        used.insert(text_of(seed, "template"));
        EXPECT_GE(json_array_size(json_object_get(seed, "rows")), 1u);
        EXPECT_LE(json_array_size(json_object_get(seed, "rows")), 3u);
        EXPECT_EQ(json_array_size(json_object_get(provenance, "templates")), 5u);
        EXPECT_EQ(text_of(provenance, "teacher"), "offline");
        EXPECT_EQ(text_of(provenance, "request_sha256").size(), 64u);
    }
    size_t sharing = 0;
    for (auto &b : beginnings)
        sharing += b.second > 1 ? (size_t)b.second : 0;
    EXPECT_LE(sharing, rows.rows.size() / 50) << "requests that share their first eight words";
    EXPECT_GE(conversations, rows.rows.size() / 6);
    EXPECT_LE(naming, rows.rows.size() / 5);
    EXPECT_GE(mentioning, rows.rows.size() / 10);
    EXPECT_GE(used.size(), rows.rows.size() > 300 ? 30u : 8u);
    dialogues read = {};
    EXPECT_EQ(dialogues_read(path.c_str(), &read), SC_OK) << sc_last_error(); // as train will read it
    EXPECT_EQ(read.n, rows.rows.size());
    dialogues_free(&read);
}

TEST(Offline, KeepsItsPromisesOnTheSample)
{
    Folder f;
    ASSERT_NO_FATAL_FAILURE(import_sample(f / "data"));
    Synth run(f / "data", select_rows(f, f / "data", 60), f / "out");
    ASSERT_EQ(run(), SC_OK) << sc_last_error();
    EXPECT_EQ(run.result.n_dialogues, 300);
    EXPECT_EQ(run.result.n_failed, 0);
    EXPECT_FALSE(is_there(f / "out/failed.jsonl"));
    check_dialogues(f / "out/dialogues.jsonl", f / "data", f / "data", "movie");
}

TEST(Offline, KeepsItsPromisesOnAThousandPublicReviews)
{
    std::string from = shared("imdb_seed/");
    if (!is_there(from + "imdb_2k_reviews.jsonl.gz"))
        GTEST_SKIP() << "no imdb_2k beside the repository (" << from << ")";
    Folder f;
    ASSERT_NO_FATAL_FAILURE(
        import_reviews(from + "imdb_2k_reviews.jsonl.gz", from + "meta_imdb_2k.jsonl.gz", f / "data"));
    ASSERT_NO_FATAL_FAILURE(
        import_reviews(from + "imdb_24k_reviews.jsonl.gz", from + "meta_imdb_24k.jsonl.gz", f / "wide"));
    Synth run(f / "data", select_rows(f, f / "data", 200), f / "out");
    std::string wide = f / "wide";
    run.options.catalogue = wide.c_str();
    ASSERT_EQ(run(), SC_OK) << sc_last_error();
    EXPECT_EQ(run.result.n_dialogues, 1000);
    check_dialogues(f / "out/dialogues.jsonl", f / "data", wide, "movie");
    // Lists answer the request: they are not one list of popular films.
    Lines rows(f / "out/dialogues.jsonl");
    std::map<std::string, int> count;
    for (json_t *r : rows.rows)
        for (const std::string &t : list_of(r, "targets"))
            count[t]++;
    int most = 0;
    for (auto &c : count)
        most = std::max(most, c.second);
    EXPECT_LE(most, 400); // of 1,000 lists
    EXPECT_GE(count.size(), 300u);
}

TEST(Offline, AnyDomainHasItsWords)
{
    std::string from = shared("amazon23_sample/");
    if (!is_there(from + "amazon23_multi_reviews.jsonl.gz"))
        GTEST_SKIP() << "no amazon23_sample beside the repository (" << from << ")";
    Folder f;
    ASSERT_NO_FATAL_FAILURE(import_reviews(from + "amazon23_multi_reviews.jsonl.gz",
                                           from + "meta_amazon23_multi.jsonl.gz", f / "data"));
    Synth run(f / "data", select_rows(f, f / "data", 40), f / "out");
    run.options.domain = "product";
    sc_status status = run();
    ASSERT_TRUE(status == SC_OK || status == SC_PARTIAL) << sc_last_error();
    EXPECT_GE(run.result.n_dialogues, 190);
    Lines rows(f / "out/dialogues.jsonl");
    for (json_t *r : rows.rows)
        EXPECT_EQ(text_of(r, "request").find("movie"), std::string::npos) << text_of(r, "request");
    check_dialogues(f / "out/dialogues.jsonl", f / "data", f / "data", "product");
}

TEST(Offline, SameBytesForAnyThreadsAndAfterAStop)
{
    Folder f;
    ASSERT_NO_FATAL_FAILURE(import_sample(f / "data"));
    std::string selection = select_rows(f, f / "data", 140); // three groups
    Synth one(f / "data", selection, f / "one"), four(f / "data", selection, f / "four");
    one.options.common.threads = 1;
    four.options.common.threads = 4;
    ASSERT_EQ(one(), SC_OK) << sc_last_error();
    ASSERT_EQ(four(), SC_OK) << sc_last_error();
    std::string bytes = read_text(f / "one/dialogues.jsonl");
    ASSERT_GT(bytes.size(), 100000u);
    EXPECT_EQ(bytes, read_text(f / "four/dialogues.jsonl"));
    // Another seed gives other words.
    Synth other(f / "data", selection, f / "other");
    other.options.common.seed = 1;
    ASSERT_EQ(other(), SC_OK);
    EXPECT_NE(bytes, read_text(f / "other/dialogues.jsonl"));
    // Stopped: the journal cut at any byte, the list gone; the same bytes come again.
    std::string journal = read_text(f / "one/journal.log");
    for (size_t keep : {journal.size(), journal.size() - 1, journal.size() / 2, journal.size() / 3,
                        (size_t)11, (size_t)0}) {
        file_remove_tree((f / "again").c_str());
        ASSERT_EQ(file_make_dirs((f / "again").c_str()), SC_OK);
        std::ofstream(f / "again/journal.log", std::ios::binary) << journal.substr(0, keep);
        Synth again(f / "data", selection, f / "again");
        ASSERT_EQ(again(), SC_OK) << keep << ": " << sc_last_error();
        EXPECT_EQ(bytes, read_text(f / "again/dialogues.jsonl")) << keep;
        EXPECT_EQ(again.result.n_reused, keep == journal.size() ? 700 : again.result.n_reused);
    }
    // Changed settings in the same folder never meet old work.
    one.options.common.seed = 1;
    ASSERT_EQ(one(), SC_OK);
    EXPECT_EQ(one.result.n_reused, 0);
    EXPECT_EQ(read_text(f / "one/dialogues.jsonl"), read_text(f / "other/dialogues.jsonl"));
}

TEST(Offline, ACancelledRunLeavesNoHalfFile)
{
    Folder f;
    ASSERT_NO_FATAL_FAILURE(import_sample(f / "data"));
    Synth run(f / "data", select_rows(f, f / "data", 10), f / "out");
    sc_cancel();
    EXPECT_EQ(run(), SC_INTERRUPTED);
    sc_cancel_reset();
    EXPECT_FALSE(is_there(f / "out/dialogues.jsonl"));
    EXPECT_EQ(run(), SC_OK) << sc_last_error();
}

TEST(Offline, OwnTemplatesAndHostileItems)
{
    Folder f;
    std::string templates;
    for (int i = 0; i < 6; i++)
        templates += "{\"id\":\"own" + std::to_string(i) + "\",\"text\":\"[number|item] " +
                     std::to_string(i) + " please [now|today|soon], something {mood} and {genres}\"}\n";
    std::string own = f.write("own.jsonl", templates);
    // Braces, brackets, controls and quotation marks in titles and genres; an item without a title; one
    // that only one review praises.
    f.write("items.jsonl", "{\"parent_asin\":\"a\",\"title\":\"{mood} [x|y] \\u0002\\u0003 \\\"q\\\" "
                           "(1999)\",\"categories\":[\"Drama\"]}\n"
                           "{\"parent_asin\":\"b\",\"title\":null,\"categories\":[\"Drama\",\"War\"]}\n"
                           "{\"parent_asin\":\"c\",\"title\":\"Sea\",\"categories\":[]}\n");
    f.write("reviews.jsonl", "{\"parent_asin\":\"a\",\"user_id\":\"u\",\"rating\":5,\"title\":\"\",\"text\":"
                             "\"A gripping and funny story\",\"timestamp\":1}\n"
                             "{\"parent_asin\":\"b\",\"user_id\":\"u\",\"rating\":5,\"title\":\"t\",\"text\":"
                             "\"dark, eerie {x}\",\"timestamp\":2}\n"
                             "{\"parent_asin\":\"c\",\"user_id\":\"v\",\"rating\":1,\"title\":\"t\",\"text\":"
                             "\"nothing\",\"timestamp\":3}\n");
    ASSERT_NO_FATAL_FAILURE(import_reviews(f / "reviews.jsonl", f / "items.jsonl", f / "data"));
    std::string selection = f.write("s.jsonl", "{\"row\":0}\n{\"row\":1}\n{\"row\":2}\n");
    Synth run(f / "data", selection, f / "out");
    run.options.templates = own.c_str();
    run.options.dialogues_per_seed = 2;
    EXPECT_EQ(run(), SC_PARTIAL); // the third has neither genre nor praise
    EXPECT_EQ(run.result.n_failed, 2);
    EXPECT_EQ(run.result.n_dialogues, 4);
    Lines failed(f / "out/failed.jsonl"), rows(f / "out/dialogues.jsonl");
    EXPECT_EQ(text_of(failed.rows[0], "parent_asin"), "c");
    EXPECT_NE(text_of(failed.rows[0], "reason").find("template"), std::string::npos);
    for (json_t *r : rows.rows)
        EXPECT_EQ(text_of(r, "request").find('|'), std::string::npos);
}

TEST(Offline, BadInputIsNamedAndNothingIsWritten)
{
    Folder f;
    ASSERT_NO_FATAL_FAILURE(import_sample(f / "data"));
    struct Case {
        std::string selection, said;
    } cases[] = {{"{\"row\":100000}\n", "row 100000"},
                 {"{\"row\":-1}\n", "row -1"},
                 {"{\"row\":1}\n{\"row\":1}\n", "before"},
                 {"{\"row\":0,\"review_id\":\"another\"}\n", "another"},
                 {"{\"rank\":0}\n", "row"},
                 {"", "no selected review"},
                 {"{\"row\":", ":1"}};
    for (const Case &c : cases) {
        Synth run(f / "data", f.write("bad.jsonl", c.selection), f / "out");
        EXPECT_EQ(run(), SC_BAD_INPUT) << c.selection;
        EXPECT_NE(std::string(sc_last_error()).find(c.said), std::string::npos) << sc_last_error();
        EXPECT_FALSE(is_there(f / "out/dialogues.jsonl"));
    }
    std::string good = select_rows(f, f / "data", 2);
    auto usage = [&](auto change) {
        Synth run(f / "data", good, f / "out");
        change(run.options);
        EXPECT_EQ(run(), SC_USAGE) << sc_last_error();
    };
    usage([](sc_synth_options &o) { o.teacher = "parrot"; });
    usage([](sc_synth_options &o) { o.dialogues_per_seed = 0; });
    usage([](sc_synth_options &o) { o.domain = "{x}"; });
    usage([](sc_synth_options &o) { o.domain = ""; });
    usage([](sc_synth_options &o) { o.temperature = 3; });
    usage([](sc_synth_options &o) { o.in_flight = 0; });
    usage([](sc_synth_options &o) { o.struct_size = 1; });
    usage([](sc_synth_options &o) { o.selection = nullptr; });
    Synth absent(f / "nowhere", good, f / "out");
    EXPECT_EQ(absent(), SC_BAD_INPUT);
    file_lock *lock = nullptr;
    ASSERT_EQ(file_make_dirs((f / "held").c_str()), SC_OK);
    ASSERT_EQ(file_lock_take((f / "held").c_str(), &lock), SC_OK);
    Synth busy(f / "data", good, f / "held");
    EXPECT_EQ(busy(), SC_BUSY);
    file_lock_release(lock);
    // Embeddings of other items, or with a hole.
    Synth wrong(f / "data", good, f / "out");
    std::string none = f.write("e.npy", "no numpy file");
    wrong.options.embeddings = none.c_str();
    EXPECT_EQ(wrong(), SC_BAD_INPUT);
}
} // namespace
