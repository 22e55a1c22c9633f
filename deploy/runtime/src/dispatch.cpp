// The one place where kernels are chosen.
#include <stdlib.h>

#include "model.h"

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

#if defined(__x86_64__)
// The compiler's check includes the operating system's: XGETBV says whether 256-bit registers are saved.
bool has_avx2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2");
}

bool has_avx512vnni() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif

// From the least to the best.
const Isa kIsas[] = {
    {"scalar", always, uq_fill__scalar},
#if defined(__x86_64__)
    {"avx2", has_avx2, uq_fill__avx2},
    {"avx512vnni", has_avx512vnni, uq_fill__avx512vnni},
#endif
};

const char* available_isa(uint32_t index) {
    for (const Isa& candidate : kIsas)
        if (candidate.available() && index-- == 0) return candidate.name;
    return nullptr;
}

}  // namespace

uq_status choose_kernels(const char* isa, Kernels* kernels) {
    if (!isa) isa = getenv("UNETQ_ISA");
    const Isa* chosen = nullptr;
    for (const Isa& candidate : kIsas) {
        bool wanted = isa && *isa ? strcmp(isa, candidate.name) == 0 : candidate.available();
        if (wanted) chosen = &candidate;
    }
    if (!chosen) {
        return fail(
            UQ_UNKNOWN_ISA,
            "instruction set \"%.40s\" is not in this library; it has scalar%s. Unset UNETQ_ISA to take the best.",
            isa ? isa : "", sizeof kIsas / sizeof *kIsas > 1 ? ", avx2 and avx512vnni" : "");
    }
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
