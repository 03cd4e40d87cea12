// The tables of operations that tests run on: the CPU's; the kernels', run by the emulator (tests/emu), where the CUDA
// headers were found; and the card's, where a plug-in and a card are.
//
//   SEEDCORN_TEST_EMU=LIBRARY        another build of the emulated kernels (scripts/mutants)
//   SEEDCORN_TEST_TABLES=cuda        only these, separated by commas: cpu, emu, cuda. One that is unknown, or named and
//                                    absent, ends the program: what was asked for was not tested.
#ifndef SC_TESTS_DEVICE_TABLES_H
#define SC_TESTS_DEVICE_TABLES_H

#include <dlfcn.h>

#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
#include "device/device.h"
#include "device/plugin.h"
}

inline sc_status plugin_failed(sc_status status, const char *sentence)
{
    return sc_fail(status, "%s", sentence);
}

// The table of a plug-in, or null where it finds no card.
inline const ops *table_of(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        throw std::runtime_error(dlerror());
    const auto open = reinterpret_cast<plugin_open_function *>(dlsym(library, PLUGIN_OPEN));
    const plugin_host host = {sizeof(ops), plugin_failed};
    const ops *table = nullptr;
    char name[64];
    return open && open(&host, 0, &table, name, sizeof name) == SC_OK ? table : nullptr;
}

// The names that SEEDCORN_TEST_TABLES gives; none: all tables.
inline std::vector<std::string> named_tables()
{
    std::vector<std::string> names;
    const char *value = std::getenv("SEEDCORN_TEST_TABLES");
    std::istringstream list(value ? value : "");
    for (std::string name; std::getline(list, name, ',');) {
        if (name != "cpu" && name != "emu" && name != "cuda")
            throw std::runtime_error("SEEDCORN_TEST_TABLES names \"" + name +
                                     "\"; the tables are cpu, emu and cuda");
        names.push_back(name);
    }
    return names;
}

inline bool table_wanted(const std::string &name)
{
    const std::vector<std::string> names = named_tables();
    bool found = names.empty();
    for (const std::string &other : names)
        found = found || other == name;
    return found;
}

// A plug-in that brings a table.
struct PresentPlugin {
    std::string name, path;
    const ops *table;
};

inline void PrintTo(const PresentPlugin &plugin, std::ostream *out)
{
    *out << plugin.name;
}

// The plug-ins whose tables are here and wanted.
inline const std::vector<PresentPlugin> &present_plugins()
{
    static const std::vector<PresentPlugin> plugins = [] {
        std::vector<PresentPlugin> all;
#ifdef SC_EMU_LIBRARY
        if (table_wanted("emu")) {
            const char *other = std::getenv("SEEDCORN_TEST_EMU");
            const std::string emulated = other ? other : SC_EMU_LIBRARY;
            all.push_back({"emu", emulated, table_of(emulated.c_str())});
            if (!all.back().table)
                throw std::runtime_error(std::string("the emulated table: ") + sc_last_error());
        }
#endif
        char path[4096];
        if (table_wanted("cuda") && plugin_find(path, sizeof path))
            if (const ops *cuda = table_of(path))
                all.push_back({"cuda", path, cuda});
        for (const std::string &name : named_tables()) {
            bool here = name == "cpu";
            for (const PresentPlugin &plugin : all)
                here = here || plugin.name == name;
            if (!here)
                throw std::runtime_error(
                    "SEEDCORN_TEST_TABLES names the table \"" + name + "\", which is not here: " +
                    (*sc_last_error() ? sc_last_error() : "its plug-in was not found, or not built"));
        }
        return all;
    }();
    return plugins;
}

inline const std::vector<const ops *> &present_tables()
{
    static const std::vector<const ops *> tables = [] {
        std::vector<const ops *> all;
        if (table_wanted("cpu"))
            all.push_back(cpu_ops());
        for (const PresentPlugin &plugin : present_plugins())
            all.push_back(plugin.table);
        return all;
    }();
    return tables;
}

// Names the plug-in that --device cuda opens, for as long as it lives. The emulator then hides its memory from the host's
// own code, as a card does.
class Plugin
{
  public:
    explicit Plugin(const char *path)
    {
        if (const char *before = std::getenv(NAME))
            before_ = before;
        setenv(NAME, path, 1);
        setenv(HIDE, "1", 1);
    }
    Plugin(const Plugin &) = delete;
    Plugin &operator=(const Plugin &) = delete;
    ~Plugin()
    {
        if (before_.empty())
            unsetenv(NAME);
        else
            setenv(NAME, before_.c_str(), 1);
        unsetenv(HIDE);
    }

  private:
    static constexpr const char *NAME = "SEEDCORN_CUDA_PLUGIN", *HIDE = "EMU_HIDE";
    std::string before_;
};

#endif
