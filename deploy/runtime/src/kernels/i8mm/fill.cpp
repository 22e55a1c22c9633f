#include "i8mm.h"

namespace uq {
namespace {

// Costs are counted instructions (see neon/fill.cpp).
const ByteConv kConvs[] = {
    {"uq_conv_w8a8_6x16__i8mm", uq_conv_w8a8_6x16__i8mm, uq_interleave_g8__i8mm, 8, true, 32, {}, 48.0f, 0.0f},
};

}  // namespace

// Everything but the byte convolution is NEON's.
void uq_fill__i8mm(Kernels* kernels) {
    uq_fill__neon(kernels);
    kernels->name = "i8mm";
    kernels->byte_convs = kConvs;
    kernels->byte_conv_count = sizeof kConvs / sizeof *kConvs;
}

}  // namespace uq
