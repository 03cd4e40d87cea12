/* The defaults of the options that every stage shares. */
#include "seedcorn/common.h"

sc_common sc_common_default(void)
{
    return (sc_common){
        .struct_size = sizeof(sc_common),
        .device = "auto",
        .dtype = "auto",
        .threads = 0,
        .seed = 0,
    };
}
