// One test body per operation, run on every table that is present and, where the operation knows types, for each
// of them. Expected values are computed in double in the tests; gradients by central differences of that twin.
#ifndef SC_TESTS_DEVICE_FIXTURE_H
#define SC_TESTS_DEVICE_FIXTURE_H

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tables.h"

using Doubles = std::vector<double>;

struct Setting {
    const ops *table;
    dtype type;
};

inline void PrintTo(const Setting &setting, std::ostream *out)
{
    *out << setting.table->name << (setting.type == DTYPE_F32 ? "_f32" : "_bf16");
}

// Every table that has the operation, in either type: settings(&ops::rope).
template <typename Operation> std::vector<Setting> settings(Operation ops::*operation, bool with_bf16 = true)
{
    std::vector<Setting> all;
    for (const ops *table : present_tables()) {
        if (!(table->*operation))
            continue;
        all.push_back({table, DTYPE_F32});
        if (with_bf16)
            all.push_back({table, DTYPE_BF16});
    }
    return all;
}

inline std::string setting_name(const testing::TestParamInfo<Setting> &info)
{
    return testing::PrintToString(info.param);
}

// Memory of a table, with a guard behind it: an operation that writes past its end is found.
class Buffer
{
  public:
    Buffer(const ops *table, size_t bytes) : table_(table), bytes_(bytes)
    {
        EXPECT_EQ(table_->alloc(&data_, bytes + GUARD), SC_OK) << sc_last_error();
        std::vector<uint8_t> fill(bytes + GUARD, MARK);
        EXPECT_EQ(table_->upload(nullptr, data_, fill.data(), fill.size()), SC_OK);
    }
    Buffer(Buffer &&other) noexcept : table_(other.table_), bytes_(other.bytes_), data_(other.data_)
    {
        other.data_ = nullptr;
    }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer()
    {
        if (!data_)
            return;
        std::vector<uint8_t> all(bytes_ + GUARD);
        EXPECT_EQ(table_->download(nullptr, all.data(), data_, all.size()), SC_OK);
        EXPECT_EQ(table_->synchronise(nullptr), SC_OK);
        for (size_t i = bytes_; i < all.size(); i++)
            if (all[i] != MARK) {
                ADD_FAILURE() << "byte " << i - bytes_ << " behind a buffer of " << bytes_ << " was written";
                break;
            }
        table_->release(data_);
    }
    void *get() const
    {
        return data_;
    }
    template <typename T> T *as() const
    {
        return static_cast<T *>(data_);
    }
    void upload(const void *host, size_t bytes)
    {
        ASSERT_LE(bytes, bytes_);
        ASSERT_EQ(table_->upload(nullptr, data_, host, bytes), SC_OK);
    }
    std::vector<uint8_t> bytes() const
    {
        std::vector<uint8_t> out(bytes_);
        EXPECT_EQ(table_->download(nullptr, out.data(), data_, bytes_), SC_OK);
        EXPECT_EQ(table_->synchronise(nullptr), SC_OK);
        return out;
    }
    template <typename T> std::vector<T> array() const
    {
        std::vector<uint8_t> raw = bytes();
        std::vector<T> out(raw.size() / sizeof(T));
        if (!out.empty())
            std::memcpy(out.data(), raw.data(), out.size() * sizeof(T));
        return out;
    }

  private:
#ifdef __SANITIZE_ADDRESS__
    static constexpr size_t GUARD = 0; // AddressSanitizer's own begins at once, and sees reads, too
#else
    static constexpr size_t GUARD = 256;
#endif
    static constexpr uint8_t MARK = 0x40; // 3 as a float, 32.5 as a double: numbers that arithmetic changes
    const ops *table_;
    size_t bytes_;
    void *data_ = nullptr;
};

// A buffer of one type, seen from the host as doubles.
class Tensor : public Buffer
{
  public:
    Tensor(const ops *table, dtype type, const Doubles &values)
        : Buffer(table, values.size() * dtype_size(type)), type_(type)
    {
        set(values);
    }
    void set(const Doubles &values)
    {
        std::vector<uint8_t> raw(values.size() * dtype_size(type_));
        for (size_t i = 0; i < values.size(); i++) {
            float f = static_cast<float>(values[i]);
            uint16_t h = f32_to_bf16(f);
            std::memcpy(&raw[i * dtype_size(type_)], type_ == DTYPE_F32 ? static_cast<void *>(&f) : &h,
                        dtype_size(type_));
        }
        if (!raw.empty())
            upload(raw.data(), raw.size());
    }
    // Where element i is: a pointer that begins at no multiple of 16 bytes, for one.
    void *at(size_t i) const
    {
        return as<char>() + i * dtype_size(type_);
    }
    Doubles values() const
    {
        Doubles out;
        if (type_ == DTYPE_F32)
            for (float f : array<float>())
                out.push_back(static_cast<double>(f));
        else
            for (uint16_t h : array<uint16_t>())
                out.push_back(static_cast<double>(bf16_to_f32(h)));
        return out;
    }

  private:
    dtype type_;
};

inline float bf16_of(double x)
{
    return bf16_to_f32(f32_to_bf16(static_cast<float>(x)));
}

// Normal numbers as the type can hold them.
inline Doubles random_values(size_t n, unsigned seed, dtype type = DTYPE_F32, double spread = 1.0)
{
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal(0.0, spread);
    Doubles out(n);
    for (double &x : out) {
        float f = static_cast<float>(normal(engine));
        x = type == DTYPE_F32 ? static_cast<double>(f) : static_cast<double>(bf16_of(f));
    }
    return out;
}

template <typename T> Buffer upload_array(const ops *table, const std::vector<T> &values)
{
    Buffer buffer(table, values.size() * sizeof(T));
    if (!values.empty())
        buffer.upload(values.data(), values.size() * sizeof(T));
    return buffer;
}

// float results: relative to the largest, 1e-5; bf16: one rounding (2^-8 relative) and 1e-3 of the largest.
inline void expect_close(const Doubles &got, const Doubles &want, dtype type, double factor = 1.0,
                         const char *what = "")
{
    ASSERT_EQ(got.size(), want.size());
    double most = 1e-30;
    for (double x : want)
        if (std::isfinite(x))
            most = std::max(most, std::fabs(x));
    int shown = 0;
    for (size_t i = 0; i < got.size() && shown < 3; i++) {
        double allowed = type == DTYPE_F32 ? 1e-5 * most : std::fabs(want[i]) / 256 + 1e-3 * most;
        if (!(std::fabs(got[i] - want[i]) <= factor * allowed)) {
            ADD_FAILURE() << what << " [" << i << "] is " << got[i] << ", expected " << want[i] << " within "
                          << factor * allowed;
            shown++;
        }
    }
}

// d f / d x by central differences
inline Doubles gradient_of(const std::function<double()> &f, Doubles &x, double step = 1e-5)
{
    Doubles out(x.size());
    for (size_t i = 0; i < x.size(); i++) {
        double old = x[i];
        x[i] = old + step;
        double up = f();
        x[i] = old - step;
        double down = f();
        x[i] = old;
        out[i] = (up - down) / (2 * step);
    }
    return out;
}

inline double dot_of(const Doubles &a, const Doubles &b)
{
    double total = 0;
    for (size_t i = 0; i < a.size(); i++)
        total += a[i] * b[i];
    return total;
}

inline Doubles plus(const Doubles &a, const Doubles &b)
{
    Doubles out(a);
    for (size_t i = 0; i < a.size(); i++)
        out[i] += b[i];
    return out;
}

#define EXPECT_OK(expression) EXPECT_EQ((expression), SC_OK) << sc_last_error()
#define ASSERT_OK(expression) ASSERT_EQ((expression), SC_OK) << sc_last_error()

class DeviceTest : public testing::TestWithParam<Setting>
{
  protected:
    const ops *table = GetParam().table;
    dtype type = GetParam().type;
    Tensor tensor(const Doubles &values) const
    {
        return Tensor(table, type, values);
    }
    Tensor floats(const Doubles &values) const
    {
        return Tensor(table, DTYPE_F32, values);
    }
    Doubles random(size_t n, unsigned seed, double spread = 1.0) const
    {
        return random_values(n, seed, type, spread);
    }
};

#endif
