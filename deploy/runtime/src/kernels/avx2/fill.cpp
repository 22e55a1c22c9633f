#include "avx2.h"

namespace uq {

void uq_fill__avx2(Kernels* kernels) {
    kernels->name = "avx2";
    kernels->interleave_w8 = uq_interleave_w8__avx2;
    kernels->conv_w8a8 = uq_conv_w8a8n_6x16__avx2;
    kernels->conv_w16a16 = uq_conv_w16a16_6x16__avx2;
    kernels->conv_w32a32 = uq_conv_w32a32_6x16__avx2;
    kernels->narrow = true;
    kernels->epilogue_i32 = uq_epilogue_i32__avx2;
    kernels->epilogue_f32 = uq_epilogue_f32__avx2;
    kernels->quantize = uq_quantize__avx2;
    uq_fill_rows__avx2(kernels);
}

}  // namespace uq
