// What the files of this folder give to fill.cpp. Armv8.0 and Armv7 share the folder: intrinsics serve both, and the
// inner loops written in assembly lie in files of their own, *_a64.cpp and *_a32.cpp.
#ifndef UNETQ_NEON_H
#define UNETQ_NEON_H

#include "../kernels.h"

namespace uq {

bool uq_is_straight__neon(const ConvTile& tile);  // one tap, and steps without a gap
#if defined(__aarch64__)
void uq_conv_w8a8n_4x4__neon(const ConvTile& tile);
void uq_conv_w8a8w_4x4__neon(const ConvTile& tile);
void uq_conv_w8a8_4x4__neon(const ConvTile& tile);
void uq_conv_w8a8n_3x4__neon(const ConvTile& tile);
void uq_conv_w8a8m_3x4__neon(const ConvTile& tile);
#else
void uq_conv_w8a8n_3x4__neon(const ConvTile& tile);
void uq_conv_w8a8n_3x2__neon(const ConvTile& tile);
void uq_conv_w8a8m_3x2__neon(const ConvTile& tile);
#endif
void uq_conv_w16a16_2x16__neon(const ConvTile& tile);
void uq_conv_w32a32_2x16__neon(const ConvTile& tile);
void uq_interleave_g8__neon(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst);
void uq_interleave_g16__neon(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst);
void uq_epilogue_i32__neon(const int32_t* sums, size_t stride, uint32_t pixels, uint32_t channels,
                           const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride);
void uq_epilogue_f32__neon(const float* sums, size_t stride, uint32_t pixels, uint32_t channels,
                           const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride);
void uq_quantize__neon(const float* src, size_t count, const Target& target, uint8_t* dst);
void uq_fill_bits__neon(Kernels* kernels);
void uq_fill_lookup__neon(Kernels* kernels);  // Armv8
void uq_fill_thresholds__neon(Kernels* kernels);
void uq_fill_rows__neon(Kernels* kernels);
void uq_fill_winograd__neon(Kernels* kernels);

}  // namespace uq

#endif
