// What the files of this folder give to fill.cpp. Everything here is compiled with AMX and AVX-512 flags: nothing
// inline may be shared with other folders.
#ifndef UNETQ_AMX_H
#define UNETQ_AMX_H

#include "../kernels.h"

namespace uq {

void uq_conv_w8a8_24x32__amx(const ConvTile& tile);

}  // namespace uq

#endif
