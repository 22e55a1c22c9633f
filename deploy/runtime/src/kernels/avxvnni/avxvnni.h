// What the files of this folder give to fill.cpp. Everything here is compiled with -mavxvnni: nothing inline may be
// shared with other folders.
#ifndef UNETQ_AVXVNNI_H
#define UNETQ_AVXVNNI_H

#include "../kernels.h"

namespace uq {

void uq_conv_w8a8_6x16__avxvnni(const ConvTile& tile);

}  // namespace uq

#endif
