#include "../avx2/avx2.h"
#include "avxvnni.h"

namespace uq {

namespace {

const ByteConv kByteConvs[] = {
    {"uq_conv_w8a8_6x16__avxvnni", uq_conv_w8a8_6x16__avxvnni, uq_interleave_w8__avx2, 4, false, 32, {}, 3.9f, 0},
};

}  // namespace

// Everything but the byte convolution is AVX2's.
void uq_fill__avxvnni(Kernels* kernels) {
    uq_fill__avx2(kernels);
    kernels->name = "avxvnni";
    kernels->byte_convs = kByteConvs;
    kernels->byte_conv_count = sizeof kByteConvs / sizeof *kByteConvs;
}

}  // namespace uq
