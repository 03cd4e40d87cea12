// lora: low-rank adapters, forward, backward, dropout.
#include "fixture.h"

extern "C" {
#include "base/random.h"
}

namespace
{

struct Adapter {
    size_t n, in, out, rank;
    double scaling;
    float dropout;
    uint64_t seed = 5;
    uint32_t step = 3;
    std::vector<uint64_t> keys;
};

} // namespace

class Lora : public DeviceTest
{
  protected:
    // What remains of x: the mask is read off the operation itself with x = 1, A = identity, B = 0.
    Doubles mask(const Adapter &s) const
    {
        if (s.dropout <= 0)
            return Doubles(s.n * s.in, 1);
        Doubles eye(s.in * s.in, 0);
        for (size_t i = 0; i < s.in; i++)
            eye[i * s.in + i] = 1;
        Tensor x = tensor(Doubles(s.n * s.in, 1)), a = floats(eye), b = floats(Doubles(s.in, 0)),
               y = tensor(Doubles(s.n, 0)), xa = floats(Doubles(s.n * s.in, 0));
        Buffer keys = upload_array(table, s.keys);
        Buffer work(table, table->lora_workspace(int64_t(s.n), int64_t(s.in), 1, int64_t(s.in), s.dropout));
        EXPECT_OK(table->lora_forward(nullptr, y.get(), type, xa.as<float>(), x.get(), type, a.as<float>(),
                                      b.as<float>(), int64_t(s.n), int64_t(s.in), 1, int64_t(s.in), 1,
                                      s.dropout, s.seed, keys.as<uint64_t>(), s.step, work.get()));
        return xa.values();
    }

    static Doubles twin(const Adapter &s, const Doubles &keep, const Doubles &x, const Doubles &a,
                        const Doubles &b, Doubles *xa = nullptr)
    {
        Doubles y(s.n * s.out, 0), low(s.n * s.rank, 0);
        for (size_t i = 0; i < s.n; i++) {
            for (size_t r = 0; r < s.rank; r++)
                for (size_t j = 0; j < s.in; j++)
                    low[i * s.rank + r] += keep[i * s.in + j] * x[i * s.in + j] * a[r * s.in + j];
            for (size_t o = 0; o < s.out; o++)
                for (size_t r = 0; r < s.rank; r++)
                    y[i * s.out + o] += s.scaling * low[i * s.rank + r] * b[o * s.rank + r];
        }
        if (xa)
            *xa = low;
        return y;
    }

    static std::vector<Adapter> adapters()
    {
        std::vector<Adapter> all = {{1, 8, 5, 1, 2.0, 0, 5, 3, {}},
                                    {19, 33, 17, 4, 0.5, 0, 5, 3, {}},
                                    {19, 33, 17, 4, 0.5, 0.25f, 5, 3, {}},
                                    {12, 20, 18, 16, 2.0, 0.1f, 5, 3, {}}};
        for (Adapter &s : all)
            for (size_t i = 0; i < s.n; i++)
                s.keys.push_back(1000 + i * i);
        return all;
    }
};
INSTANTIATE_TEST_SUITE_P(Tables, Lora, testing::ValuesIn(settings(&ops::lora_forward)), setting_name);

TEST_P(Lora, ForwardEqualsTheFormula)
{
    for (const Adapter &s : adapters()) {
        Doubles keep = mask(s), x = random(s.n * s.in, 1), a = random_values(s.rank * s.in, 2),
                b = random_values(s.out * s.rank, 3), y0 = random(s.n * s.out, 4), low;
        Doubles want = plus(y0, twin(s, keep, x, a, b, &low));
        Tensor d_x = tensor(x), d_a = floats(a), d_b = floats(b), y = tensor(y0),
               xa = floats(Doubles(s.n * s.rank, 0));
        Buffer keys = upload_array(table, s.keys);
        Buffer work(table, table->lora_workspace(int64_t(s.n), int64_t(s.in), int64_t(s.out), int64_t(s.rank),
                                                 s.dropout));
        ASSERT_OK(table->lora_forward(nullptr, y.get(), type, xa.as<float>(), d_x.get(), type,
                                      d_a.as<float>(), d_b.as<float>(), int64_t(s.n), int64_t(s.in),
                                      int64_t(s.out), int64_t(s.rank), float(s.scaling), s.dropout, s.seed,
                                      keys.as<uint64_t>(), s.step, work.get()));
        expect_close(y.values(), want, type);
        expect_close(xa.values(), low, DTYPE_F32);
    }
}

TEST_P(Lora, BackwardEqualsFiniteDifferences)
{
    for (const Adapter &s : adapters())
        for (bool want_dx : {true, false}) {
            SCOPED_TRACE(testing::Message() << s.n << "x" << s.in << " dropout " << s.dropout);
            Doubles keep = mask(s), x = random(s.n * s.in, 1), a = random_values(s.rank * s.in, 2),
                    b = random_values(s.out * s.rank, 3), dy = random(s.n * s.out, 4), low;
            Doubles dx0 = random(s.n * s.in, 5), da0 = random_values(a.size(), 6),
                    db0 = random_values(b.size(), 7);
            twin(s, keep, x, a, b, &low);
            Tensor d_x = tensor(x), d_a = floats(a), d_b = floats(b), d_dy = tensor(dy), xa = floats(low),
                   dx = tensor(dx0), da = floats(da0), db = floats(db0);
            Buffer keys = upload_array(table, s.keys);
            Buffer work(table, table->lora_workspace(int64_t(s.n), int64_t(s.in), int64_t(s.out),
                                                     int64_t(s.rank), s.dropout));
            ASSERT_OK(table->lora_backward(nullptr, want_dx ? dx.get() : nullptr, type, da.as<float>(),
                                           db.as<float>(), d_dy.get(), type, xa.as<float>(), d_x.get(), type,
                                           d_a.as<float>(), d_b.as<float>(), int64_t(s.n), int64_t(s.in),
                                           int64_t(s.out), int64_t(s.rank), float(s.scaling), s.dropout,
                                           s.seed, keys.as<uint64_t>(), s.step, work.get()));
            auto loss = [&] { return dot_of(dy, twin(s, keep, x, a, b)); };
            if (want_dx)
                expect_close(dx.values(), plus(dx0, gradient_of(loss, x)), type, 1, "dx");
            expect_close(da.values(), plus(da0, gradient_of(loss, a)), DTYPE_F32, 1, "da");
            expect_close(db.values(), plus(db0, gradient_of(loss, b)), DTYPE_F32, 1, "db");
        }
}

// Sizes around what a kernel takes at a time: rows, columns and ranks that fill tiles, leave some over, or are shared out; and
// rows that begin at multiples of 16 bytes, or do not.
TEST_P(Lora, EqualsTheFormulaAtTheEdgesOfTiles)
{
    std::vector<Adapter> all = {
        {128, 64, 64, 16, 1.5, 0, 5, 3, {}},     {130, 72, 136, 20, 1.5, 0, 5, 3, {}},
        {127, 41, 65, 33, 0.5, 0.3f, 5, 3, {}},  {520, 24, 40, 17, 0.5, 0.1f, 5, 3, {}},
        {3, 1064, 130, 40, 1.5, 0.2f, 5, 3, {}}, {33, 523, 16, 8, 1, 0, 5, 3, {}},
        {291, 160, 96, 16, 1.5, 0, 5, 3, {}},    {71, 32, 352, 48, 0.5, 0.3f, 5, 3, {}},
        {64, 96, 32, 128, 1, 0, 5, 3, {}}};
    for (Adapter &s : all) {
        SCOPED_TRACE(testing::Message() << s.n << "x" << s.in << "x" << s.out << " rank " << s.rank);
        for (size_t i = 0; i < s.n; i++)
            s.keys.push_back((uint64_t(1) << 35) + i);
        Doubles keep(s.n * s.in, 1);
        for (size_t i = 0; i < s.n && s.dropout > 0; i++) {
            random_stream numbers = random_at(s.seed, RANDOM_DROPOUT, s.keys[i], s.step);
            for (size_t j = 0; j < s.in; j++)
                keep[i * s.in + j] = random_u32(&numbers) < uint32_t(double(s.dropout) * 4294967296.0)
                                         ? 0
                                         : 1 / (1 - double(s.dropout));
        }
        Doubles x = random(s.n * s.in, 1), a = random_values(s.rank * s.in, 2),
                b = random_values(s.out * s.rank, 3), y = random(s.n * s.out, 4), dy = random(s.n * s.out, 5),
                dx = random(s.n * s.in, 6), da = random_values(a.size(), 7), db = random_values(b.size(), 8),
                low;
        Tensor d_x = tensor(x), d_a = floats(a), d_b = floats(b), d_dy = tensor(dy),
               xa = floats(Doubles(s.n * s.rank, NAN));
        Buffer keys = upload_array(table, s.keys);
        Buffer work(table, table->lora_workspace(int64_t(s.n), int64_t(s.in), int64_t(s.out), int64_t(s.rank),
                                                 s.dropout));
        std::vector<std::vector<uint8_t>> seen;
        for (int round = 0; round < 2; round++) {
            Tensor d_y = tensor(y), d_dx = tensor(dx), d_da = floats(da), d_db = floats(db);
            ASSERT_OK(table->lora_forward(nullptr, d_y.get(), type, xa.as<float>(), d_x.get(), type,
                                          d_a.as<float>(), d_b.as<float>(), int64_t(s.n), int64_t(s.in),
                                          int64_t(s.out), int64_t(s.rank), float(s.scaling), s.dropout,
                                          s.seed, keys.as<uint64_t>(), s.step, work.get()));
            ASSERT_OK(table->lora_backward(nullptr, d_dx.get(), type, d_da.as<float>(), d_db.as<float>(),
                                           d_dy.get(), type, xa.as<float>(), d_x.get(), type, d_a.as<float>(),
                                           d_b.as<float>(), int64_t(s.n), int64_t(s.in), int64_t(s.out),
                                           int64_t(s.rank), float(s.scaling), s.dropout, s.seed,
                                           keys.as<uint64_t>(), s.step, work.get()));
            for (const Tensor *out : {&d_y, &d_dx, &d_da, &d_db, &xa})
                seen.push_back(out->bytes());
            if (round == 1) {
                for (size_t i = 0; i < 5; i++)
                    EXPECT_EQ(seen[i], seen[i + 5]) << "other bytes in the second run of output " << i;
                continue;
            }
            Doubles want_y = plus(y, twin(s, keep, x, a, b, &low)), dxa(s.n * s.rank, 0);
            expect_close(xa.values(), low, DTYPE_F32, 1, "xa");
            expect_close(d_y.values(), want_y, type, 1, "y");
            for (size_t i = 0; i < s.n; i++)
                for (size_t o = 0; o < s.out; o++)
                    for (size_t r = 0; r < s.rank; r++)
                        dxa[i * s.rank + r] += s.scaling * dy[i * s.out + o] * b[o * s.rank + r];
            Doubles want_dx = dx, want_da = da, want_db = db;
            for (size_t i = 0; i < s.n; i++)
                for (size_t r = 0; r < s.rank; r++) {
                    for (size_t j = 0; j < s.in; j++) {
                        want_da[r * s.in + j] += dxa[i * s.rank + r] * keep[i * s.in + j] * x[i * s.in + j];
                        want_dx[i * s.in + j] += keep[i * s.in + j] * dxa[i * s.rank + r] * a[r * s.in + j];
                    }
                    for (size_t o = 0; o < s.out; o++)
                        want_db[o * s.rank + r] += s.scaling * dy[i * s.out + o] * low[i * s.rank + r];
                }
            expect_close(d_dx.values(), want_dx, type, 1, "dx");
            expect_close(d_da.values(), want_da, DTYPE_F32, 1, "da");
            expect_close(d_db.values(), want_db, DTYPE_F32, 1, "db");
        }
    }
}

// A model asks for the workspace of its greatest rank and serves all of its adapters with it.
TEST_P(Lora, WorkspaceGrowsWithTheRank)
{
    for (int64_t n : {1, 300, 5000})
        for (int64_t rank = 1; rank < 70; rank++)
            EXPECT_LE(table->lora_workspace(n, 576, 1536, rank, 0.1f),
                      table->lora_workspace(n, 576, 1536, rank + 1, 0.1f));
}

// Activations and gradients need not be of one type, and nothing happens to no rows.
TEST_P(Lora, TypesMayDifferAndThereMayBeNoRows)
{
    const dtype other = type == DTYPE_F32 ? DTYPE_BF16 : DTYPE_F32;
    Adapter s = {9, 24, 16, 4, 2, 0, 5, 3, {}};
    Doubles keep(s.n * s.in, 1), x = random(s.n * s.in, 1), a = random_values(s.rank * s.in, 2),
                                 b = random_values(s.out * s.rank, 3),
                                 y0 = random_values(s.n * s.out, 4, other), low;
    Doubles want = plus(y0, twin(s, keep, x, a, b, &low));
    Tensor d_x = tensor(x), d_a = floats(a), d_b = floats(b), y(table, other, y0),
           xa = floats(Doubles(s.n * s.rank, 0));
    Buffer work(table, table->lora_workspace(9, 24, 16, 4, 0));
    for (int64_t n : {9, 0})
        ASSERT_OK(table->lora_forward(nullptr, y.get(), other, xa.as<float>(), d_x.get(), type,
                                      d_a.as<float>(), d_b.as<float>(), n, 24, 16, 4, 2, 0, 0, nullptr, 0,
                                      work.get()));
    expect_close(y.values(), want, other);
    expect_close(xa.values(), low, DTYPE_F32);
}

TEST_P(Lora, DropoutDependsOnKeysAloneAndKeepsTheMean)
{
    Adapter s = {64, 96, 1, 1, 1, 0.25f, 9, 2, {}};
    for (size_t i = 0; i < s.n; i++)
        s.keys.push_back(i * 7919);
    Doubles first = mask(s);
    double kept = 0;
    for (size_t row = 0; row < s.n; row++) { // column c takes the c-th number of the row's stream
        random_stream numbers = random_at(s.seed, RANDOM_DROPOUT, s.keys[row], s.step);
        for (size_t c = 0; c < s.in; c++)
            EXPECT_EQ(first[row * s.in + c] != 0, random_u32(&numbers) >= uint32_t(1) << 30)
                << row << " " << c;
    }
    for (double x : first) {
        EXPECT_TRUE(x == 0 || std::fabs(x - 1 / 0.75) < 1e-6) << x;
        kept += x != 0;
    }
    EXPECT_NEAR(kept / double(first.size()), 0.75, 0.03);
    EXPECT_EQ(mask(s), first);
    // a row keeps its mask wherever it stands in the batch
    Adapter alone = s;
    alone.n = 1;
    alone.keys = {s.keys[41]};
    EXPECT_EQ(mask(alone), Doubles(first.begin() + 41 * 96, first.begin() + 42 * 96));
    Adapter other = s;
    other.step++;
    EXPECT_NE(mask(other), first);
    other = s;
    other.seed++;
    EXPECT_NE(mask(other), first);
}

TEST_P(Lora, RefusesAnImpossibleDropout)
{
    Tensor x = tensor(Doubles(64, 1)), f = floats(Doubles(64, 1));
    for (float p : {-0.1f, 1.0f, std::nanf("")})
        EXPECT_EQ(table->lora_forward(nullptr, x.get(), type, f.as<float>(), x.get(), type, f.as<float>(),
                                      f.as<float>(), 1, 4, 4, 1, 1, p, 0, nullptr, 0, nullptr),
                  SC_USAGE);
    EXPECT_EQ(table->lora_forward(nullptr, x.get(), type, f.as<float>(), x.get(), type, f.as<float>(),
                                  f.as<float>(), 1, 4, 4, 1, 1, 0.5f, 0, nullptr, 0, nullptr),
              SC_INTERNAL);
}
