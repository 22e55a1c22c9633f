#include "../avx2/avx2.h"
#include "amx.h"

namespace uq {

namespace {

// The cost is an estimate: an eighth of what vpdpbusd takes at the peak (3114 against 421 products a nanosecond, one
// core of a server that has both), a quarter with loads and configurations in between.
const ByteConv kByteConvs[] = {
    {"uq_conv_w8a8_24x32__amx", uq_conv_w8a8_24x32__amx, uq_interleave_w8__avx2, 4, false, 32, {}, 0.5f, 0, true},
};

}  // namespace

// Everything but the byte convolution is that of avx512vnni.
void uq_fill__amx(Kernels* kernels) {
    uq_fill__avx512vnni(kernels);
    kernels->name = "amx";
    kernels->byte_convs = kByteConvs;
    kernels->byte_conv_count = sizeof kByteConvs / sizeof *kByteConvs;
}

}  // namespace uq
