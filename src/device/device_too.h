/* device_too.h: for functions of the contract (ops.h) that kernels call as the host does, with what they are made of. */
#ifndef SC_DEVICE_DEVICE_TOO_H
#define SC_DEVICE_DEVICE_TOO_H

#ifdef __cplusplus
extern "C++" { /* ops.h may be included inside of extern "C", which the library's templates do not stand */
#endif
#include <float.h>
#include <math.h>
#include <stdint.h>
#ifdef __cplusplus
}
#endif

#ifdef __CUDACC__
#define DEVICE_TOO static inline __host__ __device__
#else
#define DEVICE_TOO static inline
#endif

#endif
