/* Finding and opening the plug-in that brings the CUDA table. */
#include "device/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device.h"

static const char PLUGIN[] = "libseedcorn_cuda.so";

static sc_status fail(sc_status status, const char *sentence)
{
    return sc_fail(status, "%s", sentence);
}

/* Beside the library or tool that this code is in, or in the places of an installation, from there. */
bool plugin_find(char *path, size_t size)
{
    static const char *const places[] = {"", "../lib/", "../lib/x86_64-linux-gnu/", "../../lib/",
                                         "../kernels/"};
    const char *named = getenv("SEEDCORN_CUDA_PLUGIN");
    Dl_info here;
    if (named && *named) {
        snprintf(path, size, "%s", named);
        return access(path, R_OK) == 0;
    }
    if (!dladdr(PLUGIN, &here) || !here.dli_fname)
        return false;
    char self[4096];
    if (!realpath(here.dli_fname, self))
        return false;
    char *slash = strrchr(self, '/');
    slash[1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char candidate[sizeof self + 64];
        const int length = snprintf(candidate, sizeof candidate, "%s%s%s", self, places[i], PLUGIN);
        if (length < 0 || (size_t)length >= size || access(candidate, R_OK) != 0)
            continue;
        memcpy(path, candidate, (size_t)length + 1);
        return true;
    }
    return false;
}

sc_status plugin_open(int32_t index, const ops **table, char *name, size_t name_size)
{
    char path[4096];
    if (!plugin_find(path, sizeof path))
        return sc_fail(
            SC_DEVICE,
            "--device cuda: the plug-in %s was not found beside libseedcorn; build it with nvcc on the path, "
            "name it in SEEDCORN_CUDA_PLUGIN, or use --device cpu",
            PLUGIN);
    /* Never closed: the CUDA runtime does not stand being unloaded. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return sc_fail(SC_DEVICE, "--device cuda: the plug-in cannot be opened: %s", dlerror());
    plugin_open_function *open;
    *(void **)&open = dlsym(library, PLUGIN_OPEN);
    if (!open)
        return sc_fail(SC_DEVICE, "--device cuda: %s is no plug-in of Seedcorn's: it lacks %s", path,
                       PLUGIN_OPEN);
    const plugin_host host = {.ops_size = sizeof(ops), .fail = fail};
    return open(&host, index, table, name, name_size);
}
