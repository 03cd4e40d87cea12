// Puts GGUF files together, field by field.
#ifndef SC_TESTS_FORMATS_GGUF_FIXTURE_H
#define SC_TESTS_FORMATS_GGUF_FIXTURE_H

#include <cstdint>
#include <string>
#include <vector>

#include "fixture.h"

struct GgufBuilder {
    uint32_t version = 3;
    std::string values, infos, data;
    uint64_t n_values = 0, n_tensors = 0;
    uint64_t alignment = 32;

    static std::string text(const std::string &s)
    {
        return raw((uint64_t)s.size()) + s;
    }
    void value(const std::string &key, uint32_t kind, const std::string &bytes)
    {
        values += text(key) + raw(kind) + bytes;
        n_values++;
    }
    void add(const std::string &key, const std::string &s)
    {
        value(key, 8, text(s));
    }
    void add(const std::string &key, uint32_t n)
    {
        value(key, 4, raw(n));
    }
    void add(const std::string &key, float x)
    {
        value(key, 6, raw(x));
    }
    void add(const std::string &key, const std::vector<std::string> &list)
    {
        std::string bytes = raw((uint32_t)8) + raw((uint64_t)list.size());
        for (const std::string &s : list)
            bytes += text(s);
        value(key, 9, bytes);
    }
    void add(const std::string &key, const std::vector<int32_t> &list)
    {
        value(key, 9, raw((uint32_t)5) + raw((uint64_t)list.size()) + raw(list));
    }
    void info(const std::string &name, const std::vector<int64_t> &shape, uint32_t type, uint64_t offset)
    {
        infos += text(name) + raw((uint32_t)shape.size()) + raw(shape) + raw(type) + raw(offset);
        n_tensors++;
    }
    void tensor(const std::string &name, const std::vector<int64_t> &shape, uint32_t type,
                const std::string &bytes)
    {
        data.resize((data.size() + alignment - 1) / alignment * alignment);
        info(name, shape, type, data.size());
        data += bytes;
    }
    std::string bytes() const
    {
        std::string out = "GGUF" + raw(version) + raw(n_tensors) + raw(n_values) + values + infos;
        out.resize((out.size() + alignment - 1) / alignment * alignment);
        return out + data;
    }
};

#endif
