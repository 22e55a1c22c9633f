// What the files of this folder give to fill.cpp. Everything here is compiled with -mavx2: nothing inline may be
// shared with other folders.
#ifndef UNETQ_AVX2_H
#define UNETQ_AVX2_H

#include "../kernels.h"

namespace uq {

void uq_conv_w8a8n_6x16__avx2(const ConvTile& tile);
void uq_conv_w16a16_6x16__avx2(const ConvTile& tile);
void uq_conv_w32a32_6x16__avx2(const ConvTile& tile);
void uq_interleave_w8__avx2(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst);
void uq_epilogue_i32__avx2(const int32_t* sums, size_t stride, uint32_t pixels, uint32_t channels,
                           const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride);
void uq_epilogue_f32__avx2(const float* sums, size_t stride, uint32_t pixels, uint32_t channels,
                           const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride);
void uq_quantize__avx2(const float* src, size_t count, const Target& target, uint8_t* dst);
void uq_winograd_input__avx2(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels, const uint8_t* offset,
                             uint8_t* dst, size_t position_stride);
void uq_load_codes__avx2(const PackedRow& row, uint8_t flip, uint8_t shift, uint8_t* dst, size_t dst_stride);
void uq_store_codes__avx2(const uint8_t* src, size_t src_stride, const PackedRow& row);
void uq_winograd_output__avx2(const int32_t* sums, size_t position_stride, uint32_t columns, int32_t* row0,
                              int32_t* row1);
void uq_fill_bits__avx2(Kernels* kernels);
void uq_fill_thresholds__avx2(Kernels* kernels);
void uq_fill_rows__avx2(Kernels* kernels);

}  // namespace uq

#endif
