// What the files of this folder give to fill.cpp. Everything here is compiled with +dotprod+i8mm: nothing inline may be
// shared with other folders.
#ifndef UNETQ_I8MM_H
#define UNETQ_I8MM_H

#include "../kernels.h"

namespace uq {

void uq_conv_w8a8_6x16__i8mm(const ConvTile& tile);
void uq_interleave_g8__i8mm(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst);

}  // namespace uq

#endif
