// What the files of this folder give to fill.cpp. Everything here is compiled with AVX-512 flags: nothing inline may
// be shared with other folders.
#ifndef UNETQ_AVX512VNNI_H
#define UNETQ_AVX512VNNI_H

#include "../kernels.h"

namespace uq {

void uq_conv_w8a8_12x32__avx512vnni(const ConvTile& tile);
void uq_winograd_input__avx512vnni(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels,
                                   const uint8_t* offset, uint8_t* dst, size_t position_stride);
void uq_winograd_output__avx512vnni(const int32_t* sums, size_t position_stride, uint32_t columns, int32_t* row0,
                                    int32_t* row1);
void uq_epilogue_i32__avx512vnni(const int32_t* sums, size_t stride, uint32_t pixels, uint32_t channels,
                                 const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride);
void uq_epilogue_f32__avx512vnni(const float* sums, size_t stride, uint32_t pixels, uint32_t channels,
                                 const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride);
void uq_fill_bits__avx512vnni(Kernels* kernels);

}  // namespace uq

#endif
