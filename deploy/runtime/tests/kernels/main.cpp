// Every kernel of every instruction set that this processor has, against the scalar one, to the bit.
//
//     kernels [--isa NAME] [--rounds N] [--seed N]
//
// prints a line for each kernel, and for a failure the seed, the shape and the first mismatches. Exit status 0: all
// agree; 1: some do not; 2: a wrong argument, or an instruction set that is not there.
#include <stdarg.h>
#include <stdlib.h>

#include "../../include/unetq.h"
#include "../../src/model.h"
#include "check.h"

unsigned total_failures = 0;

std::string text(const char* format, ...) {
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    return line;
}

void Report::mismatch(size_t at, double expected, double found, const char* what) {
    if (!bad_) ++failed_;
    bad_ = true;
    if (failed_ > 3 || ++shown_ > 4) return;
    printf("  %s %s, seed %llu, %s: %s[%zu] %.9g became %.9g\n", isa_, kernel_, static_cast<unsigned long long>(seed_),
           shape_.c_str(), what, at, expected, found);
}

Report::~Report() {
    printf("%-11s %-22s %5u cases, %u failed\n", isa_, kernel_, cases_, failed_);
    total_failures += failed_;
}

int main(int count, char** argument) {
    const char* only = nullptr;
    uint64_t seed = 1;
    uint32_t rounds = 60;
    for (int i = 1; i < count; i += 2) {
        const bool value = i + 1 < count;
        if (value && strcmp(argument[i], "--isa") == 0) {
            only = argument[i + 1];
        } else if (value && strcmp(argument[i], "--rounds") == 0) {
            rounds = static_cast<uint32_t>(strtoul(argument[i + 1], nullptr, 10));
        } else if (value && strcmp(argument[i], "--seed") == 0) {
            seed = strtoull(argument[i + 1], nullptr, 10);
        } else {
            fprintf(stderr, "usage: %s [--isa NAME] [--rounds N] [--seed N]\n", argument[0]);
            return 2;
        }
    }
    setvbuf(stdout, nullptr, _IOLBF, 0);  // a fault must not take what was told before
    uq::Kernels scalar = {}, kernels = {};
    if (uq::choose_kernels("scalar", &scalar) != UQ_OK) return 2;
    unsigned sets = 0;
    for (uint32_t i = 0; uq_available_isa(i); ++i) {
        const char* isa = uq_available_isa(i);
        if (only && strcmp(only, isa) != 0) continue;
        if (uq::choose_kernels(isa, &kernels) != UQ_OK) {
            fprintf(stderr, "%s\n", uq_last_detail());
            return 2;
        }
        ++sets;
        test_byte_convs(kernels, seed, rounds);
        test_bit_convs(kernels, seed, rounds);
        test_lookup_convs(kernels, seed, rounds);
        test_thresholds(kernels, seed, rounds);
        test_wide_convs(kernels, scalar, seed, rounds);
        test_winograd(kernels, scalar, seed, rounds);
        test_epilogues(kernels, scalar, seed, rounds);
        test_rows(kernels, scalar, seed, rounds);
    }
    if (!only) test_emulated_amx(seed, rounds);
    if (sets == 0) {
        uq::choose_kernels(only, &kernels);
        fprintf(stderr, "%s\n", uq_last_detail());
        return 2;
    }
    printf("%u instruction sets, %u failures\n", sets, total_failures);
    return total_failures != 0;
}
