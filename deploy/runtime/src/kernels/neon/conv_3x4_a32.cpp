// Byte convolution on Armv7 in int16 lanes for weights that seldom need a flush: tiles of 3 pixels x 4 output channels,
// steps of 8 input channels. conv_narrow_a32.cpp says what the lanes are.
//
//     q0  - q11   narrow lanes of (output channel j, pixel i) in q(3j + i)
//     q12 - q14   two steps (16 codes) of the 3 pixels
//     q15         one step of two output channels
// The int32 lanes have no registers of their own: a flush puts them onto the stack.
#if defined(__arm__)

#include <string.h>

#include "neon.h"

asm(R"(
    .syntax unified
    .fpu    neon
    .arm

// One step of 4 output channels on the pixels in d registers a, b, c. op begins lanes or goes on with them.
.macro uq_step_3x4 op, a, b, c
    vld1.8  {d30, d31}, [r6]!
    \op     q0, d30, d\a
    \op     q1, d30, d\b
    \op     q2, d30, d\c
    \op     q3, d31, d\a
    \op     q4, d31, d\b
    \op     q5, d31, d\c
    vld1.8  {d30, d31}, [r6], r9
    \op     q6, d30, d\a
    \op     q7, d30, d\b
    \op     q8, d30, d\c
    \op     q9, d31, d\a
    \op     q10, d31, d\b
    \op     q11, d31, d\c
.endm

.macro uq_one_3x4 op
    vld1.8  {d24}, [r3]!
    vld1.8  {d26}, [r4]!
    vld1.8  {d28}, [r5]!
    uq_step_3x4 \op, 24, 26, 28
.endm

.macro uq_two_3x4 op
    vld1.8  {d24, d25}, [r3]!
    vld1.8  {d26, d27}, [r4]!
    vld1.8  {d28, d29}, [r5]!
    uq_step_3x4 \op, 24, 26, 28
    uq_step_3x4 vmlal.s8, 25, 27, 29
.endm

// r8 steps that begin new lanes, an odd one first.
.macro uq_segment_3x4
    tst     r8, #1
    beq     91f
    uq_one_3x4 vmull.s8
    subs    r8, r8, #1
    bne     92f
    b       93f
91: uq_two_3x4 vmull.s8
    subs    r8, r8, #2
    beq     93f
92: uq_two_3x4 vmlal.s8
    subs    r8, r8, #2
    bne     92b
93:
.endm

// Narrow lanes to int32 lanes in their place.
.macro uq_widen_3x4
    vpaddl.s16 q0, q0
    vpaddl.s16 q1, q1
    vpaddl.s16 q2, q2
    vpaddl.s16 q3, q3
    vpaddl.s16 q4, q4
    vpaddl.s16 q5, q5
    vpaddl.s16 q6, q6
    vpaddl.s16 q7, q7
    vpaddl.s16 q8, q8
    vpaddl.s16 q9, q9
    vpaddl.s16 q10, q10
    vpaddl.s16 q11, q11
.endm

// Those on the stack are added to them.
.macro uq_unstack_3x4
    mov     r8, sp
    vldm    r8!, {d24-d31}
    vadd.i32 q0, q0, q12
    vadd.i32 q1, q1, q13
    vadd.i32 q2, q2, q14
    vadd.i32 q3, q3, q15
    vldm    r8!, {d24-d31}
    vadd.i32 q4, q4, q12
    vadd.i32 q5, q5, q13
    vadd.i32 q6, q6, q14
    vadd.i32 q7, q7, q15
    vldm    r8, {d24-d31}
    vadd.i32 q8, q8, q12
    vadd.i32 q9, q9, q13
    vadd.i32 q10, q10, q14
    vadd.i32 q11, q11, q15
.endm

.macro uq_stack_3x4
    mov     r8, sp
    vstm    r8!, {d0-d15}
    vstm    r8, {d16-d23}
.endm

// Narrow lanes are added to those on the stack.
.macro uq_flush_3x4
    mov     r8, sp
    vldm    r8, {d24-d31}
    vpadal.s16 q12, q0
    vpadal.s16 q13, q1
    vpadal.s16 q14, q2
    vpadal.s16 q15, q3
    vstm    r8!, {d24-d31}
    vldm    r8, {d24-d31}
    vpadal.s16 q12, q4
    vpadal.s16 q13, q5
    vpadal.s16 q14, q6
    vpadal.s16 q15, q7
    vstm    r8!, {d24-d31}
    vldm    r8, {d24-d31}
    vpadal.s16 q12, q8
    vpadal.s16 q13, q9
    vpadal.s16 q14, q10
    vpadal.s16 q15, q11
    vstm    r8!, {d24-d31}
.endm

// A function of one TileRun (r0): all its pixel groups, and the 4 groups of output channels of each.
//     r0 the TileRun   r1 [3][16] that the sums begin with, moving   r2 groups left   r3 - r5 pixels, moving
//     r6 weights, moving   r7 segment, moving   r8 steps left   r9 from two output channels to the next step
//     r10 end of the segments   r11 bytes of weights that a tile has gone through   r12 sums
//     lr bytes of a pixel (straight), flush (taps)
.macro uq_begin_3x4 name
    .text
    .balign 16
    .hidden \name
    .global \name
    .type   \name, %function
\name:
    push    {r4-r11, lr}
    vpush   {d8-d15}
    sub     sp, sp, #192
    ldr     r10, [r0, #20]
    ldr     r11, [r0, #40]
    ldr     r12, [r0, #32]
    mov     r9, #112
11: ldr     r6, [r0, #4]                // the next 3 pixels
    ldr     r7, [r0, #0]
    ldm     r6!, {r3, r4, r5}
    str     r6, [r0, #4]
    add     r3, r3, r7
    add     r4, r4, r7
    add     r5, r5, r7
    ldr     r1, [r0, #28]
    ldr     r6, [r0, #24]
    cmp     r1, #0
    moveq   r1, r12
    mov     r2, #4
.endm

// Adds the lanes up and stores. The sum of lanes of q(n) is that of its halves, d(2n) and d(2n + 1).
.macro uq_reduce_3x4
    mov     r7, #64
    mov     r8, r1
    vpadd.i32 d0, d0, d1
    vpadd.i32 d2, d2, d3
    vpadd.i32 d4, d4, d5
    vpadd.i32 d6, d6, d7
    vpadd.i32 d8, d8, d9
    vpadd.i32 d10, d10, d11
    vpadd.i32 d12, d12, d13
    vpadd.i32 d14, d14, d15
    vpadd.i32 d16, d16, d17
    vpadd.i32 d18, d18, d19
    vpadd.i32 d20, d20, d21
    vpadd.i32 d22, d22, d23
    vpadd.i32 d24, d0, d6
    vpadd.i32 d25, d12, d18
    vpadd.i32 d26, d2, d8
    vpadd.i32 d27, d14, d20
    vpadd.i32 d28, d4, d10
    vpadd.i32 d29, d16, d22
    vld1.32 {d0, d1}, [r8], r7
    vld1.32 {d2, d3}, [r8], r7
    vld1.32 {d4, d5}, [r8], r7
    mov     r8, r12
    vadd.i32 q0, q0, q12
    vadd.i32 q1, q1, q13
    vadd.i32 q2, q2, q14
    vst1.32 {d0, d1}, [r8], r7
    vst1.32 {d2, d3}, [r8], r7
    vst1.32 {d4, d5}, [r8], r7
    add     r1, r1, #16
    add     r12, r12, #16
.endm

.macro uq_end_3x4 name
    add     r12, r12, #128
    ldr     r6, [r0, #8]
    subs    r6, r6, #1
    str     r6, [r0, #8]
    bne     11b
    add     sp, sp, #192
    vpop    {d8-d15}
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

// One tap, and steps without a gap: the pixels simply go on, and every segment may end with a flush.
    uq_begin_3x4 uq_tile_3x4_straight__neon
    ldr     lr, [r0, #36]
12: ldr     r7, [r0, #16]
    ldr     r8, [r7, #8]
    add     r7, r7, #16
    uq_segment_3x4
    uq_widen_3x4
    cmp     r7, r10
    beq     15f
    uq_stack_3x4
    b       14f
13: uq_flush_3x4
14: ldr     r8, [r7, #8]
    add     r7, r7, #16
    uq_segment_3x4
    cmp     r7, r10
    bne     13b
    uq_widen_3x4
    uq_unstack_3x4
15: sub     r3, r3, lr
    sub     r4, r4, lr
    sub     r5, r5, lr
    sub     r6, r6, r11
    uq_reduce_3x4
    subs    r2, r2, #1
    bne     12b
    uq_end_3x4 uq_tile_3x4_straight__neon

// The pixels at a segment's tap, and its number of steps in r8, its flush in lr.
.macro uq_address_3x4
    ldm     r7!, {r3, r4, r8, lr}
    ldr     r5, [r0, #12]
    ldr     r5, [r5, r3, lsl #2]
    add     r5, r5, r4, lsl #3
    ldr     r3, [r0, #44]
    ldr     r4, [r0, #48]
    ldr     r9, [r0, #52]
    add     r3, r3, r5
    add     r4, r4, r5
    add     r5, r5, r9
    mov     r9, #112
.endm

// Any taps; lanes go on over segments that do not flush.
    uq_begin_3x4 uq_tile_3x4_taps__neon
    str     r3, [r0, #44]
    str     r4, [r0, #48]
    str     r5, [r0, #52]
12: ldr     r7, [r0, #16]
    vmov.i32 q0, #0
    vmov.i32 q1, #0
    vmov.i32 q2, #0
    vmov.i32 q3, #0
    vmov.i32 q4, #0
    vmov.i32 q5, #0
    vmov.i32 q6, #0
    vmov.i32 q7, #0
    vmov.i32 q8, #0
    vmov.i32 q9, #0
    vmov.i32 q10, #0
    vmov.i32 q11, #0
    uq_stack_3x4
    b       13f
19: uq_flush_3x4
13: uq_address_3x4
    uq_segment_3x4
    b       15f
14: uq_two_3x4 vmlal.s8
    subs    r8, r8, #2
    bne     14b
15: cmp     lr, #0
    bne     16f
    cmp     r7, r10
    beq     16f
    uq_address_3x4
    tst     r8, #1
    beq     14b
    uq_one_3x4 vmlal.s8
    subs    r8, r8, #1
    bne     14b
    b       15b
16: cmp     r7, r10
    bne     19b
    uq_widen_3x4
    uq_unstack_3x4
    sub     r6, r6, r11
    uq_reduce_3x4
    subs    r2, r2, #1
    bne     12b
    uq_end_3x4 uq_tile_3x4_taps__neon
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 3;
constexpr uint32_t kGroup = 8;
constexpr uint32_t kColumn = 4 * kGroup;  // bytes of weights from four output channels to the next

// What the assembly above reads, and where it keeps what its registers cannot.
struct TileRun {
    const uint8_t* rows;
    const uint32_t* pixel_offsets;
    uint32_t pixel_groups;
    const int32_t* tap_offsets;
    const Segment* segments;
    const Segment* end;
    const void* weights;
    const int32_t* start;  // [3][16], or null
    void* sums;
    uint32_t pixel_bytes;
    uint32_t weight_bytes;
    const uint8_t* pixels[3];
};
static_assert(sizeof(TileRun) == 56 && sizeof(Segment) == 16, "the assembly has these offsets in it");

extern "C" {
void uq_tile_3x4_straight__neon(TileRun* run);
void uq_tile_3x4_taps__neon(TileRun* run);
}

}  // namespace

void uq_conv_w8a8n_3x4__neon(const ConvTile& tile) {
    if (tile.pixel_count == 0 || tile.segment_count == 0) return;
    int32_t start[kPixels][kBlock];
    if (tile.start)
        for (auto& row : start) memcpy(row, tile.start, sizeof row);
    uint32_t steps = 0;
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
                   steps * kGroup * kBlock - kColumn,
                   {}};
    if (!uq_is_straight__neon(tile)) return uq_tile_3x4_taps__neon(&run);
    run.rows += tile.tap_offsets[tile.segments[0].tap] + static_cast<ptrdiff_t>(tile.segments[0].first_step * kGroup);
    uq_tile_3x4_straight__neon(&run);
}

}  // namespace uq

#endif
