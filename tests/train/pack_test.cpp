// Rows and batches: what is supervised, what is cut, and what a batch holds.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

extern "C" {
#include "train/pack.h"
}

namespace
{

using Ids = std::vector<int32_t>;

struct Message {
    std::string role, content;
};

// Dialogues in memory; the strings live in `rows_`.
class Dialogues
{
  public:
    Dialogues(const Dialogues &) = delete;
    explicit Dialogues(std::vector<std::vector<Message>> rows) : rows_(std::move(rows))
    {
        for (size_t i = 0; i < rows_.size(); i++)
            names_.push_back("dialogue-" + std::to_string(i));
        for (auto &row : rows_) {
            messages_.emplace_back();
            for (auto &message : row)
                messages_.back().push_back({message.role.data(), message.content.data()});
        }
        for (size_t i = 0; i < rows_.size(); i++) {
            dialogue d = {};
            d.id = names_[i].data();
            d.messages = messages_[i].data();
            d.n_messages = messages_[i].size();
            list_.push_back(d);
        }
        all = {};
        all.rows = list_.data();
        all.n = list_.size();
    }
    dialogues all;

  private:
    std::vector<std::vector<Message>> rows_;
    std::vector<std::string> names_;
    std::vector<std::vector<dialogue_message>> messages_;
    std::vector<dialogue> list_;
};

class Pack : public testing::Test
{
  protected:
    void SetUp() override
    {
        ASSERT_EQ(tokenizer_open(SC_SOURCE_DIR "/tests/fixtures/tokenizer/tiny_smollm2.json", &t), SC_OK)
            << sc_last_error();
    }
    void TearDown() override
    {
        train_rows_free(&rows);
        tokenizer_close(t);
    }
    sc_status build(const Dialogues &d, int64_t max_tokens)
    {
        return train_rows_build(t, CHAT_CHATML, &d.all, max_tokens, &rows);
    }
    int64_t length(int64_t row) const
    {
        return rows.offsets[row + 1] - rows.offsets[row];
    }
    std::string supervised_text(int64_t row) const
    {
        Ids ids;
        for (int64_t i = rows.offsets[row]; i < rows.offsets[row + 1]; i++)
            if (rows.targets[i] >= 0)
                ids.push_back(rows.targets[i]);
        EXPECT_EQ(static_cast<int64_t>(ids.size()), rows.supervised[row]);
        strbuf text = {};
        EXPECT_EQ(tokenizer_decode(t, ids.data(), ids.size(), true, &text), SC_OK);
        std::string result = strbuf_text(&text);
        strbuf_free(&text);
        return result;
    }
    tokenizer *t = nullptr;
    train_rows rows = {};
};

const std::vector<std::vector<Message>> THREE = {
    {{"user", "A slow film?"}, {"assistant", "1. Night Ferry (2003)"}},
    {{"system", "Recommend."},
     {"user", "One"},
     {"assistant", "Two"},
     {"user", "Three"},
     {"assistant", "Four"}},
    {{"user", "x"}, {"assistant", "<|im_end|> is only text"}},
};

TEST_F(Pack, SupervisesTheAssistantsWordsAndTheirEnd)
{
    Dialogues d(THREE);
    ASSERT_EQ(build(d, 1024), SC_OK) << sc_last_error();
    ASSERT_EQ(rows.n, 3);
    EXPECT_EQ(rows.n_cut, 0);
    EXPECT_EQ(supervised_text(0), "1. Night Ferry (2003)<|im_end|>");
    EXPECT_EQ(supervised_text(1), "Two<|im_end|>Four<|im_end|>");
    EXPECT_EQ(supervised_text(2), "<|im_end|> is only text<|im_end|>");
    for (int64_t row = 0; row < rows.n; row++) {
        EXPECT_EQ(rows.targets[rows.offsets[row + 1] - 1], -1); // nothing follows the last token of a row
        for (int64_t i = rows.offsets[row]; i + 1 < rows.offsets[row + 1]; i++)
            if (rows.targets[i] >= 0) {
                EXPECT_EQ(rows.targets[i], rows.ids[i + 1]);
            }
    }
}

TEST_F(Pack, ALongDialogueIsCutAtAMessage)
{
    Dialogues d(THREE);
    ASSERT_EQ(build(d, 1024), SC_OK);
    int64_t whole = length(1);
    train_rows_free(&rows);
    Dialogues one(std::vector<std::vector<Message>>{THREE[1]});
    ASSERT_EQ(build(one, whole), SC_OK); // exactly as long as allowed
    EXPECT_EQ(rows.n_cut, 0);
    train_rows_free(&rows);
    ASSERT_EQ(build(one, whole - 1), SC_OK);
    EXPECT_EQ(rows.n_cut, 1);
    EXPECT_LT(length(0), whole - 1);
    EXPECT_EQ(supervised_text(0), "Two<|im_end|>");
}

TEST_F(Pack, ADialogueWithNothingToLearnIsNamed)
{
    Dialogues cut(
        std::vector<std::vector<Message>>{THREE[0], {{"user", std::string(500, 'a')}, {"assistant", "b"}}});
    EXPECT_EQ(build(cut, 100), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("dialogue-1"), std::string::npos) << sc_last_error();
    EXPECT_NE(std::string(sc_last_error()).find("--max-tokens 100"), std::string::npos) << sc_last_error();
    EXPECT_EQ(rows.ids, nullptr);
    Dialogues silent(std::vector<std::vector<Message>>{{{"user", "hello"}}});
    EXPECT_EQ(build(silent, 100), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("dialogue-0"), std::string::npos) << sc_last_error();
    Dialogues role(std::vector<std::vector<Message>>{{{"robot", "hello"}}});
    EXPECT_EQ(build(role, 100), SC_BAD_INPUT);
    EXPECT_NE(std::string(sc_last_error()).find("robot"), std::string::npos) << sc_last_error();
}

TEST_F(Pack, ABatchHoldsTheRowsInTheGivenOrder)
{
    Dialogues d(THREE);
    ASSERT_EQ(build(d, 1024), SC_OK);
    train_batch batch = {};
    const std::vector<std::vector<int64_t>> orders = {{2, 0}, {0, 1, 2}, {1}}; // the memory is used again
    for (const auto &order : orders) {
        ASSERT_EQ(train_batch_build(&rows, order.data(), order.size(), &batch), SC_OK);
        ASSERT_EQ(batch.batch.n_seqs, static_cast<int64_t>(order.size()));
        int64_t supervised = 0;
        for (size_t k = 0; k < order.size(); k++) {
            int64_t row = order[k], begin = batch.batch.cu_seqlens[k], end = batch.batch.cu_seqlens[k + 1];
            ASSERT_EQ(end - begin, length(row));
            supervised += rows.supervised[row];
            for (int64_t i = 0; i < end - begin; i++) {
                EXPECT_EQ(batch.batch.ids[begin + i], rows.ids[rows.offsets[row] + i]);
                EXPECT_EQ(batch.targets[begin + i], rows.targets[rows.offsets[row] + i]);
                EXPECT_EQ(batch.batch.row_keys[begin + i],
                          static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(i));
            }
        }
        EXPECT_EQ(batch.batch.n_tokens, batch.batch.cu_seqlens[order.size()]);
        EXPECT_EQ(batch.n_supervised, supervised);
    }
    train_batch_free(&batch);
}

// Lengths alone: rows of made-up ids.
class Lengths
{
  public:
    explicit Lengths(const std::vector<int64_t> &lengths) : offsets_(lengths.size() + 1, 0)
    {
        for (size_t i = 0; i < lengths.size(); i++)
            offsets_[i + 1] = offsets_[i] + lengths[i];
        rows = {};
        rows.offsets = offsets_.data();
        rows.n = static_cast<int64_t>(lengths.size());
    }
    train_rows rows;

  private:
    std::vector<int64_t> offsets_;
};

std::vector<std::vector<int64_t>> packed(const Lengths &l, std::vector<int64_t> order, int64_t most)
{
    std::vector<size_t> ends(order.size());
    size_t n = 0;
    EXPECT_EQ(train_pack_best_fit(&l.rows, order.data(), order.size(), most, ends.data(), &n), SC_OK);
    std::vector<std::vector<int64_t>> batches;
    for (size_t b = 0, at = 0; b < n; at = ends[b++])
        batches.emplace_back(order.begin() + static_cast<int64_t>(at),
                             order.begin() + static_cast<int64_t>(ends[b]));
    return batches;
}

TEST(BestFit, FillsTheFullestBatchThatHasRoom)
{
    const Lengths l({30, 70, 50, 20, 60, 40, 10});
    const auto batches = packed(l, {0, 1, 2, 3, 4, 5, 6}, 100);
    // 70 + 30, 60 + 40, 50 + 20 + 10, each in the order in which the rows stood
    const std::vector<std::vector<int64_t>> want = {{0, 1}, {4, 5}, {2, 3, 6}};
    EXPECT_EQ(batches, want);
    EXPECT_EQ(packed(l, {}, 100).size(), 0u);
    EXPECT_EQ(packed(l, {5}, 10).size(), 1u) << "a row that is too long is alone";
    EXPECT_EQ(packed(l, {1, 6}, 50).size(), 2u);
}

TEST(BestFit, KeepsEveryRowAndTheLimitAndIsCloseToTheLeast)
{
    uint64_t state = 7;
    const auto next = [&](uint64_t below) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return static_cast<int64_t>((state >> 33) % below);
    };
    for (int trial = 0; trial < 50; trial++) {
        std::vector<int64_t> lengths, order;
        int64_t total = 0;
        for (int64_t i = 0; i < 1 + next(60); i++) {
            lengths.push_back(1 + next(120));
            order.push_back(i);
            total += std::min<int64_t>(lengths.back(), 100);
        }
        const Lengths l(lengths);
        const auto batches = packed(l, order, 100);
        std::vector<int64_t> seen;
        for (const auto &batch : batches) {
            int64_t sum = 0;
            for (int64_t row : batch)
                sum += lengths[static_cast<size_t>(row)];
            EXPECT_TRUE(sum <= 100 || batch.size() == 1);
            seen.insert(seen.end(), batch.begin(), batch.end());
        }
        std::sort(seen.begin(), seen.end());
        EXPECT_EQ(seen, order);
        // no two batches could be one
        for (size_t a = 0; a < batches.size(); a++)
            for (size_t b = a + 1; b < batches.size(); b++) {
                int64_t sum = 0;
                for (const auto *batch : {&batches[a], &batches[b]})
                    for (int64_t row : *batch)
                        sum += lengths[static_cast<size_t>(row)];
                EXPECT_GT(sum, 100);
            }
        EXPECT_LE(static_cast<double>(batches.size()), 11.0 / 9 * 2 * (static_cast<double>(total) / 100 + 1));
    }
}

} // namespace
