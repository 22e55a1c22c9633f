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

// Everything else is AVX2's.
void uq_fill__avx512vnni(Kernels* kernels) {
    uq_fill__avx2(kernels);
    uq_fill_bits__avx512vnni(kernels);
    kernels->name = "avx512vnni";
    kernels->winograd_input_cost = 10.5f;
    kernels->winograd_output_cost = 20;
    kernels->winograd_input = uq_winograd_input__avx512vnni;
    kernels->winograd_output = uq_winograd_output__avx512vnni;
    kernels->epilogue_i32 = uq_epilogue_i32__avx512vnni;
    kernels->epilogue_f32 = uq_epilogue_f32__avx512vnni;
    kernels->byte_convs = kByteConvs;
    kernels->byte_conv_count = sizeof kByteConvs / sizeof *kByteConvs;
}

}  // namespace uq
