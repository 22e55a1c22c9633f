// What an x86 processor has and its operating system saves, by CPUID and XGETBV: zig's run-time library has no
// __builtin_cpu_supports.
#ifndef UNETQ_X86_FEATURES_H
#define UNETQ_X86_FEATURES_H

#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace uq {

enum X86Register { kEax, kEbx, kEcx, kEdx };

inline bool x86_bit(unsigned leaf, unsigned subleaf, X86Register which, unsigned bit) {
    unsigned words[4] = {};
    return __get_cpuid_count(leaf, subleaf, words, words + 1, words + 2, words + 3) && (words[which] >> bit & 1);
}

// Whether the operating system saves all register sets of mask: 0x6 AVX, 0xE6 AVX-512, 0x60000 AMX tiles.
inline bool x86_saves(unsigned mask) {
    if (!x86_bit(1, 0, kEcx, 27)) return false;  // OSXSAVE
    unsigned low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

inline bool x86_has_avx2() {
    return x86_saves(0x6) && x86_bit(7, 0, kEbx, 5);
}
inline bool x86_has_avxvnni() {
    return x86_has_avx2() && x86_bit(7, 1, kEax, 4);
}
inline bool x86_has_avx512() {  // F, DQ, BW and VL
    return x86_has_avx2() && x86_saves(0xE6) && x86_bit(7, 0, kEbx, 16) && x86_bit(7, 0, kEbx, 17) &&
           x86_bit(7, 0, kEbx, 30) && x86_bit(7, 0, kEbx, 31);
}
inline bool x86_has_avx512vnni() {
    return x86_has_avx512() && x86_bit(7, 0, kEcx, 11);
}

// Linux saves tiles (component 18) only for a process that asks: arch_prctl(ARCH_REQ_XCOMP_PERM, 18). It holds for all
// threads of it, and may be asked again.
inline bool x86_may_use_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}
inline bool x86_has_amx() {  // TILE and INT8, beside avx512vnni
    return x86_has_avx512vnni() && x86_saves(0x60000) && x86_bit(7, 0, kEdx, 24) && x86_bit(7, 0, kEdx, 25) &&
           x86_may_use_tiles();
}

}  // namespace uq

#endif
