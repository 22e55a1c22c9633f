#include "avx2.h"

namespace uq {

namespace {

const ByteConv kByteConvs[] = {
    {"uq_conv_w8a8n_6x16__avx2",
     uq_conv_w8a8n_6x16__avx2,
     uq_interleave_w8__avx2,
     4,
     false,
     16,
     {0, 0, 1, 1},
     4.7f,
     0.055f},
};

}  // namespace

void uq_fill__avx2(Kernels* kernels) {
    kernels->name = "avx2";
    kernels->byte_convs = kByteConvs;
    kernels->byte_conv_count = sizeof kByteConvs / sizeof *kByteConvs;
    kernels->conv_w16a16 = uq_conv_w16a16_6x16__avx2;
    kernels->conv_w32a32 = uq_conv_w32a32_6x16__avx2;
    kernels->winograd_input_cost = 11;
    kernels->winograd_output_cost = 45;
    kernels->epilogue_i32 = uq_epilogue_i32__avx2;
    kernels->epilogue_f32 = uq_epilogue_f32__avx2;
    kernels->quantize = uq_quantize__avx2;
    uq_fill_bits__avx2(kernels);
    uq_fill_thresholds__avx2(kernels);
    uq_fill_rows__avx2(kernels);
    kernels->winograd_input = uq_winograd_input__avx2;
    kernels->winograd_output = uq_winograd_output__avx2;
}

}  // namespace uq
