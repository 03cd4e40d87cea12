/* The layout of the structs that other languages fill in, as this build of the library has them. A driver compares
 * it with its own when it loads the library, and refuses one that differs. */
#ifndef SEEDCORN_ABI_H
#define SEEDCORN_ABI_H

#include "seedcorn/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sc_abi_member {
    const char *type;   /* "sc_pick" */
    const char *member; /* "score"; "" for the struct itself */
    size_t offset;      /* bytes from its start */
    size_t size;        /* bytes */
} sc_abi_member;

/* All members of all such structs, each struct before its members; *n of them. Static memory. */
SC_API const sc_abi_member *sc_abi_layout(size_t *n);

#ifdef __cplusplus
}
#endif
#endif
