// The one place where kernels are chosen.
#include <stdio.h>
#include <stdlib.h>
#if defined(__aarch64__) || defined(__arm__)
#include <sys/auxv.h>
#endif

#include "model.h"
#if defined(__x86_64__)
#include "x86_features.h"
#endif

namespace uq {
namespace {

struct Isa {
    const char* name;
    bool (*available)();
    void (*fill)(Kernels*);
};

bool always() {
    return true;
}

#if defined(__aarch64__) || defined(__arm__)
// Bits of the kernel's hardware capabilities, by their numbers: a C library may be older than the processor.
constexpr unsigned long kHwcap = 16, kHwcap2 = 26;

bool has_capability(unsigned long word, unsigned bit) {
    return (getauxval(word) >> bit & 1) != 0;
}
#endif

#if defined(__aarch64__)
bool has_neon() {
    return has_capability(kHwcap, 1);
}
bool has_dotprod() {
    return has_neon() && has_capability(kHwcap, 20);
}
bool has_i8mm() {
    return has_dotprod() && has_capability(kHwcap2, 13);
}
#elif defined(__arm__)
bool has_neon() {
    return has_capability(kHwcap, 12);
}
#endif

// From the least to the best.
const Isa kIsas[] = {
    {"scalar", always, uq_fill__scalar},
#if defined(__x86_64__)
    {"avx2", x86_has_avx2, uq_fill__avx2},
    {"avxvnni", x86_has_avxvnni, uq_fill__avxvnni},
    {"avx512vnni", x86_has_avx512vnni, uq_fill__avx512vnni},
    {"amx", x86_has_amx, uq_fill__amx},
#elif defined(__aarch64__)
    {"neon", has_neon, uq_fill__neon},
    {"dotprod", has_dotprod, uq_fill__dotprod},
    {"i8mm", has_i8mm, uq_fill__i8mm},
#elif defined(__arm__)
    {"neon", has_neon, uq_fill__neon},
#endif
};

const char* available_isa(uint32_t index) {
    for (const Isa& candidate : kIsas)
        if (candidate.available() && index-- == 0) return candidate.name;
    return nullptr;
}

uq_status unknown_isa(const char* isa) {
    char names[128];
    size_t used = 0;
    for (const Isa& candidate : kIsas) {
        const int more = snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", candidate.name);
        if (more > 0) used += static_cast<size_t>(more);
        if (used >= sizeof names) break;
    }
    return fail(UQ_UNKNOWN_ISA,
                "instruction set \"%.40s\" is not in this library; it has %s. Unset UNETQ_ISA to take the best.", isa,
                names);
}

}  // namespace

uq_status choose_kernels(const char* isa, Kernels* kernels) {
    if (!isa) isa = getenv("UNETQ_ISA");
    const Isa* chosen = nullptr;
    for (const Isa& candidate : kIsas) {
        bool wanted = isa && *isa ? strcmp(isa, candidate.name) == 0 : candidate.available();
        if (wanted) chosen = &candidate;
    }
    if (!chosen) return unknown_isa(isa ? isa : "");
    if (!chosen->available()) {
        return fail(UQ_ISA_UNAVAILABLE,
                    "instruction set \"%s\": this processor does not have it. Unset UNETQ_ISA to take the best it has.",
                    chosen->name);
    }
    uq_fill__scalar(kernels);
    chosen->fill(kernels);
    return UQ_OK;
}

}  // namespace uq

const char* uq_available_isa(uint32_t index) {
    return uq::available_isa(index);
}
