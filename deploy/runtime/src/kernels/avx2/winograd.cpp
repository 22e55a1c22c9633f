// The input transform, 32 channels at a time.
#include <string.h>

#include "avx2.h"

namespace uq {
namespace {

constexpr uint32_t kWidest = 32;

#include "../winograd_lanes.inc"

}  // namespace

void uq_winograd_input__avx2(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels, const uint8_t* offset,
                             uint8_t* dst, size_t position_stride) {
    transform_input(rows, tiles, channels, offset, dst, position_stride);
}

}  // namespace uq
