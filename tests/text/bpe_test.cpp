// The array and the heap against the definition of BPE, on random merges.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "text/bpe.h"

namespace
{

using Symbols = std::vector<int32_t>;
using Rules = std::map<std::pair<int32_t, int32_t>, std::pair<uint32_t, int32_t>>; // pair -> rank, merged

// Again and again the pair of the lowest rank, the leftmost of equals.
Symbols by_definition(const Rules &rules, Symbols symbols)
{
    for (;;) {
        size_t best = symbols.size();
        uint32_t best_rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < symbols.size(); i++) {
            auto rule = rules.find({symbols[i], symbols[i + 1]});
            if (rule != rules.end() && rule->second.first < best_rank) {
                best = i;
                best_rank = rule->second.first;
            }
        }
        if (best == symbols.size())
            return symbols;
        symbols[best] = rules.at({symbols[best], symbols[best + 1]}).second;
        symbols.erase(symbols.begin() + static_cast<long>(best) + 1);
    }
}

TEST(Bpe, AgreesWithTheDefinition)
{
    std::mt19937 random(1);
    bpe_scratch scratch = {};
    for (int round = 0; round < 300; round++) {
        int alphabet = 1 + round % 4, next_symbol = alphabet;
        Rules rules;
        for (uint32_t rank = 0; rank < 40; rank++) {
            int a = static_cast<int>(random() % static_cast<unsigned>(next_symbol));
            int b = static_cast<int>(random() % static_cast<unsigned>(next_symbol));
            if (rules.emplace(std::make_pair(a, b), std::make_pair(rank, next_symbol)).second)
                next_symbol++;
        }
        bpe_merges merges = {};
        ASSERT_EQ(bpe_merges_create(&merges, rules.size()), SC_OK);
        for (const auto &rule : rules)
            bpe_merges_put(&merges, rule.first.first, rule.first.second, rule.second.first,
                           rule.second.second);
        for (size_t n : {0u, 1u, 2u, 3u, 7u, 47u, 48u, 49u, 50u, 64u, 65u, 300u}) {
            Symbols symbols(n);
            for (auto &s : symbols)
                s = static_cast<int32_t>(random() % static_cast<unsigned>(alphabet));
            ASSERT_EQ(bpe_reserve(&scratch, n), SC_OK);
            for (size_t i = 0; i < n; i++)
                scratch.ids[i] = symbols[i];
            size_t left = 0;
            ASSERT_EQ(bpe_apply(&merges, &scratch, n, &left), SC_OK);
            EXPECT_EQ(Symbols(scratch.ids, scratch.ids + left), by_definition(rules, symbols)) << n;
        }
        bpe_merges_free(&merges);
    }
    bpe_scratch_free(&scratch);
}

TEST(Bpe, APairGivenTwiceKeepsItsLastRank)
{
    bpe_merges merges = {};
    bpe_scratch scratch = {};
    ASSERT_EQ(bpe_merges_create(&merges, 3), SC_OK);
    bpe_merges_put(&merges, 0, 1, 0, 3); // ab first ...
    bpe_merges_put(&merges, 1, 2, 1, 4);
    bpe_merges_put(&merges, 0, 1, 2, 3); // ... and last
    ASSERT_EQ(bpe_reserve(&scratch, 3), SC_OK);
    for (int i = 0; i < 3; i++)
        scratch.ids[i] = i;
    size_t left = 0;
    ASSERT_EQ(bpe_apply(&merges, &scratch, 3, &left), SC_OK);
    EXPECT_EQ(Symbols(scratch.ids, scratch.ids + left), (Symbols{0, 4}));
    bpe_scratch_free(&scratch);
    bpe_merges_free(&merges);
}

} // namespace
