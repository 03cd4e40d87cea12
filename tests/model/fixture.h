// What the tests of model share: the tiny models, what transformers computed with them, and comparisons.
#ifndef SC_TESTS_MODEL_FIXTURE_H
#define SC_TESTS_MODEL_FIXTURE_H

#include <gtest/gtest.h>
#include <jansson.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

extern "C" {
#include "base/file.h"
#include "formats/safetensors.h"
#include "model/generate.h"
#include "model/model.h"
}

using Floats = std::vector<float>;
using Ints = std::vector<int32_t>;

inline std::string tiny(const std::string &name)
{
    return std::string(SC_SOURCE_DIR "/tests/fixtures/tiny_llama/") + name;
}

// A Llama three times, and its relatives: what transformers computed lies beside each (make_fixtures.py).
inline constexpr const char *kTinyModels[] = {"tied",  "untied", "llama3", "qwen2",
                                              "qwen3", "gemma2", "gemma3"};

inline std::string read_text(const std::string &path)
{
    std::ifstream in(path, std::ios::binary);
    std::stringstream s;
    s << in.rdbuf();
    return s.str();
}

inline void write_text(const std::string &path, const std::string &text)
{
    std::ofstream(path, std::ios::binary) << text;
}

// A fresh folder that goes with the object.
class TempFolder
{
  public:
    TempFolder()
    {
        std::string pattern = (std::filesystem::temp_directory_path() / "seedcorn-model-XXXXXX").string();
        path_ = mkdtemp(pattern.data());
    }
    ~TempFolder()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempFolder(const TempFolder &) = delete;
    TempFolder &operator=(const TempFolder &) = delete;
    const std::string &path() const
    {
        return path_;
    }
    std::string file(const std::string &name) const
    {
        return path_ + "/" + name;
    }

  private:
    std::string path_;
};

// A copy of a tiny model whose config.json (or another file) may then be spoilt.
inline void copy_tiny(const std::string &name, const std::string &to)
{
    std::filesystem::copy(tiny(name), to,
                          std::filesystem::copy_options::overwrite_existing |
                              std::filesystem::copy_options::recursive);
}

inline void replace_in(const std::string &path, const std::string &from, const std::string &to)
{
    std::string text = read_text(path);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from << " is not in " << path;
    write_text(path, text.replace(at, from.size(), to));
}

#define ASSERT_OK(expression) ASSERT_EQ((expression), SC_OK) << sc_last_error()
#define EXPECT_OK(expression) EXPECT_EQ((expression), SC_OK) << sc_last_error()

struct ModelClose {
    void operator()(model *m) const
    {
        model_close(m);
    }
};
struct DeviceClose {
    void operator()(device *d) const
    {
        device_close(d);
    }
};

// A device and a model on it. Check ok() first.
class Opened
{
  public:
    explicit Opened(const std::string &folder, const char *type = "fp32", const char *device_name = "cpu")
    {
        sc_common common = sc_common_default();
        common.device = device_name;
        common.dtype = type;
        common.threads = 2;
        device *d = nullptr;
        EXPECT_OK(device_open(&common, &d));
        device_.reset(d);
        model *m = nullptr;
        if (d != nullptr) {
            EXPECT_OK(model_open(folder.c_str(), d, &m));
        }
        model_.reset(m);
    }
    bool ok() const
    {
        return model_ != nullptr;
    }
    operator model *() const
    {
        return model_.get();
    }
    model *operator->() const
    {
        return model_.get();
    }

  private:
    std::unique_ptr<device, DeviceClose> device_;
    std::unique_ptr<model, ModelClose> model_;
};

struct SafetensorsClose {
    void operator()(safetensors *s) const
    {
        safetensors_close(s);
    }
};

// expected.safetensors of a tiny model.
class Expected
{
  public:
    explicit Expected(const std::string &folder)
    {
        safetensors *s = nullptr;
        EXPECT_OK(safetensors_open((folder + "/expected.safetensors").c_str(), &s));
        file_.reset(s);
    }
    Floats floats(const std::string &name) const
    {
        const st_tensor *t = nullptr;
        EXPECT_OK(safetensors_need(file_.get(), name.c_str(), &t));
        Floats out;
        if (t == nullptr)
            return out;
        out.resize(static_cast<size_t>(t->n_values));
        EXPECT_OK(st_tensor_floats(t, 0, t->n_values, out.data()));
        return out;
    }
    Ints ints(const std::string &name) const
    {
        const st_tensor *t = nullptr;
        EXPECT_OK(safetensors_need(file_.get(), name.c_str(), &t));
        Ints out;
        if (t == nullptr)
            return out;
        out.resize(static_cast<size_t>(t->n_values));
        std::memcpy(out.data(), t->data, out.size() * sizeof(int32_t));
        return out;
    }

  private:
    std::unique_ptr<safetensors, SafetensorsClose> file_;
};

// The three sequences of make_fixtures.py.
inline Ints fixture_ends()
{
    return {0, 13, 20, 40};
}
constexpr int64_t kGreedy = 20;

inline packed_batch batch_of(const Ints &ids, const Ints &ends)
{
    packed_batch b = {};
    b.ids = ids.data();
    b.cu_seqlens = ends.data();
    b.n_seqs = static_cast<int64_t>(ends.size()) - 1;
    b.n_tokens = ends.back();
    return b;
}

inline Floats forward(model *m, const Ints &ids, const Ints &ends, int32_t layer = -1)
{
    const packed_batch b = batch_of(ids, ends);
    void *hidden = nullptr;
    EXPECT_OK(model_forward(m, &b, layer, &hidden));
    Floats out(static_cast<size_t>(b.n_tokens * m->config.dim));
    if (hidden != nullptr) {
        EXPECT_OK(m->device->ops->cast(nullptr, out.data(), DTYPE_F32, hidden, m->dtype,
                                       static_cast<int64_t>(out.size())));
    }
    return out;
}

inline Floats logits_of(model *m, const Ints &ids, const Ints &ends)
{
    const packed_batch b = batch_of(ids, ends);
    void *hidden = nullptr;
    float *logits = nullptr;
    Ints rows(static_cast<size_t>(b.n_tokens));
    for (size_t i = 0; i < rows.size(); i++)
        rows[i] = static_cast<int32_t>(i);
    EXPECT_OK(model_forward(m, &b, -1, &hidden));
    EXPECT_OK(model_logits(m, hidden, rows.data(), b.n_tokens, &logits));
    return logits == nullptr ? Floats() : Floats(logits, logits + b.n_tokens * m->config.vocab_size);
}

inline double max_difference(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
        most = std::isnan(d) ? INFINITY : std::max(most, d);
    }
    return most;
}

inline double max_difference(const Floats &a, const Floats &b)
{
    return a.size() != b.size() ? INFINITY : max_difference(a.data(), b.data(), a.size());
}

inline double max_abs(const Floats &a)
{
    double most = 0;
    for (float x : a)
        most = std::max(most, std::fabs(static_cast<double>(x)));
    return most;
}

// The least cosine of the rows of two matrices.
inline double least_cosine(const Floats &a, const Floats &b, size_t dim)
{
    double least = a.size() == b.size() && !a.empty() ? 1 : -1;
    for (size_t r = 0; least >= 0 && r < a.size() / dim; r++) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t i = r * dim; i < (r + 1) * dim; i++) {
            ab += static_cast<double>(a[i]) * b[i];
            aa += static_cast<double>(a[i]) * a[i];
            bb += static_cast<double>(b[i]) * b[i];
        }
        least = std::min(least, ab / std::sqrt(aa * bb));
    }
    return least;
}

#endif
