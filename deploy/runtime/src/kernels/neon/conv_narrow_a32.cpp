// Byte convolutions on Armv7: tiles of 3 pixels x 2 output channels.
//
// n: vmull.s8, vmlal.s8; steps of 8 input channels. int16 lane i holds the products of channel i of every step since
//    the last flush, which adds pairs of lanes to int32 lanes (vpadal).
// m: vmul.i8, vmla.i8; steps of 16. int8 lane i holds those of channel i. A flush adds pairs of lanes to int16 lanes:
//    each at most 2 * 128, so that they hold 127 flushes; they are widened at the end.
//
// Every register has its place:
//     q0  - q5    narrow lanes of (output channel j, pixel i) in q(3j + i)
//     q6  - q11   what they are widened into
//     q12 - q14   16 codes of the 3 pixels: two steps of n, one of m
//     q15         weights: one step of two output channels (n), or of one (m)
#if defined(__arm__)

#include <string.h>

#include "neon.h"

asm(R"(
    .syntax unified
    .fpu    neon
    .arm

// One step on the pixels in d registers a, b, c (n) and q12 - q14 (m). op begins lanes or goes on with them.
.macro uq_step_n op, a, b, c
    vld1.8  {d30, d31}, [r6], r9
    \op     q0, d30, d\a
    \op     q1, d30, d\b
    \op     q2, d30, d\c
    \op     q3, d31, d\a
    \op     q4, d31, d\b
    \op     q5, d31, d\c
.endm

.macro uq_step_m op
    vld1.8  {d30, d31}, [r6]!
    \op     q0, q15, q12
    \op     q1, q15, q13
    \op     q2, q15, q14
    vld1.8  {d30, d31}, [r6], r9
    \op     q3, q15, q12
    \op     q4, q15, q13
    \op     q5, q15, q14
.endm

.macro uq_pixels
    vld1.8  {d24, d25}, [r3]!
    vld1.8  {d26, d27}, [r4]!
    vld1.8  {d28, d29}, [r5]!
.endm

.macro uq_one_n op
    vld1.8  {d24}, [r3]!
    vld1.8  {d26}, [r4]!
    vld1.8  {d28}, [r5]!
    uq_step_n \op, 24, 26, 28
.endm

.macro uq_two_n op, next
    uq_pixels
    uq_step_n \op, 24, 26, 28
    uq_step_n \next, 25, 27, 29
.endm

.macro uq_one_m op
    uq_pixels
    uq_step_m \op
.endm

.macro uq_two_m op, next
    uq_one_m \op
    uq_one_m \next
.endm

// Narrow lanes to wide ones: op begins them (vpaddl) or adds to them (vpadal).
.macro uq_flush op
    \op     q6, q0
    \op     q7, q1
    \op     q8, q2
    \op     q9, q3
    \op     q10, q4
    \op     q11, q5
.endm

// r8 steps that begin new lanes, an odd one first.
.macro uq_segment kind, first, next
    tst     r8, #1
    beq     91f
    uq_one_\kind \first
    subs    r8, r8, #1
    bne     92f
    b       93f
91: uq_two_\kind \first, \next
    subs    r8, r8, #2
    beq     93f
92: uq_two_\kind \next, \next
    subs    r8, r8, #2
    bne     92b
93:
.endm

// A function of one TileRun (r0): all its pixel groups, and the 8 pairs of output channels of each.
//     r0 the TileRun   r1 where the sums begin   r2 pairs left   r3 - r5 pixels, moving   r6 weights, moving
//     r7 segment, moving   r8 steps left   r9 from the weights of a step to the next   r10 end of the segments
//     r11 weights of the pair   r12 sums   lr bytes of a pixel (straight), flush (taps)
.macro uq_begin name, stride
    .text
    .balign 16
    .hidden \name
    .global \name
    .type   \name, %function
\name:
    push    {r4-r11, lr}
    vpush   {d8-d15}
    ldr     r10, [r0, #20]
    ldr     r12, [r0, #32]
    mov     r9, #\stride
11: ldr     r6, [r0, #4]                // the next 3 pixels
    ldr     r7, [r0, #0]
    ldm     r6!, {r3, r4, r5}
    str     r6, [r0, #4]
    add     r3, r3, r7
    add     r4, r4, r7
    add     r5, r5, r7
    ldr     r1, [r0, #28]
    ldr     r11, [r0, #24]
    cmp     r1, #0
    moveq   r1, r12
    mov     r2, #8
.endm

// Adds the lanes up and stores; r1 has three rows of what the sums begin with.
.macro uq_reduce
    vldr    d0, [r1]
    vldr    d1, [r1, #64]
    vldr    d2, [r1, #128]
    vpadd.i32 d12, d12, d13
    vpadd.i32 d14, d14, d15
    vpadd.i32 d16, d16, d17
    vpadd.i32 d13, d18, d19
    vpadd.i32 d15, d20, d21
    vpadd.i32 d17, d22, d23
    vpadd.i32 d12, d12, d13
    vpadd.i32 d14, d14, d15
    vpadd.i32 d16, d16, d17
    vadd.i32 d0, d0, d12
    vadd.i32 d1, d1, d14
    vadd.i32 d2, d2, d16
    vstr    d0, [r12]
    vstr    d1, [r12, #64]
    vstr    d2, [r12, #128]
    add     r1, r1, #8
    add     r12, r12, #8
.endm

.macro uq_end name
    add     r12, r12, #128
    ldr     r6, [r0, #8]
    subs    r6, r6, #1
    str     r6, [r0, #8]
    bne     11b
    vpop    {d8-d15}
    pop     {r4-r11, pc}
    .size   \name, . - \name
.endm

.macro uq_widen
    vpaddl.s16 q6, q6
    vpaddl.s16 q7, q7
    vpaddl.s16 q8, q8
    vpaddl.s16 q9, q9
    vpaddl.s16 q10, q10
    vpaddl.s16 q11, q11
.endm

// One tap, and steps without a gap: the pixels simply go on, and every segment may end with a flush. pair: from the
// weights of two output channels to those of the next two.
.macro uq_tile_straight name, kind, first, next, begin, add, stride, pair
    uq_begin \name, \stride
    ldr     lr, [r0, #36]
12: ldr     r7, [r0, #16]
    mov     r6, r11
    ldr     r8, [r7, #8]
    add     r7, r7, #16
    uq_segment \kind, \first, \next
    uq_flush \begin
    cmp     r7, r10
    beq     15f
14: ldr     r8, [r7, #8]
    add     r7, r7, #16
    uq_segment \kind, \first, \next
    uq_flush \add
    cmp     r7, r10
    bne     14b
15: sub     r3, r3, lr
    sub     r4, r4, lr
    sub     r5, r5, lr
    .ifc \kind, m
    uq_widen
    .endif
    uq_reduce
    add     r11, r11, #\pair
    subs    r2, r2, #1
    bne     12b
    uq_end  \name
.endm

// The pixels at a segment's tap, and its number of steps in r8, its flush in lr.
.macro uq_address stride, shift
    ldm     r7!, {r3, r4, r8, lr}
    ldr     r5, [r0, #12]
    ldr     r5, [r5, r3, lsl #2]
    add     r5, r5, r4, lsl #\shift
    ldr     r3, [r0, #40]
    ldr     r4, [r0, #44]
    ldr     r9, [r0, #48]
    add     r3, r3, r5
    add     r4, r4, r5
    add     r5, r5, r9
    mov     r9, #\stride
.endm

// Any taps; lanes go on over segments that do not flush.
.macro uq_tile_taps name, kind, first, next, begin, add, stride, pair, shift
    uq_begin \name, \stride
    str     r3, [r0, #40]
    str     r4, [r0, #44]
    str     r5, [r0, #48]
12: ldr     r7, [r0, #16]
    mov     r6, r11
    vmov.i32 q6, #0
    vmov.i32 q7, #0
    vmov.i32 q8, #0
    vmov.i32 q9, #0
    vmov.i32 q10, #0
    vmov.i32 q11, #0
13: uq_address \stride, \shift
    uq_segment \kind, \first, \next
    b       15f
14: uq_two_\kind \next, \next
    subs    r8, r8, #2
    bne     14b
15: cmp     lr, #0
    bne     16f
    cmp     r7, r10
    beq     16f
    uq_address \stride, \shift
    tst     r8, #1
    beq     14b
    uq_one_\kind \next
    subs    r8, r8, #1
    bne     14b
    b       15b
16: uq_flush \add
    cmp     r7, r10
    bne     13b
    .ifc \kind, m
    uq_widen
    .endif
    uq_reduce
    add     r11, r11, #\pair
    subs    r2, r2, #1
    bne     12b
    uq_end  \name
.endm

uq_tile_straight uq_tile_n_straight__neon, n, vmull.s8, vmlal.s8, vpaddl.s16, vpadal.s16, 128, 16
uq_tile_taps uq_tile_n_taps__neon, n, vmull.s8, vmlal.s8, vpaddl.s16, vpadal.s16, 128, 16, 3
uq_tile_straight uq_tile_m_straight__neon, m, vmul.i8, vmla.i8, vpaddl.s8, vpadal.s8, 240, 32
uq_tile_taps uq_tile_m_taps__neon, m, vmul.i8, vmla.i8, vpaddl.s8, vpadal.s8, 240, 32, 4
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 3;
constexpr uint32_t kFlushes = 127;  // that the int16 lanes of "m" hold

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
    uint32_t pixel_bytes;  // of all steps together
    const uint8_t* pixels[3];
};
static_assert(sizeof(TileRun) == 52 && sizeof(Segment) == 16, "the assembly has these offsets in it");

extern "C" {
void uq_tile_n_straight__neon(TileRun* run);
void uq_tile_n_taps__neon(TileRun* run);
void uq_tile_m_straight__neon(TileRun* run);
void uq_tile_m_taps__neon(TileRun* run);
}

void run_tiles(const ConvTile& tile, uint32_t group, void (*straight)(TileRun*), void (*taps)(TileRun*)) {
    if (tile.pixel_count == 0 || tile.segment_count == 0) return;
    int32_t start[kPixels][kBlock];
    if (tile.start)
        for (auto& row : start) memcpy(row, tile.start, sizeof row);
    TileRun run = {tile.rows,
                   tile.pixel_offsets,
                   (tile.pixel_count + kPixels - 1) / kPixels,
                   tile.tap_offsets,
                   tile.segments,
                   tile.segments + tile.segment_count,
                   tile.weights,
                   tile.start ? start[0] : nullptr,
                   tile.sums,
                   0,
                   {}};
    if (!uq_is_straight__neon(tile)) return taps(&run);
    const Segment &first = tile.segments[0], &last = tile.segments[tile.segment_count - 1];
    run.rows += tile.tap_offsets[first.tap] + static_cast<ptrdiff_t>(first.first_step * group);
    run.pixel_bytes = (last.first_step + last.step_count - first.first_step) * group;
    straight(&run);
}

}  // namespace

void uq_conv_w8a8n_3x2__neon(const ConvTile& tile) {
    run_tiles(tile, 8, uq_tile_n_straight__neon, uq_tile_n_taps__neon);
}

void uq_conv_w8a8m_3x2__neon(const ConvTile& whole) {
    ConvTile tile = whole;
    while (true) {
        const uint32_t left = static_cast<uint32_t>(whole.segments + whole.segment_count - tile.segments);
        tile.segment_count = left < kFlushes ? left : kFlushes;
        run_tiles(tile, 16, uq_tile_m_straight__neon, uq_tile_m_taps__neon);
        if (tile.segment_count == left) return;
        size_t steps = 0;
        for (uint32_t s = 0; s < tile.segment_count; ++s) steps += tile.segments[s].step_count;
        tile.weights = static_cast<const int8_t*>(tile.weights) + steps * 16 * kBlock;
        tile.segments += tile.segment_count;
        tile.start = nullptr;  // the rest is added
    }
}

}  // namespace uq

#endif
