// rope: rotation by position.
#include "fixture.h"

class Rope : public DeviceTest
{
  protected:
    static std::vector<float> frequencies(int head_dim)
    {
        std::vector<float> out;
        for (int i = 0; i < head_dim / 2; i++)
            out.push_back(float(std::pow(1e5, -2.0 * i / head_dim)));
        return out;
    }
};
INSTANTIATE_TEST_SUITE_P(Tables, Rope, testing::ValuesIn(settings(&ops::rope)), setting_name);

TEST_P(Rope, RotatesPairsAndBack)
{
    struct {
        int heads, dim, pad;
    } shapes[] = {{1, 2, 0}, {9, 64, 0}, {3, 80, 5}, {2, 256, 64}, {1, 2050, 0}, {17, 16, 8}, {8, 8, 0}};
    std::vector<int32_t> positions = {0, 1, 2, 500, 8191, 100000, 3, 1000000, 4};
    Buffer d_positions = upload_array(table, positions);
    for (auto shape : shapes) {
        const size_t ld = size_t(shape.heads * shape.dim + shape.pad), half = size_t(shape.dim / 2);
        std::vector<float> inv_freq = frequencies(shape.dim);
        Buffer d_freq = upload_array(table, inv_freq);
        Doubles x = random(positions.size() * ld, 1), want = x;
        for (size_t t = 0; t < positions.size(); t++)
            for (size_t h = 0; h < size_t(shape.heads); h++)
                for (size_t i = 0; i < half; i++) {
                    size_t a = t * ld + h * size_t(shape.dim) + i, b = a + half;
                    double angle = double(positions[t]) * double(inv_freq[i]);
                    want[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
                    want[b] = x[b] * std::cos(angle) + x[a] * std::sin(angle);
                }
        Tensor rows = tensor(x);
        ASSERT_OK(table->rope(nullptr, rows.get(), type, d_positions.as<int32_t>(), d_freq.as<float>(),
                              int64_t(positions.size()), shape.heads, shape.dim, int64_t(ld), false));
        expect_close(rows.values(), want, type);
        ASSERT_OK(table->rope(nullptr, rows.get(), type, d_positions.as<int32_t>(), d_freq.as<float>(),
                              int64_t(positions.size()), shape.heads, shape.dim, int64_t(ld), true));
        expect_close(rows.values(), x, type, 2);
    }
}

// Every quarter of a turn, to the last bits of a float: the angle is not one.
TEST_P(Rope, IsAccurateAtEveryAngle)
{
    const size_t n = 400;
    std::vector<int32_t> positions(n);
    for (size_t t = 0; t < n; t++)
        positions[t] = int32_t(t < 200 ? t : 131071 - t);
    std::vector<float> inv_freq = {1.0f, 0.7f};
    Buffer p = upload_array(table, positions), f = upload_array(table, inv_freq);
    Doubles x(n * 4), want(n * 4);
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < 2; i++) {
            x[t * 4 + i] = 1;
            want[t * 4 + i] = std::cos(double(positions[t]) * double(inv_freq[i]));
            want[t * 4 + 2 + i] = std::sin(double(positions[t]) * double(inv_freq[i]));
        }
    Tensor rows = tensor(x);
    ASSERT_OK(
        table->rope(nullptr, rows.get(), type, p.as<int32_t>(), f.as<float>(), int64_t(n), 1, 4, 4, false));
    Doubles got = rows.values();
    for (size_t i = 0; i < got.size(); i++)
        ASSERT_NEAR(got[i], want[i], type == DTYPE_F32 ? 2e-7 : 0.002) << i;
    ASSERT_OK(table->rope(nullptr, rows.get(), type, p.as<int32_t>(), f.as<float>(), 0, 1, 4, 4, false));
    EXPECT_EQ(rows.values(), got);
}

TEST_P(Rope, RefusesAnOddHead)
{
    std::vector<int32_t> positions = {1};
    std::vector<float> inv_freq = {1.0f, 1.0f};
    Buffer p = upload_array(table, positions), f = upload_array(table, inv_freq);
    Tensor x = tensor(Doubles(3, 1));
    EXPECT_EQ(table->rope(nullptr, x.get(), type, p.as<int32_t>(), f.as<float>(), 1, 1, 3, 3, false),
              SC_INTERNAL);
}
