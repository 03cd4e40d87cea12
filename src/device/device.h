/* Opening a device. One table of operations per kind; "auto" takes the best that is present. */
#ifndef SC_DEVICE_DEVICE_H
#define SC_DEVICE_DEVICE_H

#include "device/ops.h"
#include "seedcorn/common.h"

typedef struct device {
    const struct ops *ops;
    int threads;      /* of the CPU table */
    enum dtype dtype; /* what `auto` resolved to */
    char name[128];   /* "cpu (AMD EPYC, 2 threads, AVX2)": for manifests and doctor */
} device;

/* `common->device`: auto, cpu, cuda[:N]; `common->dtype`: auto, fp32, bf16. SC_DEVICE with a sentence
 * if an explicitly named device is absent. Sets the number of OpenMP threads. */
sc_status device_open(const sc_common *common, device **out);
void device_close(device *d);

/* SC_DEVICE, naming the first operation that models need and the table lacks. */
sc_status device_runs_models(const device *d);

/* The rate of products [rows][576] x [576][1536], a block's size, on a card of [8192][8192] x [8192][8192]: the best of some
 * rounds, after one that warms up, in 1e9 operations per second. The numbers are random: of zeros a card makes more in a
 * second. 0: not measured, of the emulator, or where a card has no room for it. */
sc_status device_measure_peak(const device *d, int64_t rows, int rounds, int products, double *gflops);

/* The rate of y += x over arrays of 64 MB, which no cache holds, in 1e9 bytes per second. */
sc_status device_measure_bandwidth(const device *d, int rounds, double *gigabytes);

/* What this processor has, for doctor and manifests: "AVX2", "AVX512-BF16", "AMX" ... SEEDCORN_MAX_ISA=avx2 in the
 * environment takes it for one that has no more, as ONEDNN_MAX_CPU_ISA does for oneDNN's products of floats. */
const char *cpu_isa(void);
bool cpu_has_bf16(void);
bool cpu_has_avx512_bf16(void);
/* Whether code of our own may use AMX's tiles, with AVX512-BF16 beside them. */
bool cpu_has_amx(void);
/* Whether products of bf16 are faster than products of as many floats: with AMX, or AVX512-BF16 of another maker than Intel,
 * whose VDPBF16PS does half the operations a cycle of its FMA (measured: 170 and 326 GFLOP/s in oneDNN, docs/benchmarks.md). */
bool cpu_bf16_is_faster(void);

/* Whether operations work in the memory of this process, so that files may be used where they are mapped. */
bool device_on_host(const device *d);

/* The CPU table, always present: the build of its files for AVX-512 where the processor has it, else for AVX2. */
const ops *cpu_ops(void);

static inline float bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

/* Round to nearest even; a NaN stays a NaN. */
static inline uint16_t f32_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((v.u >> 16) | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}

#endif
