#include "neon.h"

namespace uq {
namespace {

// Costs are counted instructions: for 1000 multiply-accumulates of a tile of 256 channels without its flushes, and for
// one flush of one output channel of one pixel.
const ByteConv kConvs[] = {
#if defined(__aarch64__)
    {"uq_conv_w8a8n_4x4__neon",
     uq_conv_w8a8n_4x4__neon,
     uq_interleave_g16__neon,
     16,
     true,
     16,
     {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7},
     158.0f,
     1.95f},
    {"uq_conv_w8a8n_3x4__neon",
     uq_conv_w8a8n_3x4__neon,
     uq_interleave_g16__neon,
     16,
     true,
     16,
     {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7},
     163.0f,
     1.45f},
    {"uq_conv_w8a8m_3x4__neon",
     uq_conv_w8a8m_3x4__neon,
     uq_interleave_g16__neon,
     16,
     true,
     8,
     {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
     102.0f,
     1.45f},
    {"uq_conv_w8a8w_4x4__neon",
     uq_conv_w8a8w_4x4__neon,
     uq_interleave_g16__neon,
     16,
     true,
     16,
     {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7},
     224.0f,
     0.0f},
    {"uq_conv_w8a8_4x4__neon", uq_conv_w8a8_4x4__neon, uq_interleave_g16__neon, 16, true, 32, {}, 287.0f, 0.0f},
#else
    {"uq_conv_w8a8n_3x4__neon",
     uq_conv_w8a8n_3x4__neon,
     uq_interleave_g8__neon,
     8,
     true,
     16,
     {0, 1, 2, 3, 4, 5, 6, 7},
     193.0f,
     2.3f},
    {"uq_conv_w8a8n_3x2__neon",
     uq_conv_w8a8n_3x2__neon,
     uq_interleave_g8__neon,
     8,
     true,
     16,
     {0, 1, 2, 3, 4, 5, 6, 7},
     226.0f,
     2.0f},
    {"uq_conv_w8a8m_3x2__neon",
     uq_conv_w8a8m_3x2__neon,
     uq_interleave_g16__neon,
     16,
     true,
     8,
     {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
     157.0f,
     2.0f},
#endif
};

}  // namespace

void uq_fill__neon(Kernels* kernels) {
    kernels->name = "neon";
    kernels->byte_convs = kConvs;
    kernels->byte_conv_count = sizeof kConvs / sizeof *kConvs;
    kernels->conv_w16a16 = uq_conv_w16a16_2x16__neon;
    kernels->conv_w32a32 = uq_conv_w32a32_2x16__neon;
    kernels->epilogue_i32 = uq_epilogue_i32__neon;
    kernels->epilogue_f32 = uq_epilogue_f32__neon;
    kernels->quantize = uq_quantize__neon;
    uq_fill_bits__neon(kernels);
#if defined(__aarch64__)
    uq_fill_lookup__neon(kernels);
#endif
    uq_fill_thresholds__neon(kernels);
    uq_fill_rows__neon(kernels);
    uq_fill_winograd__neon(kernels);
}

}  // namespace uq
