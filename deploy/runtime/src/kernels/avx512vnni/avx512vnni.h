// What the files of this folder give to fill.cpp. Everything here is compiled with AVX-512 flags: nothing inline may
// be shared with other folders.
#ifndef UNETQ_AVX512VNNI_H
#define UNETQ_AVX512VNNI_H

#include "../kernels.h"

namespace uq {

void uq_conv_w8a8_24x16__avx512vnni(const ConvTile& tile);

}  // namespace uq

#endif
