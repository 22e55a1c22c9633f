#include "avx512vnni.h"

namespace uq {

// Everything but the byte convolution is AVX2's.
void uq_fill__avx512vnni(Kernels* kernels) {
    uq_fill__avx2(kernels);
    kernels->name = "avx512vnni";
    kernels->conv_w8a8 = uq_conv_w8a8_24x16__avx512vnni;
    kernels->narrow = false;
}

}  // namespace uq
