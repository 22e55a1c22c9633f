#include "../avx2/avx2.h"
#include "avx512vnni.h"

namespace uq {

namespace {

const ByteConv kByteConvs[] = {
    {"uq_conv_w8a8_12x32__avx512vnni",
     uq_conv_w8a8_12x32__avx512vnni,
     uq_interleave_w8__avx2,
     4,
     false,
     32,
     {},
     1.95f,
     0,
     true},
};

}  // namespace

// Everything but the byte convolution is AVX2's.
void uq_fill__avx512vnni(Kernels* kernels) {
    uq_fill__avx2(kernels);
    kernels->name = "avx512vnni";
    kernels->winograd_input_cost = 10.5f;
    kernels->winograd_output_cost = 40;
    kernels->winograd_input = uq_winograd_input__avx512vnni;
    kernels->byte_convs = kByteConvs;
    kernels->byte_conv_count = sizeof kByteConvs / sizeof *kByteConvs;
}

}  // namespace uq
