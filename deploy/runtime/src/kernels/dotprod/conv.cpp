// Byte convolution with sdot: tiles of 6 pixels x 16 output channels, steps of 4 input channels.
//
//     v0  - v23   sums of (pixel p, output channels 4q ... 4q + 3) in v(4p + q)
//     v24 - v29   four steps (16 codes) of the 6 pixels, of which sdot takes one by index
//     v30, v31    one step of eight output channels
// Four steps take 6 loads and 8 pairs of loads for 6 x 16 x 16 products.
#include <string.h>

#include "dotprod.h"

asm(R"(
.macro uq_step index
    ldp     q30, q31, [x16], #32
    sdot    v0.4s, v30.16b, v24.4b[\index]
    sdot    v4.4s, v30.16b, v25.4b[\index]
    sdot    v8.4s, v30.16b, v26.4b[\index]
    sdot    v12.4s, v30.16b, v27.4b[\index]
    sdot    v16.4s, v30.16b, v28.4b[\index]
    sdot    v20.4s, v30.16b, v29.4b[\index]
    sdot    v1.4s, v31.16b, v24.4b[\index]
    sdot    v5.4s, v31.16b, v25.4b[\index]
    sdot    v9.4s, v31.16b, v26.4b[\index]
    sdot    v13.4s, v31.16b, v27.4b[\index]
    sdot    v17.4s, v31.16b, v28.4b[\index]
    sdot    v21.4s, v31.16b, v29.4b[\index]
    ldp     q30, q31, [x16], #32
    sdot    v2.4s, v30.16b, v24.4b[\index]
    sdot    v6.4s, v30.16b, v25.4b[\index]
    sdot    v10.4s, v30.16b, v26.4b[\index]
    sdot    v14.4s, v30.16b, v27.4b[\index]
    sdot    v18.4s, v30.16b, v28.4b[\index]
    sdot    v22.4s, v30.16b, v29.4b[\index]
    sdot    v3.4s, v31.16b, v24.4b[\index]
    sdot    v7.4s, v31.16b, v25.4b[\index]
    sdot    v11.4s, v31.16b, v26.4b[\index]
    sdot    v15.4s, v31.16b, v27.4b[\index]
    sdot    v19.4s, v31.16b, v28.4b[\index]
    sdot    v23.4s, v31.16b, v29.4b[\index]
.endm

// A function of one TileRun (x0): all its groups of 6 pixels.
//     x0 rows   x1 pixel offsets   x2 pixel groups left   x3 tap offsets   x4, x5 first segment and end
//     x6 weights   x7 start or 0   x8 sums   x9 - x14 pixels   x15 segment, moving   x16 weights, moving
//     x17 steps left   x19 - x24 pixels, moving   x25, x26 spare
    .text
    .balign 16
    .hidden uq_tile_6x16__dotprod
    .global uq_tile_6x16__dotprod
    .type   uq_tile_6x16__dotprod, %function
uq_tile_6x16__dotprod:
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
    cbz     x7, 12f
    ldp     q0, q1, [x7]
    ldp     q2, q3, [x7, #32]
    ldp     q4, q5, [x7]
    ldp     q6, q7, [x7, #32]
    ldp     q8, q9, [x7]
    ldp     q10, q11, [x7, #32]
    ldp     q12, q13, [x7]
    ldp     q14, q15, [x7, #32]
    ldp     q16, q17, [x7]
    ldp     q18, q19, [x7, #32]
    ldp     q20, q21, [x7]
    ldp     q22, q23, [x7, #32]
    b       13f
12:
    ldp     q0, q1, [x8, #0]
    ldp     q2, q3, [x8, #32]
    ldp     q4, q5, [x8, #64]
    ldp     q6, q7, [x8, #96]
    ldp     q8, q9, [x8, #128]
    ldp     q10, q11, [x8, #160]
    ldp     q12, q13, [x8, #192]
    ldp     q14, q15, [x8, #224]
    ldp     q16, q17, [x8, #256]
    ldp     q18, q19, [x8, #288]
    ldp     q20, q21, [x8, #320]
    ldp     q22, q23, [x8, #352]
13: ldp     w25, w26, [x15], #8         // a segment: its tap, first step and number of steps
    ldr     w17, [x15], #8
    ldrsw   x25, [x3, w25, uxtw #2]
    add     x25, x25, w26, uxtw #2
    add     x19, x9, x25
    add     x20, x10, x25
    add     x21, x11, x25
    add     x22, x12, x25
    add     x23, x13, x25
    add     x24, x14, x25
    subs    w17, w17, #4
    b.lo    15f
14:
    ldr     q24, [x19], #16
    ldr     q25, [x20], #16
    ldr     q26, [x21], #16
    ldr     q27, [x22], #16
    ldr     q28, [x23], #16
    ldr     q29, [x24], #16
    uq_step 0
    uq_step 1
    uq_step 2
    uq_step 3
    subs    w17, w17, #4
    b.hs    14b
15: adds    w17, w17, #4
    b.eq    17f
16:
    ldr     s24, [x19], #4
    ldr     s25, [x20], #4
    ldr     s26, [x21], #4
    ldr     s27, [x22], #4
    ldr     s28, [x23], #4
    ldr     s29, [x24], #4
    uq_step 0
    subs    w17, w17, #1
    b.ne    16b
17: cmp     x15, x5
    b.ne    13b
    stp     q0, q1, [x8, #0]
    stp     q2, q3, [x8, #32]
    stp     q4, q5, [x8, #64]
    stp     q6, q7, [x8, #96]
    stp     q8, q9, [x8, #128]
    stp     q10, q11, [x8, #160]
    stp     q12, q13, [x8, #192]
    stp     q14, q15, [x8, #224]
    stp     q16, q17, [x8, #256]
    stp     q18, q19, [x8, #288]
    stp     q20, q21, [x8, #320]
    stp     q22, q23, [x8, #352]
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
    .size   uq_tile_6x16__dotprod, . - uq_tile_6x16__dotprod
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 6;
constexpr size_t kGroup = 4;

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

extern "C" void uq_tile_6x16__dotprod(const TileRun* run);

}  // namespace

void uq_conv_w8a8_6x16__dotprod(const ConvTile& tile) {
    if (tile.pixel_count == 0 || tile.segment_count == 0) return;
    const TileRun run = {tile.rows,        tile.pixel_offsets, (tile.pixel_count + kPixels - 1) / kPixels,
                         tile.tap_offsets, tile.segments,      tile.segments + tile.segment_count,
                         tile.weights,     tile.start,         tile.sums};
    uq_tile_6x16__dotprod(&run);
}

void uq_interleave_g4__dotprod(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst) {
    for (uint32_t s = 0; s < steps; ++s, rows += kGroup)
        for (uint32_t o = 0; o < kBlock; ++o, dst += kGroup) memcpy(dst, rows + o * row_stride, kGroup);
}

}  // namespace uq
