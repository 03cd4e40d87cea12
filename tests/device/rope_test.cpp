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
    } shapes[] = {{1, 2, 0}, {9, 64, 0}, {3, 80, 5}, {2, 256, 64}, {1, 2050, 0}};
    std::vector<int32_t> positions = {0, 1, 2, 500, 8191, 100000, 3};
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

TEST_P(Rope, RefusesAnOddHead)
{
    std::vector<int32_t> positions = {1};
    std::vector<float> inv_freq = {1.0f, 1.0f};
    Buffer p = upload_array(table, positions), f = upload_array(table, inv_freq);
    Tensor x = tensor(Doubles(3, 1));
    EXPECT_EQ(table->rope(nullptr, x.get(), type, p.as<int32_t>(), f.as<float>(), 1, 1, 3, 3, false),
              SC_INTERNAL);
}
