// The AMX convolution over emulated tile registers: the kernel's own code, on any processor.
#define UNETQ_EMULATE_AMX
#define uq_conv_w8a8_24x32__amx uq_conv_w8a8_24x32__emulated
#include "../../src/kernels/amx/conv.cpp"
#undef uq_conv_w8a8_24x32__amx

#include "check.h"

namespace {

void interleave(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst) {
    for (uint32_t s = 0; s < steps; ++s)
        for (uint32_t o = 0; o < uq::kBlock; ++o, dst += 4) memcpy(dst, rows + o * row_stride + 4 * size_t{s}, 4);
}

}  // namespace

void test_emulated_amx(uint64_t seed, uint32_t rounds) {
    const uq::ByteConv conv = {
        "uq_conv_w8a8_24x32__amx", uq::uq_conv_w8a8_24x32__emulated, interleave, 4, false, 32, {}, 1, 0, true};
    uq::Kernels kernels = {};
    kernels.name = "emulated";
    kernels.byte_convs = &conv;
    kernels.byte_conv_count = 1;
    test_byte_convs(kernels, seed, rounds);
}
