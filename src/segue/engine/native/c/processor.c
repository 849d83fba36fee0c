/* What the processor has, asked at run time. */
#include "kernels.h"

#if defined(__x86_64__)

#include <cpuid.h>

/* Not by __builtin_cpu_supports, which ziglang's compiler takes to be false. */
int processor_runs(const struct kernels *path) {
    unsigned a, b, c, d, state, upper;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const unsigned fma_osxsave_avx_f16c = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29;
    if ((c & fma_osxsave_avx_f16c) != fma_osxsave_avx_f16c) return 0;
    __asm__ volatile("xgetbv" : "=a"(state), "=d"(upper) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if ((state & 0x06) != 0x06 || !(b & 1u << 5)) return 0;
    if (path == &segue_avx512) {
        const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
        return (state & 0xe6) == 0xe6 && (b & f_dq_bw_vl) == f_dq_bw_vl && (c & 1u << 11);
    }
    if (path == &segue_avxvnni) return a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
    return path == &segue_avx2;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

int processor_runs(const struct kernels *path) {
    const unsigned long dot_product = 1ul << 20; /* HWCAP_ASIMDDP */
    return path == &segue_neon && (getauxval(AT_HWCAP) & dot_product);
}

#elif defined(__aarch64__) && defined(__APPLE__)

#include <sys/sysctl.h>

int processor_runs(const struct kernels *path) {
    int has = 0;
    size_t size = sizeof has;
    if (sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, NULL, 0)) return 0;
    return path == &segue_neon && has;
}

#elif defined(__aarch64__) && defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

int processor_runs(const struct kernels *path) {
    const DWORD dot_product = 43; /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
    return path == &segue_neon && IsProcessorFeaturePresent(dot_product);
}

#else

int processor_runs(const struct kernels *path) {
    (void)path;
    return 0;
}

#endif
