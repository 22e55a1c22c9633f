// What the files of this folder give to fill.cpp. Everything here is compiled with AVX-512 flags: nothing inline may
// be shared with other folders.
#ifndef UNETQ_AVX512VNNI_H
#define UNETQ_AVX512VNNI_H

#include "../kernels.h"

namespace uq {

void uq_conv_w8a8_12x32__avx512vnni(const ConvTile& tile);
void uq_winograd_input__avx512vnni(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels,
                                   const uint8_t* offset, uint8_t* dst, size_t position_stride);

}  // namespace uq

#endif
