#include "dotprod.h"

namespace uq {
namespace {

// Costs are counted instructions (see neon/fill.cpp).
const ByteConv kConvs[] = {
    {"uq_conv_w8a8_6x16__dotprod", uq_conv_w8a8_6x16__dotprod, uq_interleave_g4__dotprod, 4, true, 32, {}, 76.0f, 0.0f},
};

}  // namespace

// Everything but the byte convolution is NEON's.
void uq_fill__dotprod(Kernels* kernels) {
    uq_fill__neon(kernels);
    kernels->name = "dotprod";
    kernels->byte_convs = kConvs;
    kernels->byte_conv_count = sizeof kConvs / sizeof *kConvs;
}

}  // namespace uq
