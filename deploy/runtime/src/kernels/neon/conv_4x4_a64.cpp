// Byte convolution on Armv8.0 in int16 lanes for weights that seldom need a flush: tiles of 4 pixels x 4 output
// channels, steps of 16 input channels. conv_narrow_a64.cpp says what the lanes are.
//
//     v0  - v15   narrow lanes of (output channel j, pixel i) in v(4j + i)
//     v16 - v23   two steps (32 codes) of the 4 pixels
//     v24 - v31   two steps of four output channels
// Two steps take 4 + 4 pairs of loads for 4 x 4 x 32 products. The int32 lanes have no registers of their own: a flush
// takes those of codes and weights, and puts the lanes onto the stack.
#if defined(__aarch64__)

#include <string.h>

#include "neon.h"

asm(R"(
// Two output channels (weights in wa, wb; lanes from oc on) on the pixels a, b, c, d.
.macro uq_half_4x4 op, wa, wb, a, b, c, d, l0, l1, l2, l3, l4, l5, l6, l7
    \op     v\l0\().8h, v\wa\().8b, v\a\().8b
    \op     v\l1\().8h, v\wa\().8b, v\b\().8b
    \op     v\l2\().8h, v\wa\().8b, v\c\().8b
    \op     v\l3\().8h, v\wa\().8b, v\d\().8b
    \op     v\l4\().8h, v\wb\().8b, v\a\().8b
    \op     v\l5\().8h, v\wb\().8b, v\b\().8b
    \op     v\l6\().8h, v\wb\().8b, v\c\().8b
    \op     v\l7\().8h, v\wb\().8b, v\d\().8b
    smlal2  v\l0\().8h, v\wa\().16b, v\a\().16b
    smlal2  v\l1\().8h, v\wa\().16b, v\b\().16b
    smlal2  v\l2\().8h, v\wa\().16b, v\c\().16b
    smlal2  v\l3\().8h, v\wa\().16b, v\d\().16b
    smlal2  v\l4\().8h, v\wb\().16b, v\a\().16b
    smlal2  v\l5\().8h, v\wb\().16b, v\b\().16b
    smlal2  v\l6\().8h, v\wb\().16b, v\c\().16b
    smlal2  v\l7\().8h, v\wb\().16b, v\d\().16b
.endm

// op begins lanes (smull) or goes on with them (smlal).
.macro uq_one_4x4 op
    ldr     q16, [x22], #16
    ldr     q18, [x23], #16
    ldr     q20, [x24], #16
    ldr     q22, [x25], #16
    ldp     q24, q25, [x16], #32
    ldp     q26, q27, [x16], #224
    uq_half_4x4 \op, 24, 25, 16, 18, 20, 22, 0, 1, 2, 3, 4, 5, 6, 7
    uq_half_4x4 \op, 26, 27, 16, 18, 20, 22, 8, 9, 10, 11, 12, 13, 14, 15
.endm

.macro uq_two_4x4 op
    ldp     q24, q25, [x16], #32
    ldp     q16, q17, [x22], #32
    ldp     q18, q19, [x23], #32
    ldp     q20, q21, [x24], #32
    ldp     q22, q23, [x25], #32
    ldp     q26, q27, [x16], #224
    uq_half_4x4 \op, 24, 25, 16, 18, 20, 22, 0, 1, 2, 3, 4, 5, 6, 7
    ldp     q28, q29, [x16], #32
    uq_half_4x4 \op, 26, 27, 16, 18, 20, 22, 8, 9, 10, 11, 12, 13, 14, 15
    ldp     q30, q31, [x16], #224
    uq_half_4x4 smlal, 28, 29, 17, 19, 21, 23, 0, 1, 2, 3, 4, 5, 6, 7
    uq_half_4x4 smlal, 30, 31, 17, 19, 21, 23, 8, 9, 10, 11, 12, 13, 14, 15
.endm

// w17 steps that begin new lanes, an odd one first.
.macro uq_segment_4x4
    tbz     w17, #0, 91f
    uq_one_4x4 smull
    subs    w17, w17, #1
    b.ne    92f
    b       93f
91: uq_two_4x4 smull
    subs    w17, w17, #2
    b.eq    93f
92: uq_two_4x4 smlal
    subs    w17, w17, #2
    b.ne    92b
93:
.endm

// Narrow lanes to the int32 lanes v16 - v31, which they begin (saddlp) or are added to (sadalp).
.macro uq_widen_4x4 op
    \op  v16.4s, v0.8h
    \op  v17.4s, v1.8h
    \op  v18.4s, v2.8h
    \op  v19.4s, v3.8h
    \op  v20.4s, v4.8h
    \op  v21.4s, v5.8h
    \op  v22.4s, v6.8h
    \op  v23.4s, v7.8h
    \op  v24.4s, v8.8h
    \op  v25.4s, v9.8h
    \op  v26.4s, v10.8h
    \op  v27.4s, v11.8h
    \op  v28.4s, v12.8h
    \op  v29.4s, v13.8h
    \op  v30.4s, v14.8h
    \op  v31.4s, v15.8h
.endm

// The int32 lanes from the stack (ld1), and back (st1).
.macro uq_stack_4x4 op
    mov     x21, sp
    \op     {v16.4s, v17.4s, v18.4s, v19.4s}, [x21], #64
    \op     {v20.4s, v21.4s, v22.4s, v23.4s}, [x21], #64
    \op     {v24.4s, v25.4s, v26.4s, v27.4s}, [x21], #64
    \op     {v28.4s, v29.4s, v30.4s, v31.4s}, [x21]
.endm

// A function of one TileRun (x0): all its pixel groups, and the 4 groups of output channels of each.
//     x0 rows   x1 pixel offsets   x2 pixel groups left   x3 tap offsets   x4, x5 first segment and end
//     x6 weights   x7 [4][16] that the sums begin with, or 0: those at x8   x8 sums   x9 - x12 pixels (taps)
//     x13, x14 bytes of a pixel, and of weights, that a tile has gone through (straight)   x15 segment, moving
//     x16 weights, moving   x17 steps left   x19 what the sums begin with, moving   x20 groups of output channels left
//     x21, x26 spare   x22 - x25 pixels, moving
.macro uq_begin_4x4 name, a, b, c, d
    .text
    .balign 16
    .hidden \name
    .global \name
    .type   \name, %function
\name:
    stp     d8, d9, [sp, #-128]!
    stp     d10, d11, [sp, #16]
    stp     d12, d13, [sp, #32]
    stp     d14, d15, [sp, #48]
    stp     x19, x20, [sp, #64]
    stp     x21, x22, [sp, #80]
    stp     x23, x24, [sp, #96]
    stp     x25, x26, [sp, #112]
    sub     sp, sp, #256
    ldp     x13, x14, [x0, #72]
    ldp     x7, x8, [x0, #56]
    ldp     x5, x6, [x0, #40]
    ldp     x3, x4, [x0, #24]
    ldr     x2, [x0, #16]
    ldp     x0, x1, [x0]
11: ldp     w\a, w\b, [x1], #8           // the next 4 pixels
    ldp     w\c, w\d, [x1], #8
    add     x\a, x\a, x0
    add     x\b, x\b, x0
    add     x\c, x\c, x0
    add     x\d, x\d, x0
    cmp     x7, #0
    csel    x19, x8, x7, eq
    mov     x16, x6
    mov     w20, #4
.endm

// Adds the lanes up and stores.
.macro uq_reduce_4x4
    ldr     q1, [x19, #64]
    ldr     q2, [x19, #128]
    ldr     q3, [x19, #192]
    ldr     q0, [x19], #16
    addp    v16.4s, v16.4s, v20.4s
    addp    v17.4s, v17.4s, v21.4s
    addp    v18.4s, v18.4s, v22.4s
    addp    v19.4s, v19.4s, v23.4s
    addp    v24.4s, v24.4s, v28.4s
    addp    v25.4s, v25.4s, v29.4s
    addp    v26.4s, v26.4s, v30.4s
    addp    v27.4s, v27.4s, v31.4s
    addp    v16.4s, v16.4s, v24.4s
    addp    v17.4s, v17.4s, v25.4s
    addp    v18.4s, v18.4s, v26.4s
    addp    v19.4s, v19.4s, v27.4s
    add     v0.4s, v0.4s, v16.4s
    add     v1.4s, v1.4s, v17.4s
    add     v2.4s, v2.4s, v18.4s
    add     v3.4s, v3.4s, v19.4s
    str     q1, [x8, #64]
    str     q2, [x8, #128]
    str     q3, [x8, #192]
    str     q0, [x8], #16
.endm

.macro uq_end_4x4 name
    add     x8, x8, #192
    subs    x2, x2, #1
    b.ne    11b
    add     sp, sp, #256
    ldp     d10, d11, [sp, #16]
    ldp     d12, d13, [sp, #32]
    ldp     d14, d15, [sp, #48]
    ldp     x19, x20, [sp, #64]
    ldp     x21, x22, [sp, #80]
    ldp     x23, x24, [sp, #96]
    ldp     x25, x26, [sp, #112]
    ldp     d8, d9, [sp], #128
    ret
    .size   \name, . - \name
.endm

// One tap, and steps without a gap: the pixels simply go on, and every segment may end with a flush.
    uq_begin_4x4 uq_tile_4x4_straight__neon, 22, 23, 24, 25
12: ldr     w17, [x4, #8]
    add     x15, x4, #16
    uq_segment_4x4
    uq_widen_4x4 saddlp
    cmp     x15, x5
    b.eq    15f
14: uq_stack_4x4 st1
    ldr     w17, [x15, #8]
    add     x15, x15, #16
    uq_segment_4x4
    uq_stack_4x4 ld1
    uq_widen_4x4 sadalp
    cmp     x15, x5
    b.ne    14b
15: uq_reduce_4x4
    sub     x22, x22, x13
    sub     x23, x23, x13
    sub     x24, x24, x13
    sub     x25, x25, x13
    sub     x16, x16, x14
    subs    w20, w20, #1
    b.ne    12b
    uq_end_4x4 uq_tile_4x4_straight__neon

// The pixels at a segment's tap, and its number of steps in w17, its flush in w26.
.macro uq_address_4x4
    ldp     w21, w22, [x15], #8
    ldp     w17, w26, [x15], #8
    ldrsw   x21, [x3, w21, uxtw #2]
    add     x25, x21, w22, uxtw #4
    add     x22, x9, x25
    add     x23, x10, x25
    add     x24, x11, x25
    add     x25, x12, x25
.endm

// Any taps; lanes go on over segments that do not flush.
    uq_begin_4x4 uq_tile_4x4_taps__neon, 9, 10, 11, 12
12: mov     x15, x4
    movi    v16.4s, #0
    movi    v17.4s, #0
    stp     q16, q17, [sp, #0]
    stp     q16, q17, [sp, #32]
    stp     q16, q17, [sp, #64]
    stp     q16, q17, [sp, #96]
    stp     q16, q17, [sp, #128]
    stp     q16, q17, [sp, #160]
    stp     q16, q17, [sp, #192]
    stp     q16, q17, [sp, #224]
    b       13f
19: uq_stack_4x4 st1
13: uq_address_4x4
    uq_segment_4x4
    b       15f
14: uq_two_4x4 smlal
    subs    w17, w17, #2
    b.ne    14b
15: cbnz    w26, 16f
    cmp     x15, x5
    b.eq    16f
    uq_address_4x4
    tbz     w17, #0, 14b
    uq_one_4x4 smlal
    subs    w17, w17, #1
    b.ne    14b
    b       15b
16: uq_stack_4x4 ld1
    uq_widen_4x4 sadalp
    cmp     x15, x5
    b.ne    19b
    uq_reduce_4x4
    sub     x16, x16, x14
    subs    w20, w20, #1
    b.ne    12b
    uq_end_4x4 uq_tile_4x4_taps__neon
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 4;
constexpr uint32_t kGroup = 16;
constexpr size_t kColumn = 4 * kGroup;  // bytes of weights from four output channels to the next

// What the assembly above reads.
struct TileRun {
    const uint8_t* rows;
    const uint32_t* pixel_offsets;
    uint64_t pixel_groups;
    const int32_t* tap_offsets;
    const Segment* segments;
    const Segment* end;
    const void* weights;
    const int32_t* start;  // [4][16], or null
    void* sums;
    uint64_t pixel_bytes;
    uint64_t weight_bytes;
};
static_assert(sizeof(TileRun) == 88 && sizeof(Segment) == 16, "the assembly has these offsets in it");

extern "C" {
void uq_tile_4x4_straight__neon(const TileRun* run);
void uq_tile_4x4_taps__neon(const TileRun* run);
}

}  // namespace

void uq_conv_w8a8n_4x4__neon(const ConvTile& tile) {
    if (tile.pixel_count == 0 || tile.segment_count == 0) return;
    int32_t start[kPixels][kBlock];
    if (tile.start)
        for (auto& row : start) memcpy(row, tile.start, sizeof row);
    size_t steps = 0;
    for (uint32_t s = 0; s < tile.segment_count; ++s) steps += tile.segments[s].step_count;
    TileRun run = {tile.rows,
                   tile.pixel_offsets,
                   (tile.pixel_count + kPixels - 1) / kPixels,
                   tile.tap_offsets,
                   tile.segments,
                   tile.segments + tile.segment_count,
                   tile.weights,
                   tile.start ? start[0] : nullptr,
                   tile.sums,
                   steps * kGroup,
                   steps * kGroup * kBlock - kColumn};
    if (!uq_is_straight__neon(tile)) return uq_tile_4x4_taps__neon(&run);
    run.rows += tile.tap_offsets[tile.segments[0].tap] + static_cast<ptrdiff_t>(tile.segments[0].first_step) * kGroup;
    uq_tile_4x4_straight__neon(&run);
}

}  // namespace uq

#endif
