/* plugin.h: what passes between libseedcorn and a shared library that brings a table of operations. Such a library
 * links nothing of ours: it is opened with dlopen, and whatever it needs of us comes in plugin_host. */
#ifndef SC_DEVICE_PLUGIN_H
#define SC_DEVICE_PLUGIN_H

#include "device/ops.h"

typedef struct plugin_host {
    size_t ops_size; /* sizeof(ops): a library of another build is refused */
    sc_status (*fail)(sc_status status, const char *sentence);
} plugin_host;

/* The one function that the library exports. Card `index` becomes the one of every operation of *table, which stays the
 * library's; `name` gets what to call it in manifests, "NVIDIA H100, 79.6 GB, driver 13.0". */
typedef sc_status plugin_open_function(const plugin_host *host, int32_t index, const ops **table, char *name,
                                       size_t name_size);
#define PLUGIN_OPEN "sc_plugin_open"

/* Where libseedcorn_cuda.so is: named by SEEDCORN_CUDA_PLUGIN, or beside this library. False: nowhere. */
bool plugin_find(char *path, size_t size);
/* SC_DEVICE with a sentence where it is absent, does not fit, or finds no card. */
sc_status plugin_open(int32_t index, const ops **table, char *name, size_t name_size);

#endif
