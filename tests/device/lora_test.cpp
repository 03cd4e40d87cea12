// lora: low-rank adapters, forward, backward, dropout.
#include "fixture.h"

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

TEST_P(Lora, DropoutDependsOnKeysAloneAndKeepsTheMean)
{
    Adapter s = {64, 96, 1, 1, 1, 0.25f, 9, 2, {}};
    for (size_t i = 0; i < s.n; i++)
        s.keys.push_back(i * 7919);
    Doubles first = mask(s);
    double kept = 0;
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
