// What the files of this folder give to fill.cpp. Everything here is compiled with +dotprod: nothing inline may be
// shared with other folders.
#ifndef UNETQ_DOTPROD_H
#define UNETQ_DOTPROD_H

#include "../kernels.h"

namespace uq {

void uq_conv_w8a8_6x16__dotprod(const ConvTile& tile);
void uq_interleave_g4__dotprod(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst);

}  // namespace uq

#endif
