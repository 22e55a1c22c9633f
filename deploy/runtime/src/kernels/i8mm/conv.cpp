// Byte convolution with smmla: tiles of 6 pixels x 16 output channels, steps of 8 input channels.
//
//     v0  - v23   2 x 2 sums of (pixels 2r, 2r + 1; output channels 2c, 2c + 1) in v(8r + c)
//     v24 - v29   two steps of 3 pairs of pixels: v(24 + 2r) the first, v(25 + 2r) the second
//     v30, v31    one step of four output channels, and what is loaded to be paired
// Two steps take 6 loads, 6 zips and 8 pairs of loads for 6 x 16 x 16 products.
#include <string.h>

#include "i8mm.h"

asm(R"(
// One step on the pairs of pixels in registers a, b, c.
.macro uq_step a, b, c
    ldp     q30, q31, [x16], #32
    smmla   v0.4s, v\a\().16b, v30.16b
    smmla   v8.4s, v\b\().16b, v30.16b
    smmla   v16.4s, v\c\().16b, v30.16b
    smmla   v1.4s, v\a\().16b, v31.16b
    smmla   v9.4s, v\b\().16b, v31.16b
    smmla   v17.4s, v\c\().16b, v31.16b
    ldp     q30, q31, [x16], #32
    smmla   v2.4s, v\a\().16b, v30.16b
    smmla   v10.4s, v\b\().16b, v30.16b
    smmla   v18.4s, v\c\().16b, v30.16b
    smmla   v3.4s, v\a\().16b, v31.16b
    smmla   v11.4s, v\b\().16b, v31.16b
    smmla   v19.4s, v\c\().16b, v31.16b
    ldp     q30, q31, [x16], #32
    smmla   v4.4s, v\a\().16b, v30.16b
    smmla   v12.4s, v\b\().16b, v30.16b
    smmla   v20.4s, v\c\().16b, v30.16b
    smmla   v5.4s, v\a\().16b, v31.16b
    smmla   v13.4s, v\b\().16b, v31.16b
    smmla   v21.4s, v\c\().16b, v31.16b
    ldp     q30, q31, [x16], #32
    smmla   v6.4s, v\a\().16b, v30.16b
    smmla   v14.4s, v\b\().16b, v30.16b
    smmla   v22.4s, v\c\().16b, v30.16b
    smmla   v7.4s, v\a\().16b, v31.16b
    smmla   v15.4s, v\b\().16b, v31.16b
    smmla   v23.4s, v\c\().16b, v31.16b
.endm

// A function of one TileRun (x0): all its groups of 6 pixels.
//     x0 rows   x1 pixel offsets   x2 pixel groups left   x3 tap offsets   x4, x5 first segment and end
//     x6 weights   x7 start or 0   x8 sums   x9 - x14 pixels   x15 segment, moving   x16 weights, moving
//     x17 steps left   x19 - x24 pixels, moving   x25, x26 spare
    .text
    .balign 16
    .hidden uq_tile_6x16__i8mm
    .global uq_tile_6x16__i8mm
    .type   uq_tile_6x16__i8mm, %function
uq_tile_6x16__i8mm:
    stp     d8, d9, [sp, #-128]!
    stp     d10, d11, [sp, #16]
    stp     d12, d13, [sp, #32]
    stp     d14, d15, [sp, #48]
    stp     x19, x20, [sp, #64]
    stp     x21, x22, [sp, #80]
    stp     x23, x24, [sp, #96]
    stp     x25, x26, [sp, #112]
    ldp     x7, x8, [x0, #56]
    ldp     x5, x6, [x0, #40]
    ldp     x3, x4, [x0, #24]
    ldr     x2, [x0, #16]
    ldp     x0, x1, [x0]
11: ldp     w9, w10, [x1], #8           // the next 6 pixels
    ldp     w11, w12, [x1], #8
    ldp     w13, w14, [x1], #8
    add     x9, x9, x0
    add     x10, x10, x0
    add     x11, x11, x0
    add     x12, x12, x0
    add     x13, x13, x0
    add     x14, x14, x0
    mov     x15, x4
    mov     x16, x6
    mov     x25, #64                    // the sums begin with start (one for all pixels) or with themselves
    cmp     x7, #0
    csel    x25, x25, xzr, eq
    csel    x26, x8, x7, eq
    ldp     q0, q2, [x26, #0]
    ldp     q4, q6, [x26, #32]
    add     x26, x26, x25
    ldp     q1, q3, [x26, #0]
    ldp     q5, q7, [x26, #32]
    add     x26, x26, x25
    ldp     q8, q10, [x26, #0]
    ldp     q12, q14, [x26, #32]
    add     x26, x26, x25
    ldp     q9, q11, [x26, #0]
    ldp     q13, q15, [x26, #32]
    add     x26, x26, x25
    ldp     q16, q18, [x26, #0]
    ldp     q20, q22, [x26, #32]
    add     x26, x26, x25
    ldp     q17, q19, [x26, #0]
    ldp     q21, q23, [x26, #32]
    add     x26, x26, x25
    zip1    v30.2d, v0.2d, v1.2d
    zip2    v1.2d, v0.2d, v1.2d
    mov     v0.16b, v30.16b
    zip1    v30.2d, v2.2d, v3.2d
    zip2    v3.2d, v2.2d, v3.2d
    mov     v2.16b, v30.16b
    zip1    v30.2d, v4.2d, v5.2d
    zip2    v5.2d, v4.2d, v5.2d
    mov     v4.16b, v30.16b
    zip1    v30.2d, v6.2d, v7.2d
    zip2    v7.2d, v6.2d, v7.2d
    mov     v6.16b, v30.16b
    zip1    v30.2d, v8.2d, v9.2d
    zip2    v9.2d, v8.2d, v9.2d
    mov     v8.16b, v30.16b
    zip1    v30.2d, v10.2d, v11.2d
    zip2    v11.2d, v10.2d, v11.2d
    mov     v10.16b, v30.16b
    zip1    v30.2d, v12.2d, v13.2d
    zip2    v13.2d, v12.2d, v13.2d
    mov     v12.16b, v30.16b
    zip1    v30.2d, v14.2d, v15.2d
    zip2    v15.2d, v14.2d, v15.2d
    mov     v14.16b, v30.16b
    zip1    v30.2d, v16.2d, v17.2d
    zip2    v17.2d, v16.2d, v17.2d
    mov     v16.16b, v30.16b
    zip1    v30.2d, v18.2d, v19.2d
    zip2    v19.2d, v18.2d, v19.2d
    mov     v18.16b, v30.16b
    zip1    v30.2d, v20.2d, v21.2d
    zip2    v21.2d, v20.2d, v21.2d
    mov     v20.16b, v30.16b
    zip1    v30.2d, v22.2d, v23.2d
    zip2    v23.2d, v22.2d, v23.2d
    mov     v22.16b, v30.16b
13: ldp     w25, w26, [x15], #8         // a segment: its tap, first step and number of steps
    ldr     w17, [x15], #8
    ldrsw   x25, [x3, w25, uxtw #2]
    add     x25, x25, w26, uxtw #3
    add     x19, x9, x25
    add     x20, x10, x25
    add     x21, x11, x25
    add     x22, x12, x25
    add     x23, x13, x25
    add     x24, x14, x25
    subs    w17, w17, #2
    b.lo    15f
14:
    ldr     q30, [x19], #16
    ldr     q31, [x20], #16
    zip1    v24.2d, v30.2d, v31.2d
    zip2    v25.2d, v30.2d, v31.2d
    ldr     q30, [x21], #16
    ldr     q31, [x22], #16
    zip1    v26.2d, v30.2d, v31.2d
    zip2    v27.2d, v30.2d, v31.2d
    ldr     q30, [x23], #16
    ldr     q31, [x24], #16
    zip1    v28.2d, v30.2d, v31.2d
    zip2    v29.2d, v30.2d, v31.2d
    uq_step 24, 26, 28
    uq_step 25, 27, 29
    subs    w17, w17, #2
    b.hs    14b
15: tbz     w17, #0, 16f
    ldr     d30, [x19], #8
    ldr     d31, [x20], #8
    zip1    v24.2d, v30.2d, v31.2d
    ldr     d30, [x21], #8
    ldr     d31, [x22], #8
    zip1    v26.2d, v30.2d, v31.2d
    ldr     d30, [x23], #8
    ldr     d31, [x24], #8
    zip1    v28.2d, v30.2d, v31.2d
    uq_step 24, 26, 28
16: cmp     x15, x5
    b.ne    13b
    zip1    v30.2d, v0.2d, v1.2d
    zip2    v1.2d, v0.2d, v1.2d
    zip1    v31.2d, v2.2d, v3.2d
    zip2    v3.2d, v2.2d, v3.2d
    stp     q30, q31, [x8, #0]
    stp     q1, q3, [x8, #64]
    zip1    v30.2d, v4.2d, v5.2d
    zip2    v5.2d, v4.2d, v5.2d
    zip1    v31.2d, v6.2d, v7.2d
    zip2    v7.2d, v6.2d, v7.2d
    stp     q30, q31, [x8, #32]
    stp     q5, q7, [x8, #96]
    zip1    v30.2d, v8.2d, v9.2d
    zip2    v9.2d, v8.2d, v9.2d
    zip1    v31.2d, v10.2d, v11.2d
    zip2    v11.2d, v10.2d, v11.2d
    stp     q30, q31, [x8, #128]
    stp     q9, q11, [x8, #192]
    zip1    v30.2d, v12.2d, v13.2d
    zip2    v13.2d, v12.2d, v13.2d
    zip1    v31.2d, v14.2d, v15.2d
    zip2    v15.2d, v14.2d, v15.2d
    stp     q30, q31, [x8, #160]
    stp     q13, q15, [x8, #224]
    zip1    v30.2d, v16.2d, v17.2d
    zip2    v17.2d, v16.2d, v17.2d
    zip1    v31.2d, v18.2d, v19.2d
    zip2    v19.2d, v18.2d, v19.2d
    stp     q30, q31, [x8, #256]
    stp     q17, q19, [x8, #320]
    zip1    v30.2d, v20.2d, v21.2d
    zip2    v21.2d, v20.2d, v21.2d
    zip1    v31.2d, v22.2d, v23.2d
    zip2    v23.2d, v22.2d, v23.2d
    stp     q30, q31, [x8, #288]
    stp     q21, q23, [x8, #352]
    add     x8, x8, #384
    subs    x2, x2, #1
    b.ne    11b
    ldp     d10, d11, [sp, #16]
    ldp     d12, d13, [sp, #32]
    ldp     d14, d15, [sp, #48]
    ldp     x19, x20, [sp, #64]
    ldp     x21, x22, [sp, #80]
    ldp     x23, x24, [sp, #96]
    ldp     x25, x26, [sp, #112]
    ldp     d8, d9, [sp], #128
    ret
    .size   uq_tile_6x16__i8mm, . - uq_tile_6x16__i8mm
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 6;
constexpr size_t kGroup = 8;

// What the assembly above reads.
struct TileRun {
    const uint8_t* rows;
    const uint32_t* pixel_offsets;
    uint64_t pixel_groups;
    const int32_t* tap_offsets;
    const Segment* segments;
    const Segment* end;
    const void* weights;
    const int32_t* start;
    void* sums;
};
static_assert(sizeof(TileRun) == 72 && sizeof(Segment) == 16, "the assembly has these offsets in it");

extern "C" void uq_tile_6x16__i8mm(const TileRun* run);

}  // namespace

void uq_conv_w8a8_6x16__i8mm(const ConvTile& tile) {
    if (tile.pixel_count == 0 || tile.segment_count == 0) return;
    const TileRun run = {tile.rows,        tile.pixel_offsets, (tile.pixel_count + kPixels - 1) / kPixels,
                         tile.tap_offsets, tile.segments,      tile.segments + tile.segment_count,
                         tile.weights,     tile.start,         tile.sums};
    uq_tile_6x16__i8mm(&run);
}

void uq_interleave_g8__i8mm(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst) {
    for (uint32_t s = 0; s < steps; ++s, rows += kGroup)
        for (uint32_t o = 0; o < kBlock; ++o, dst += kGroup) memcpy(dst, rows + o * row_stride, kGroup);
}

}  // namespace uq
