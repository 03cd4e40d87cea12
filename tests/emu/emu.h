// The emulator's side of kernels/portable.cuh: CUDA's language extensions and built-ins for an ordinary C++ compiler.
//
// Every CUDA thread is a fiber of the host thread that launches; what threads do together (barriers, shuffles, matrix
// products) is done in the runtime, and all else is plain code that sanitizers, gcov and debuggers understand.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio> // nvcc declares printf() by itself
#include <cstring>
#include <limits>
#include <math.h>
#include <tuple>
#include <type_traits>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "emu/runtime.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __managed__
#undef __launch_bounds__
#undef __forceinline__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __grid_constant__ const
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
// Statics would be shared by all blocks, and sanitizers do not watch their ends.
#define __shared__ static_assert(false, "declare shared memory with SHARED or DYNAMIC_SHARED");
#define __constant__ static_assert(false, "pass constants as kernel arguments");

#define threadIdx (::emu::current->thread_index)
#define blockIdx (::emu::current->block_index)
#define blockDim (::emu::current->block_size)
#define gridDim (::emu::current->grid_size)
static constexpr int warpSize = 32;

#include "emu/launch.h"
#include "emu/barrier.h"
#include "emu/warp.h"
#include "emu/atomic.h"
#include "emu/intrinsics.h"
#include "emu/async_copy.h"
#include "emu/matrix.h"

#define SHARED(type, name, dims)                                                                             \
    typedef type name##_shared_type dims;                                                                    \
    static ::emu::SharedVariable name##_shared_variable{                                                     \
        sizeof(name##_shared_type), #name, {__FILE__, __LINE__}, -1};                                        \
    name##_shared_type &name =                                                                               \
        *static_cast<name##_shared_type *>(::emu::shared_memory(name##_shared_variable))

#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(::emu::dynamic_shared_memory())
