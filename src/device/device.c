/* Opening a device: which table, how many threads, which type; and what this processor has.
 *
 * Compiled for the oldest x86-64, unlike the table itself: it has to run before it is known that the processor
 * has AVX2. */
#include "device/device.h"

#include <ctype.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/log.h"
#include "device/cpu/cpu.h"
#include "device/plugin.h"

typedef struct features {
    bool avx2, avx512, avx512_bf16, amx_bf16, intel;
} features;

/* Linux lets a process that asked for it use the tiles' 8 KB of registers (Documentation/arch/x86/xstate.rst). */
static bool may_use_tiles(void)
{
#if defined(__linux__) && defined(__x86_64__)
    enum { ASK_FOR_REGISTERS = 0x1023, TILES = 18 };
    return syscall(SYS_arch_prctl, ASK_FOR_REGISTERS, TILES) == 0;
#else
    return false;
#endif
}

/* Intel SDM volume 2, CPUID leaf 7 and XGETBV: an extension counts if the system also saves its registers. */
static features read_features(void)
{
    features found = {0};
#if defined(__x86_64__)
    uint32_t a, b, c, d, a1, b1, c1, d1;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27)))
        return found;
    bool fma = c & (1u << 12);
    uint32_t low, high, most;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!__get_cpuid(0, &most, &b, &c, &d))
        return found;
    found.intel = b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return found;
    bool saves_avx = (low & 0x6) == 0x6, saves_avx512 = (low & 0xe6) == 0xe6;
    bool saves_amx = (low & 0x60000) == 0x60000;
    found.avx2 = saves_avx && fma && (b & (1u << 5));
    /* x86-64-v4: F, DQ, CD, BW and VL */
    const uint32_t v4 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
    found.avx512 = found.avx2 && saves_avx512 && (b & v4) == v4;
    found.amx_bf16 = saves_amx && (d & (1u << 24)) && (d & (1u << 22)) && may_use_tiles();
    if (__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1))
        found.avx512_bf16 = found.avx512 && (a1 & (1u << 5));
#endif
    return found;
}

/* Read once: CPUID traps to the hypervisor of a virtual machine, and the gemm asks each time. */
static features known;
static pthread_once_t known_once = PTHREAD_ONCE_INIT;

static void know(void)
{
    const char *most = getenv("SEEDCORN_MAX_ISA");
    known = read_features();
    if (most && !strcmp(most, "avx2"))
        known = (features){.avx2 = known.avx2};
}

static features cpu_features(void)
{
    pthread_once(&known_once, know);
    return known;
}

const char *cpu_isa(void)
{
    features f = cpu_features();
    return f.amx_bf16      ? "AMX-BF16"
           : f.avx512_bf16 ? "AVX512-BF16"
           : f.avx512      ? "AVX-512"
           : f.avx2        ? "AVX2"
                           : "x86-64";
}

bool cpu_has_bf16(void)
{
    features f = cpu_features();
    return f.amx_bf16 || f.avx512_bf16;
}

bool cpu_has_avx512_bf16(void)
{
    return cpu_features().avx512_bf16;
}

bool cpu_has_amx(void)
{
    const features f = cpu_features();
    return f.amx_bf16 && f.avx512_bf16;
}

bool cpu_bf16_is_faster(void)
{
    const features f = cpu_features();
    return f.amx_bf16 || (f.avx512_bf16 && !f.intel);
}

const ops *cpu_ops(void)
{
    return cpu_features().avx512 ? cpu_table_avx512() : cpu_table();
}

/* The processor's own name, blanks folded; "CPU" if it does not tell. */
static void brand(char *out, size_t size)
{
    char text[49] = {0};
#if defined(__x86_64__)
    for (uint32_t leaf = 0; leaf < 3; leaf++) {
        uint32_t word[4];
        if (!__get_cpuid(0x80000002u + leaf, &word[0], &word[1], &word[2], &word[3]))
            break;
        memcpy(text + 16 * leaf, word, sizeof word);
    }
#endif
    size_t n = 0;
    for (const char *p = text; *p && n + 1 < size; p++) {
        bool blank = isspace((unsigned char)*p) != 0;
        if (isprint((unsigned char)*p) && !(blank && (n == 0 || out[n - 1] == ' ')))
            out[n++] = blank ? ' ' : *p;
    }
    while (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
    if (n == 0)
        snprintf(out, size, "CPU");
}

static sc_status set_threads(int64_t wanted, int *out)
{
    enum { MOST_THREADS = 4096 };
    if (wanted < 0 || wanted > MOST_THREADS)
        return sc_fail(SC_USAGE, "--threads %lld is outside 0..%d", (long long)wanted, MOST_THREADS);
#ifdef _OPENMP
    *out = wanted > 0 ? (int)wanted : omp_get_num_procs();
    const char *limit = getenv("OMP_NUM_THREADS");
    if (wanted == 0 && limit && atoi(limit) > 0 && atoi(limit) < *out)
        *out = atoi(limit);
    omp_set_num_threads(*out);
#else
    *out = 1;
#endif
    return SC_OK;
}

/* `name` gets the card's, "" for the CPU. */
static sc_status choose_table(const char *wanted, const ops **out, char *name, size_t name_size)
{
    *name = '\0';
    if (!wanted || !strcmp(wanted, "auto") || !strcmp(wanted, "cpu")) {
        if (!cpu_features().avx2)
            return sc_fail(SC_DEVICE,
                           "this processor lacks AVX2 and FMA, which Seedcorn's CPU operations need; use "
                           "a machine of 2014 or later");
        *out = cpu_ops();
        return SC_OK;
    }
    if (!strcmp(wanted, "cuda") || (!strncmp(wanted, "cuda:", 5) && wanted[5] &&
                                    strspn(wanted + 5, "0123456789") == strlen(wanted + 5))) {
        const long index = wanted[4] ? strtol(wanted + 5, NULL, 10) : 0;
        return plugin_open(index < INT32_MAX ? (int32_t)index : INT32_MAX, out, name, name_size);
    }
    return sc_fail(SC_USAGE, "--device %s is unknown; it is auto, cpu, cuda or cuda:N", wanted);
}

/* Every card that the kernels run on multiplies bf16. */
static sc_status choose_dtype(const char *wanted, bool on_host, dtype *out)
{
    if (!wanted || !strcmp(wanted, "auto")) {
        *out = !on_host || cpu_has_bf16() ? DTYPE_BF16 : DTYPE_F32;
        return SC_OK;
    }
    if (!strcmp(wanted, "fp32")) {
        *out = DTYPE_F32;
        return SC_OK;
    }
    if (!strcmp(wanted, "bf16")) {
        *out = DTYPE_BF16;
        if (on_host && !cpu_has_bf16())
            log_warn("this processor (%s) has no bf16 instructions: bf16 is emulated and slower than fp32",
                     cpu_isa());
        return SC_OK;
    }
    return sc_fail(SC_USAGE, "--dtype %s is unknown; it is auto, fp32 or bf16", wanted);
}

sc_status device_open(const sc_common *common, device **out)
{
    sc_status status = SC_OK;
    device *d = NULL;
    *out = NULL;
    SC_TRY(sc_alloc(&d, 1, sizeof *d));
    char processor[64];
    SC_TRY(choose_table(common->device, &d->ops, processor, sizeof processor));
    SC_TRY(choose_dtype(common->dtype, device_on_host(d), &d->dtype));
    SC_TRY(set_threads(common->threads, &d->threads));
    if (*processor) {
        snprintf(d->name, sizeof d->name, "%s (%s)", d->ops->name, processor);
    } else {
        brand(processor, sizeof processor);
        snprintf(d->name, sizeof d->name, "cpu (%s, %d thread%s, %s)", processor, d->threads,
                 d->threads == 1 ? "" : "s", cpu_isa());
    }
    *out = d;
    d = NULL;
cleanup:
    free(d);
    return status;
}

bool device_on_host(const device *d)
{
    return !strcmp(d->ops->name, "cpu");
}

sc_status device_runs_models(const device *d)
{
#define OPERATION(name)                                                                                      \
    {                                                                                                        \
#name, offsetof(ops, name)                                                                           \
    }
    static const struct {
        const char *name;
        size_t at;
    } needed[] = {OPERATION(gather_rows),
                  OPERATION(pool_rows),
                  OPERATION(embedding_forward),
                  OPERATION(gemm),
                  OPERATION(bias_forward),
                  OPERATION(rmsnorm_forward),
                  OPERATION(rope),
                  OPERATION(attention_forward),
                  OPERATION(attention_cached),
                  OPERATION(glu_forward),
                  OPERATION(lora_forward),
                  OPERATION(embedding_backward),
                  OPERATION(bias_backward),
                  OPERATION(rmsnorm_backward),
                  OPERATION(attention_backward),
                  OPERATION(glu_backward),
                  OPERATION(lora_backward),
                  OPERATION(cross_entropy),
                  OPERATION(cap_logits),
                  OPERATION(adamw),
                  OPERATION(square_sum),
                  OPERATION(sample_rows),
                  OPERATION(penalise_rows),
                  OPERATION(gather_logprobs)};
#undef OPERATION
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        void (*function)(void);
        memcpy(&function, (const char *)d->ops + needed[i].at, sizeof function);
        if (!function)
            return sc_fail(SC_DEVICE,
                           "the device \"%s\" lacks the operation %s, which models need; use --device cpu",
                           d->ops->name, needed[i].name);
    }
    return SC_OK;
}

void device_close(device *d)
{
    free(d);
}
