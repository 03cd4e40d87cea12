// attention: packed causal attention, its gradients, and decoding over a cache.
#include "fixture.h"

namespace
{

struct Layout {
    std::vector<int32_t> cu;
    int heads, kv_heads, dim;
    int q_pad = 0, kv_pad = 0;
};

// A layout with its inputs and the double-precision twin.
struct Case {
    Layout layout;
    int64_t tokens, q_stride, kv_stride, longest = 0, shared = 0, window = 0;
    double scale, soft_cap = 0;
    bool bidirectional = false;
    Doubles q, k, v;

    Case(const Layout &l, dtype type, unsigned seed, double spread = 1.0)
        : layout(l), tokens(l.cu.back()), q_stride(l.heads * l.dim + l.q_pad),
          kv_stride(l.kv_heads * l.dim + l.kv_pad), scale(1.0 / std::sqrt(double(l.dim)))
    {
        for (size_t s = 0; s + 1 < l.cu.size(); s++)
            longest = std::max<int64_t>(longest, l.cu[s + 1] - l.cu[s]);
        q = random_values(size_t(tokens * q_stride), seed, type, spread);
        k = random_values(size_t(tokens * kv_stride), seed + 1, type, spread);
        v = random_values(size_t(tokens * kv_stride), seed + 2, type);
    }

    attention_shape shape(const int32_t *cu) const
    {
        attention_shape s = {};
        s.cu_seqlens = cu;
        s.n_seqs = int64_t(layout.cu.size()) - 1;
        s.n_tokens = tokens;
        s.max_seqlen = longest;
        s.n_heads = layout.heads;
        s.n_kv_heads = layout.kv_heads;
        s.head_dim = layout.dim;
        s.q_stride = q_stride;
        s.kv_stride = kv_stride;
        s.scale = float(scale);
        s.n_shared = shared;
        s.window = window;
        s.soft_cap = float(soft_cap);
        s.bidirectional = bidirectional;
        return s;
    }

    // The rows that row i of the sequence first .. last - 1 sees.
    std::vector<int64_t> seen_by(int64_t i, int64_t first, int64_t last) const
    {
        std::vector<int64_t> seen;
        for (int64_t j = 0; j < shared && first > 0; j++)
            seen.push_back(j);
        for (int64_t j = first; j < (bidirectional ? last : i + 1); j++)
            seen.push_back(j);
        if (window > 0 && int64_t(seen.size()) > window)
            seen.erase(seen.begin(), seen.end() - window);
        return seen;
    }

    double capped(double score) const
    {
        return soft_cap > 0 ? soft_cap * std::tanh(score / soft_cap) : score;
    }

    // out, and lse [head][token]; padding between heads and tokens stays `fill`
    Doubles forward(Doubles *lse = nullptr, double fill = 0) const
    {
        Doubles out(q.size(), fill);
        if (lse)
            lse->assign(size_t(layout.heads * tokens), 0);
        for (size_t s = 0; s + 1 < layout.cu.size(); s++)
            for (int64_t i = layout.cu[s]; i < layout.cu[s + 1]; i++)
                for (int h = 0; h < layout.heads; h++)
                    one(i, h, seen_by(i, layout.cu[s], layout.cu[s + 1]), out, lse);
        return out;
    }

  private:
    void one(int64_t i, int h, const std::vector<int64_t> &seen, Doubles &out, Doubles *lse) const
    {
        const int g = h / (layout.heads / layout.kv_heads), dim = layout.dim;
        const double *query = &q[size_t(i * q_stride + h * dim)];
        Doubles p;
        double most = -INFINITY, total = 0;
        for (int64_t j : seen) {
            double dot = 0;
            for (int d = 0; d < dim; d++)
                dot += query[d] * k[size_t(j * kv_stride + g * dim + d)];
            p.push_back(capped(dot * scale));
            most = std::max(most, p.back());
        }
        for (double &x : p)
            total += x = std::exp(x - most);
        double *to = &out[size_t(i * q_stride + h * dim)];
        for (int d = 0; d < dim; d++) {
            to[d] = 0;
            for (size_t j = 0; j < seen.size(); j++)
                to[d] += p[j] / total * v[size_t(seen[j] * kv_stride + g * dim + d)];
        }
        if (lse)
            (*lse)[size_t(h * tokens + i)] = most + std::log(total);
    }
};

// Where all slopes cancel, as those of a query that sees one key, rounding is relative to what cancels: some tenths.
void expect_gradient(Doubles got, Doubles want, dtype type, double factor, const char *what)
{
    got.push_back(0.1);
    want.push_back(0.1);
    expect_close(got, want, type, factor, what);
}

// Where every query sees many keys, outputs are small against the values that they average, and it is of values that
// the rounding of probabilities to bf16 takes its share: of two standard deviations here.
void expect_average(Doubles got, Doubles want, dtype type, const char *what)
{
    if (type == DTYPE_BF16) {
        got.push_back(2);
        want.push_back(2);
    }
    expect_close(got, want, type, 1, what);
}

// What a layout may ask for besides.
struct Variant {
    int64_t window;
    double soft_cap;
    bool bidirectional;
};

const std::vector<Variant> &variants()
{
    static const std::vector<Variant> all = {{1, 0, false},   {5, 0, false}, {64, 0.7, false}, {70, 0, false},
                                             {0, 1.5, false}, {0, 0, true},  {0, 0.9, true}};
    return all;
}

void choose(Case &c, const Variant &v)
{
    c.window = v.window;
    c.soft_cap = v.soft_cap;
    c.bidirectional = v.bidirectional;
}

std::vector<Layout> layouts()
{
    return {
        {{0, 1}, 1, 1, 8},
        {{0, 0, 1, 1}, 2, 1, 16},              // sequences without tokens
        {{0, 65}, 9, 3, 64},                   // SmolLM2's heads, one over a block
        {{0, 130, 131, 200}, 4, 2, 80, 16, 8}, // head_dim 80, padded strides
        {{0, 64, 192, 193}, 2, 1, 128},        // whole tiles, and one over
        {{0, 193, 257}, 2, 2, 256},            // the widest head, more than two blocks of keys
        {{0, 33, 64}, 3, 1, 17, 3, 1},         // a head that is no multiple of a vector
        {{0, 100}, 2, 2, 5},
    };
}

} // namespace

class Attention : public DeviceTest
{
  protected:
    struct Result {
        Doubles out, lse;
        std::vector<uint8_t> bytes;
    };
    Result forward(const Case &c, bool with_lse = true) const
    {
        Buffer cu = upload_array(table, c.layout.cu);
        attention_shape shape = c.shape(cu.as<int32_t>());
        Tensor q = tensor(c.q), k = tensor(c.k), v = tensor(c.v), out = tensor(Doubles(c.q.size(), 0));
        Tensor lse = floats(Doubles(size_t(c.layout.heads * c.tokens), 0));
        Buffer workspace(table, table->attention_forward_workspace(&shape));
        EXPECT_OK(table->attention_forward(nullptr, out.get(), with_lse ? lse.as<float>() : nullptr, q.get(),
                                           k.get(), v.get(), type, &shape, workspace.get()));
        return {out.values(), lse.values(), out.bytes()};
    }
    struct Gradients {
        Doubles dq, dk, dv;
        std::vector<uint8_t> bytes;
    };
    Gradients backward(const Case &c, const Doubles &dout) const
    {
        Buffer cu = upload_array(table, c.layout.cu);
        attention_shape shape = c.shape(cu.as<int32_t>());
        Doubles lse_values, out_values = c.forward(&lse_values);
        Tensor q = tensor(c.q), k = tensor(c.k), v = tensor(c.v), out = tensor(out_values),
               grad = tensor(dout);
        Tensor lse = floats(lse_values), dq = tensor(Doubles(c.q.size(), 0)),
               dk = tensor(Doubles(c.k.size(), 0)), dv = tensor(Doubles(c.k.size(), 0));
        Buffer workspace(table, table->attention_backward_workspace(&shape));
        EXPECT_OK(table->attention_backward(nullptr, dq.get(), dk.get(), dv.get(), grad.get(), out.get(),
                                            lse.as<float>(), q.get(), k.get(), v.get(), type, &shape,
                                            workspace.get()));
        std::vector<uint8_t> all = dq.bytes();
        for (const Tensor *t : {&dk, &dv}) {
            std::vector<uint8_t> more = t->bytes();
            all.insert(all.end(), more.begin(), more.end());
        }
        return {dq.values(), dk.values(), dv.values(), all};
    }
};
INSTANTIATE_TEST_SUITE_P(Tables, Attention, testing::ValuesIn(settings(&ops::attention_forward)),
                         setting_name);

TEST_P(Attention, ForwardEqualsTheFormula)
{
    for (const Layout &layout : layouts()) {
        SCOPED_TRACE(testing::Message() << layout.cu.back() << " tokens, " << layout.heads << "/"
                                        << layout.kv_heads << " heads of " << layout.dim);
        Case c(layout, type, 1);
        Doubles lse, want = c.forward(&lse);
        Result got = forward(c);
        expect_close(got.out, want, type, 1, "out");
        expect_close(got.lse, lse, DTYPE_F32, 1, "lse");
        EXPECT_EQ(forward(c, false).bytes, got.bytes);
    }
}

TEST_P(Attention, LargeScoresStayFinite)
{
    Case c({{0, 200}, 2, 1, 64}, type, 3, 30.0); // scores up to thousands
    Result got = forward(c);
    for (double x : got.out)
        ASSERT_TRUE(std::isfinite(x));
    expect_close(got.out, c.forward(), type,
                 10); // the error of a score of 4000 in float reaches the exponent
}

TEST_P(Attention, PackedEqualsSeparate)
{
    Case all({{0, 70, 70, 171, 172}, 4, 2, 64}, type, 5);
    Result packed = forward(all);
    for (size_t s = 0; s + 1 < all.layout.cu.size(); s++) {
        const int32_t first = all.layout.cu[s], last = all.layout.cu[s + 1];
        if (first == last)
            continue;
        Case alone({{0, last - first}, 4, 2, 64}, type, 5);
        auto cut = [&](const Doubles &x, int64_t stride) {
            return Doubles(x.begin() + first * stride, x.begin() + last * stride);
        };
        alone.q = cut(all.q, all.q_stride);
        alone.k = cut(all.k, all.kv_stride);
        alone.v = cut(all.v, all.kv_stride);
        EXPECT_EQ(forward(alone).out, cut(packed.out, all.q_stride));
    }
}

TEST_P(Attention, SharedTokensAreSeenByEverySequence)
{
    for (auto [shared, dim, pad] : {std::tuple{1, 64, 3}, {40, 17, 1}, {100, 64, 8}, {130, 96, 0}}) {
        Case c({{0, 130, 131, 260, 260, 300}, 2, 1, dim, pad, pad}, type, 6);
        c.shared = shared;
        Doubles lse, want = c.forward(&lse);
        Result got = forward(c);
        expect_close(got.out, want, type, 1, "out");
        expect_close(got.lse, lse, DTYPE_F32, 1, "lse");
    }
}

TEST_P(Attention, WindowsCapsAndBothDirections)
{
    for (const Variant &variant : variants())
        for (const Layout &layout : {Layout{{0, 131, 132, 172, 235}, 2, 1, 64},
                                     Layout{{0, 79}, 1, 1, 19, 2, 1}, Layout{{0, 70, 140}, 1, 1, 256}}) {
            SCOPED_TRACE(testing::Message()
                         << "window " << variant.window << ", cap " << variant.soft_cap
                         << (variant.bidirectional ? ", bidirectional" : "") << ", heads of " << layout.dim);
            Case c(layout, type, 73);
            choose(c, variant);
            Doubles lse, want = c.forward(&lse);
            Result got = forward(c);
            expect_average(got.out, want, type, "out");
            expect_close(got.lse, lse, DTYPE_F32, 1, "lse");
        }
}

// Shared tokens come before a sequence's own, and leave the window first.
TEST_P(Attention, WindowsReachIntoSharedTokens)
{
    for (int64_t window : {1, 30, 100, 150}) {
        Case c({{0, 130, 131, 260, 290}, 2, 1, 64}, type, 79);
        c.shared = 100;
        c.window = window;
        c.soft_cap = window == 100 ? 2 : 0;
        Doubles lse, want = c.forward(&lse);
        Result got = forward(c);
        expect_close(got.out, want, type, 1, "out");
        expect_close(got.lse, lse, DTYPE_F32, 1, "lse");
    }
}

TEST_P(Attention, BackwardOfVariantsEqualsFiniteDifferences)
{
    for (const Variant &variant : {Variant{3, 0.4, false}, Variant{0, 0.6, true}, Variant{1, 0, false}})
        for (const Layout &layout : {Layout{{0, 7, 7, 12}, 3, 1, 4}, Layout{{0, 37}, 1, 1, 8}}) {
            SCOPED_TRACE(testing::Message()
                         << "window " << variant.window << ", " << layout.cu.back() << " tokens");
            Case c(layout, type, 83, 0.7);
            choose(c, variant);
            const Doubles dout = random(c.q.size(), 89);
            auto loss = [&] { return dot_of(dout, c.forward()); };
            Gradients got = backward(c, dout);
            const double factor = type == DTYPE_F32 ? 1 : 8;
            expect_gradient(got.dq, gradient_of(loss, c.q), type, factor, "dq");
            expect_gradient(got.dk, gradient_of(loss, c.k), type, factor, "dk");
            expect_gradient(got.dv, gradient_of(loss, c.v), type, factor, "dv");
        }
}

TEST_P(Attention, BackwardEqualsFiniteDifferences)
{
    for (const Layout &layout : {Layout{{0, 1}, 1, 1, 8}, Layout{{0, 7, 7, 12}, 9, 3, 4},
                                 Layout{{0, 70}, 2, 1, 3}, Layout{{0, 9}, 2, 2, 80, 4, 2}}) {
        SCOPED_TRACE(testing::Message() << layout.cu.back() << " tokens, heads of " << layout.dim);
        Case c(layout, type, 7, 0.7);
        Doubles dout = random(c.q.size(), 11);
        for (int64_t t = 0; t < c.tokens; t++) // nothing flows into the padding
            for (int64_t j = layout.heads * layout.dim; j < c.q_stride; j++)
                dout[size_t(t * c.q_stride + j)] = 0;
        auto loss = [&] { return dot_of(dout, c.forward()); };
        Gradients got = backward(c, dout);
        // bf16 rounds `out` before the backward pass reads it, which moves every slope a little
        const double factor = type == DTYPE_F32 ? 1 : 8;
        // one token alone: slopes that cancel, which the CPU adds in one order on both sides, and kernels do not
        const bool cancels = layout.cu.back() == 1 && table != cpu_ops();
        const auto expect = [&](const Doubles &found, const Doubles &want, const char *what) {
            if (cancels)
                expect_gradient(found, want, type, factor, what);
            else
                expect_close(found, want, type, factor, what);
        };
        expect(got.dq, gradient_of(loss, c.q), "dq");
        expect(got.dk, gradient_of(loss, c.k), "dk");
        expect_close(got.dv, gradient_of(loss, c.v), type, factor, "dv");
    }
}

// The formula of the gradient in double, for shapes too large for finite differences.
static void formula(const Case &c, const Doubles &dout, Doubles &dq, Doubles &dk, Doubles &dv)
{
    const Layout &layout = c.layout;
    const int dim = layout.dim, group = layout.heads / layout.kv_heads;
    Doubles lse, out = c.forward(&lse);
    dq.assign(c.q.size(), 0);
    dk.assign(c.k.size(), 0);
    dv.assign(c.k.size(), 0);
    for (size_t s = 0; s + 1 < layout.cu.size(); s++)
        for (int64_t i = layout.cu[s]; i < layout.cu[s + 1]; i++)
            for (int64_t j : c.seen_by(i, layout.cu[s], layout.cu[s + 1]))
                for (int h = 0; h < layout.heads; h++) {
                    size_t qi = size_t(i * c.q_stride + h * dim),
                           kj = size_t(j * c.kv_stride + h / group * dim);
                    double score = 0, slope = 0, dot = 0;
                    for (int d = 0; d < dim; d++) {
                        size_t e = size_t(d);
                        score += c.q[qi + e] * c.k[kj + e];
                        slope += dout[qi + e] * c.v[kj + e];
                        dot += dout[qi + e] * out[qi + e];
                    }
                    const double capped = c.capped(score * c.scale);
                    const double rate = c.soft_cap > 0 ? 1 - capped / c.soft_cap * (capped / c.soft_cap) : 1;
                    const double p = std::exp(capped - lse[size_t(h * c.tokens + i)]);
                    const double ds = p * (slope - dot) * rate * c.scale;
                    for (int d = 0; d < dim; d++) {
                        size_t e = size_t(d);
                        dv[kj + e] += p * dout[qi + e];
                        dq[qi + e] += ds * c.k[kj + e];
                        dk[kj + e] += ds * c.q[qi + e];
                    }
                }
}

TEST_P(Attention, BackwardOverManyBlocks)
{
    struct Shape {
        Layout layout;
        Variant variant;
    };
    for (const auto &[layout, variant] :
         {Shape{{{0, 230, 231, 300}, 3, 1, 64}, {}}, Shape{{{0, 150}, 2, 2, 96, 8, 8}, {}},
          Shape{{{0, 129, 161}, 2, 1, 128}, {}}, Shape{{{0, 33, 98}, 2, 1, 256}, {}},
          Shape{{{0, 150, 171}, 2, 1, 64}, {40, 0, false}}, Shape{{{0, 150, 171}, 2, 1, 64}, {0, 1.5, true}},
          Shape{{{0, 140}, 1, 1, 128}, {33, 1.5, false}}, Shape{{{0, 9, 80}, 1, 1, 256}, {0, 1.5, true}},
          Shape{{{0, 101}, 1, 1, 256}, {17, 0, false}}}) {
        SCOPED_TRACE(testing::Message() << layout.cu.back() << " tokens, heads of " << layout.dim
                                        << ", window " << variant.window);
        Case c(layout, type, 13);
        choose(c, variant);
        Doubles dout = random(c.q.size(), 17), dq, dk, dv;
        formula(c, dout, dq, dk, dv);
        Gradients got = backward(c, dout);
        const double factor = type == DTYPE_F32 ? 2 : 8;
        expect_close(got.dq, dq, type, factor, "dq");
        expect_close(got.dk, dk, type, factor, "dk");
        expect_close(got.dv, dv, type, factor, "dv");
    }
}

TEST_P(Attention, SameBytesTwice)
{
    Case c({{0, 150, 301}, 3, 1, 64}, type, 19);
    Doubles dout = random(c.q.size(), 23);
    EXPECT_EQ(forward(c).bytes, forward(c).bytes);
    EXPECT_EQ(backward(c, dout).bytes, backward(c, dout).bytes);
}

// What is not a sequence's own, it neither reads nor writes: a neighbour of NaNs, and tokens that belong to nobody.
TEST_P(Attention, SequencesKeepToThemselves)
{
    for (int dim : {64, 40, 17}) {
        Case c({{0, 50, 90, 103}, 2, 1, dim}, type, 47);
        const Doubles dout = random(c.q.size(), 53), want = c.forward();
        Case poisoned = c;
        for (int64_t t = 50; t < c.tokens; t++) {
            if (t == 50 || t >= 90) {
                std::fill_n(poisoned.q.begin() + t * c.q_stride, c.q_stride, NAN);
                std::fill_n(poisoned.k.begin() + t * c.kv_stride, c.kv_stride, NAN);
                std::fill_n(poisoned.v.begin() + t * c.kv_stride, c.kv_stride, NAN);
            }
        }
        poisoned.layout.cu.pop_back();
        const Result got = forward(poisoned);
        const Gradients slopes = backward(poisoned, dout);
        const Gradients clean = backward(c, dout);
        const auto q_at = [&](int64_t t) { return t * c.q_stride; };
        for (int64_t i = 0; i < q_at(c.tokens); i++) {
            const size_t e = size_t(i);
            if (i < q_at(50)) {
                ASSERT_NEAR(got.out[e], want[e], type == DTYPE_F32 ? 1e-4 : 0.03) << i;
                ASSERT_EQ(slopes.dq[e], clean.dq[e]) << i;
            } else if (i < q_at(90)) { // the sequence whose first token is not a number
                ASSERT_TRUE(std::isnan(got.out[e])) << i;
                ASSERT_TRUE(std::isnan(slopes.dq[e])) << i;
            } else {
                ASSERT_EQ(got.out[e], 0) << i;
                ASSERT_EQ(slopes.dq[e], 0) << i;
            }
        }
        for (int64_t i = 0; i < c.tokens * c.kv_stride; i++) {
            const size_t e = size_t(i);
            if (i < 50 * c.kv_stride) {
                ASSERT_EQ(slopes.dk[e], clean.dk[e]) << i;
                ASSERT_EQ(slopes.dv[e], clean.dv[e]) << i;
            } else if (i >= 90 * c.kv_stride) {
                ASSERT_EQ(slopes.dk[e], 0) << i;
                ASSERT_EQ(slopes.dv[e], 0) << i;
            }
        }
    }
}

TEST_P(Attention, NothingToDo)
{
    const int32_t none[2] = {0, 0};
    Buffer cu = upload_array(table, std::vector<int32_t>(none, none + 2));
    Tensor x = tensor(Doubles(64, 2));
    for (int64_t n_seqs : {0, 1}) {
        attention_shape shape = {};
        shape.cu_seqlens = cu.as<int32_t>();
        shape.n_seqs = n_seqs;
        shape.n_heads = shape.n_kv_heads = 1;
        shape.head_dim = 8;
        shape.q_stride = shape.kv_stride = 8;
        Buffer workspace(table, table->attention_backward_workspace(&shape));
        EXPECT_OK(table->attention_forward(nullptr, x.get(), nullptr, x.get(), x.get(), x.get(), type, &shape,
                                           nullptr));
        EXPECT_OK(table->attention_backward(nullptr, x.get(), x.get(), x.get(), x.get(), x.get(),
                                            x.as<float>(), x.get(), x.get(), x.get(), type, &shape,
                                            workspace.get()));
    }
    const std::vector<int64_t> no_lists = {0};
    Buffer offsets = upload_array(table, no_lists);
    attention_cached_shape shape = {nullptr, offsets.as<int64_t>(), 0, 1, 1, 8, 8, 8, 1.0f, 0, 0};
    EXPECT_OK(table->attention_cached(nullptr, x.get(), x.get(), x.get(), x.get(), type, &shape, nullptr));
    EXPECT_EQ(x.values(), Doubles(64, 2));
}

TEST_P(Attention, RefusesShapesItCannotServe)
{
    std::vector<int32_t> cu = {0, 4};
    Case c({cu, 4, 2, 8}, type, 29);
    Tensor x = tensor(Doubles(4096, 0));
    for (int wrong = 0; wrong < 8; wrong++) {
        if (wrong == 2 && table != cpu_ops())
            continue; // the lengths lie on the card, where nobody reads them before the kernels do
        attention_shape shape = c.shape(cu.data());
        if (wrong == 0)
            shape.head_dim = 100000;
        else if (wrong == 1)
            shape.n_kv_heads = 3;
        else if (wrong == 2)
            shape.max_seqlen = 3;
        else if (wrong == 3)
            shape.n_shared = 5;
        else if (wrong == 4)
            shape.window = -1;
        else if (wrong == 5)
            shape.soft_cap = -1;
        else {
            shape.bidirectional = true;
            (wrong == 6 ? shape.window : shape.n_shared) = 2;
        }
        EXPECT_NE(table->attention_forward(nullptr, x.get(), nullptr, x.get(), x.get(), x.get(), type, &shape,
                                           nullptr),
                  SC_OK)
            << wrong;
    }
}

TEST_P(Attention, CachedEqualsTheLastRowOfAFullPass)
{
    for (const Layout &layout : layouts()) {
        SCOPED_TRACE(testing::Message() << layout.cu.back() << " tokens, heads of " << layout.dim);
        Case c(layout, type, 31);
        Doubles full = c.forward();
        // every sequence's last token is a query; its rows are listed backwards, for order does not matter
        std::vector<int32_t> rows;
        std::vector<int64_t> offsets = {0};
        Doubles queries, want;
        for (size_t s = 0; s + 1 < layout.cu.size(); s++) {
            if (layout.cu[s] == layout.cu[s + 1])
                continue;
            for (int32_t t = layout.cu[s + 1] - 1; t >= layout.cu[s]; t--)
                rows.push_back(t);
            offsets.push_back(int64_t(rows.size()));
            const int64_t at = (layout.cu[s + 1] - 1) * c.q_stride;
            queries.insert(queries.end(), c.q.begin() + at, c.q.begin() + at + c.q_stride);
            want.insert(want.end(), full.begin() + at, full.begin() + at + c.q_stride);
        }
        Buffer d_rows = upload_array(table, rows), d_offsets = upload_array(table, offsets);
        attention_cached_shape shape = {d_rows.as<int32_t>(),
                                        d_offsets.as<int64_t>(),
                                        int64_t(offsets.size()) - 1,
                                        layout.heads,
                                        layout.kv_heads,
                                        layout.dim,
                                        c.q_stride,
                                        c.kv_stride,
                                        float(c.scale),
                                        0,
                                        0};
        Tensor q = tensor(queries), k = tensor(c.k), v = tensor(c.v),
               out = tensor(Doubles(queries.size(), 0));
        Buffer workspace(table, table->attention_cached_workspace(&shape));
        ASSERT_OK(table->attention_cached(nullptr, out.get(), q.get(), k.get(), v.get(), type, &shape,
                                          workspace.get()));
        expect_close(out.values(), want, type);
    }
}

TEST_P(Attention, CachedServesManyHeadsAndAQueryThatSeesNothing)
{
    const int heads = 22, dim = 24;
    Doubles keys = random(3 * dim, 37), values = random(3 * dim, 41), queries = random(2 * heads * dim, 43);
    std::vector<int32_t> rows = {2, 0};
    std::vector<int64_t> offsets = {0, 0, 2};
    Buffer d_rows = upload_array(table, rows), d_offsets = upload_array(table, offsets);
    attention_cached_shape shape = {
        d_rows.as<int32_t>(), d_offsets.as<int64_t>(), 2, heads, 1, dim, heads * dim, dim, 0.2f, 0, 0};
    Tensor q = tensor(queries), k = tensor(keys), v = tensor(values),
           out = tensor(Doubles(queries.size(), 5));
    Buffer workspace(table, table->attention_cached_workspace(&shape));
    ASSERT_OK(table->attention_cached(nullptr, out.get(), q.get(), k.get(), v.get(), type, &shape,
                                      workspace.get()));
    Doubles want(queries.size(), 0);
    for (int h = 0; h < heads; h++) {
        const size_t at = size_t((heads + h) * dim);
        double score[2] = {0, 0};
        for (size_t r = 0; r < 2; r++)
            for (size_t d = 0; d < dim; d++)
                score[r] += 0.2 * queries[at + d] * keys[size_t(rows[r]) * dim + d];
        double p = 1 / (1 + std::exp(score[1] - score[0]));
        for (size_t d = 0; d < dim; d++)
            want[at + d] = p * values[2 * dim + d] + (1 - p) * values[d];
    }
    expect_close(out.values(), want, type);
}

// So many queries that no list is cut, lists of every length around a step, and rows in any order and twice.
TEST_P(Attention, CachedServesManyQueries)
{
    struct Shape {
        int64_t queries;
        int heads, kv_heads, dim, pad;
        double soft_cap;
        int64_t window;
    };
    for (const Shape &x :
         {Shape{260, 8, 4, 8, 0, 0, 0}, Shape{3, 4, 2, 128, 8, 0.8, 0}, Shape{2, 34, 2, 96, 1, 0, 0},
          Shape{2, 2, 1, 256, 0, 1.2, 0}, Shape{12, 3, 3, 20, 0, 0, 0}, Shape{260, 2, 1, 8, 0, 0, 3},
          Shape{9, 4, 2, 64, 0, 0.8, 33}, Shape{9, 4, 2, 64, 0, 0, 66}}) {
        SCOPED_TRACE(testing::Message() << x.queries << " queries, heads of " << x.dim);
        const int64_t rows = 90, q_stride = x.heads * x.dim + x.pad, kv_stride = x.kv_heads * x.dim + x.pad;
        const Doubles queries = random(size_t(x.queries * q_stride), 59);
        const Doubles keys = random(size_t(rows * kv_stride), 61),
                      values = random(size_t(rows * kv_stride), 67);
        std::vector<int32_t> list;
        std::vector<int64_t> offsets = {0};
        std::mt19937 engine(71);
        for (int64_t i = 0; i < x.queries; i++) {
            const int64_t n = x.queries > 100 ? (i == 17 ? 150 : i % 7) : 1 + 63 * i % 320;
            for (int64_t j = 0; j < n; j++)
                list.push_back(int32_t(engine() % size_t(rows)));
            offsets.push_back(int64_t(list.size()));
        }
        Buffer d_rows = upload_array(table, list), d_offsets = upload_array(table, offsets);
        const double scale = 1 / std::sqrt(double(x.dim));
        const attention_cached_shape shape = {d_rows.as<int32_t>(),
                                              d_offsets.as<int64_t>(),
                                              x.queries,
                                              x.heads,
                                              x.kv_heads,
                                              x.dim,
                                              q_stride,
                                              kv_stride,
                                              float(scale),
                                              float(x.soft_cap),
                                              x.window};
        Tensor q = tensor(queries), k = tensor(keys), v = tensor(values),
               out = tensor(Doubles(queries.size(), 0));
        Buffer workspace(table, table->attention_cached_workspace(&shape));
        ASSERT_OK(table->attention_cached(nullptr, out.get(), q.get(), k.get(), v.get(), type, &shape,
                                          workspace.get()));
        Doubles want(queries.size(), 0);
        for (int64_t i = 0; i < x.queries; i++)
            for (int h = 0; h < x.heads; h++) {
                const size_t at = size_t(i * q_stride + h * x.dim);
                const size_t kv = size_t(h / (x.heads / x.kv_heads) * x.dim);
                double total = 0;
                int64_t first = offsets[size_t(i)];
                if (x.window > 0)
                    first = std::max(first, offsets[size_t(i) + 1] - x.window);
                for (int64_t j = first; j < offsets[size_t(i) + 1]; j++) {
                    const size_t row = size_t(list[size_t(j)] * kv_stride) + kv;
                    double score = 0;
                    for (size_t d = 0; d < size_t(x.dim); d++)
                        score += queries[at + d] * keys[row + d];
                    score *= scale;
                    if (x.soft_cap > 0)
                        score = x.soft_cap * std::tanh(score / x.soft_cap);
                    const double p = std::exp(score);
                    total += p;
                    for (size_t d = 0; d < size_t(x.dim); d++)
                        want[at + d] += p * values[row + d];
                }
                for (size_t d = 0; d < size_t(x.dim) && total > 0; d++)
                    want[at + d] /= total;
            }
        expect_close(out.values(), want, type);
        const std::vector<uint8_t> first = out.bytes();
        ASSERT_OK(table->attention_cached(nullptr, out.get(), q.get(), k.get(), v.get(), type, &shape,
                                          workspace.get()));
        EXPECT_EQ(out.bytes(), first);
    }
}
