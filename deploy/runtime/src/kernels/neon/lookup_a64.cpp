// Look-up convolution on Armv8: tiles of 4 pixels x 16 output channels, steps of 16 input channels (four tables).
//
// Two tables of 16 bytes side by side are one of 32 for tbl. Of the 16 bytes that it finds, the even ones are sums of
// the first four channels and the odd ones of the next four, for 8 output channels; uadalp (sadalp) adds both to the
// lane of an output channel: two instructions for 64 products of a weight's bit.
//
//     v0  - v7    plane 0: lanes of (pixel p, output channels 8k ...) in v(2p + k)
//     v8  - v15   plane 1
//     v16 - v23   a step's indices: v16, v17 and v18, v19 of plane 0, the rest of plane 1
//     v24 - v27   a step's tables of a pixel
//     v28 - v31   what is found
#if defined(__aarch64__)

#include <arm_neon.h>

#include "neon.h"

asm(R"(
.macro uq_lookup_two pixel, k0, k1, j0, j1
    ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [\pixel], #64
    tbl     v28.16b, {v24.16b, v25.16b}, v16.16b
    tbl     v29.16b, {v24.16b, v25.16b}, v17.16b
    tbl     v30.16b, {v24.16b, v25.16b}, v20.16b
    tbl     v31.16b, {v24.16b, v25.16b}, v21.16b
    uadalp  v\k0\().8h, v28.16b
    uadalp  v\k1\().8h, v29.16b
    uadalp  v\j0\().8h, v30.16b
    uadalp  v\j1\().8h, v31.16b
    tbl     v28.16b, {v26.16b, v27.16b}, v18.16b
    tbl     v29.16b, {v26.16b, v27.16b}, v19.16b
    tbl     v30.16b, {v26.16b, v27.16b}, v22.16b
    tbl     v31.16b, {v26.16b, v27.16b}, v23.16b
    uadalp  v\k0\().8h, v28.16b
    uadalp  v\k1\().8h, v29.16b
    uadalp  v\j0\().8h, v30.16b
    uadalp  v\j1\().8h, v31.16b
.endm

.macro uq_lookup_step_two
    ld1     {v16.16b, v17.16b, v18.16b, v19.16b}, [x20], #64
    ld1     {v20.16b, v21.16b, v22.16b, v23.16b}, [x20], #64
    uq_lookup_two x13, 0, 1, 8, 9
    uq_lookup_two x14, 2, 3, 10, 11
    uq_lookup_two x15, 4, 5, 12, 13
    uq_lookup_two x16, 6, 7, 14, 15
.endm

.macro uq_lookup_sign pixel, k0, k1
    ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [\pixel], #64
    tbl     v28.16b, {v24.16b, v25.16b}, v16.16b
    tbl     v29.16b, {v24.16b, v25.16b}, v17.16b
    tbl     v30.16b, {v26.16b, v27.16b}, v18.16b
    tbl     v31.16b, {v26.16b, v27.16b}, v19.16b
    sadalp  v\k0\().8h, v28.16b
    sadalp  v\k1\().8h, v29.16b
    sadalp  v\k0\().8h, v30.16b
    sadalp  v\k1\().8h, v31.16b
.endm

.macro uq_lookup_step_sign
    ld1     {v16.16b, v17.16b, v18.16b, v19.16b}, [x20], #64
    uq_lookup_sign x13, 0, 1
    uq_lookup_sign x14, 2, 3
    uq_lookup_sign x15, 4, 5
    uq_lookup_sign x16, 6, 7
.endm

// The lanes of a pixel onto its sums.
.macro uq_lookup_flush_two k0, k1, j0, j1
    ld1     {v16.4s, v17.4s, v18.4s, v19.4s}, [x21], x22
    ushll   v20.4s, v\j0\().4h, #1
    ushll2  v21.4s, v\j0\().8h, #1
    ushll   v22.4s, v\j1\().4h, #1
    ushll2  v23.4s, v\j1\().8h, #1
    uaddw   v16.4s, v16.4s, v\k0\().4h
    uaddw2  v17.4s, v17.4s, v\k0\().8h
    uaddw   v18.4s, v18.4s, v\k1\().4h
    uaddw2  v19.4s, v19.4s, v\k1\().8h
    sub     v16.4s, v16.4s, v20.4s
    sub     v17.4s, v17.4s, v21.4s
    sub     v18.4s, v18.4s, v22.4s
    sub     v19.4s, v19.4s, v23.4s
    st1     {v16.4s, v17.4s, v18.4s, v19.4s}, [x26], #64
.endm

.macro uq_lookup_flush_sign k0, k1, j0, j1
    ld1     {v16.4s, v17.4s, v18.4s, v19.4s}, [x21], x22
    saddw   v16.4s, v16.4s, v\k0\().4h
    saddw2  v17.4s, v17.4s, v\k0\().8h
    saddw   v18.4s, v18.4s, v\k1\().4h
    saddw2  v19.4s, v19.4s, v\k1\().8h
    st1     {v16.4s, v17.4s, v18.4s, v19.4s}, [x26], #64
.endm

// A function of one LookupRun (x0).
//     x0 rows   x1 pixel offsets   x2 tiles left   x3 tap offsets   x4, x5 first segment and end   x6 weights
//     x7 start or 0   x8 sums   x9 - x12 pixels   x13 - x16 the same, moving   x17 steps left   x19 segment, moving
//     x20 weights, moving   x21, x22 where the sums begin, and the way from pixel to pixel there
//     x23, x24 spare   x25 flush   x26 sums, moving
.macro uq_lookup_function name, kind
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
    ldp     x7, x8, [x0, #56]
    ldp     x5, x6, [x0, #40]
    ldp     x3, x4, [x0, #24]
    ldr     x2, [x0, #16]
    ldp     x0, x1, [x0]
10: ldp     w9, w10, [x1], #8
    ldp     w11, w12, [x1], #8
    add     x9, x9, x0
    add     x10, x10, x0
    add     x11, x11, x0
    add     x12, x12, x0
    mov     x22, #64
    cmp     x7, #0
    csel    x21, x8, x7, eq
    csel    x22, x22, xzr, eq
    mov     x19, x4
    mov     x20, x6
11: movi    v0.8h, #0
    movi    v1.8h, #0
    movi    v2.8h, #0
    movi    v3.8h, #0
    movi    v4.8h, #0
    movi    v5.8h, #0
    movi    v6.8h, #0
    movi    v7.8h, #0
    .ifc \kind, two
    movi    v8.8h, #0
    movi    v9.8h, #0
    movi    v10.8h, #0
    movi    v11.8h, #0
    movi    v12.8h, #0
    movi    v13.8h, #0
    movi    v14.8h, #0
    movi    v15.8h, #0
    .endif
12: ldp     w23, w24, [x19], #8
    ldp     w17, w25, [x19], #8
    ldrsw   x23, [x3, w23, uxtw #2]
    add     x23, x23, x24, lsl #6
    add     x13, x9, x23
    add     x14, x10, x23
    add     x15, x11, x23
    add     x16, x12, x23
13: uq_lookup_step_\kind
    subs    w17, w17, #1
    b.ne    13b
    cmp     x19, x5
    b.eq    14f
    cbz     w25, 12b
14: mov     x26, x8
    uq_lookup_flush_\kind 0, 1, 8, 9
    uq_lookup_flush_\kind 2, 3, 10, 11
    uq_lookup_flush_\kind 4, 5, 12, 13
    uq_lookup_flush_\kind 6, 7, 14, 15
    mov     x21, x8
    mov     x22, #64
    cmp     x19, x5
    b.ne    11b
    add     x8, x8, #256
    subs    x2, x2, #1
    b.ne    10b
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

uq_lookup_function uq_lookup_sign__neon, sign
uq_lookup_function uq_lookup_two__neon, two
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 4;

// What the assembly above reads.
struct LookupRun {
    const uint8_t* rows;
    const uint32_t* pixel_offsets;
    uint64_t tiles;
    const int32_t* tap_offsets;
    const Segment* segments;
    const Segment* end;
    const void* weights;
    const int32_t* start;
    void* sums;
};
static_assert(sizeof(LookupRun) == 72 && sizeof(Segment) == 16, "the assembly has these offsets in it");

extern "C" {
void uq_lookup_sign__neon(const LookupRun* run);
void uq_lookup_two__neon(const LookupRun* run);
}

template <void (*kRun)(const LookupRun*)>
void run(const ConvTile& tile) {
    if (tile.pixel_count == 0 || tile.segment_count == 0) return;
    const LookupRun all = {tile.rows,        tile.pixel_offsets, (tile.pixel_count + kPixels - 1) / kPixels,
                           tile.tap_offsets, tile.segments,      tile.segments + tile.segment_count,
                           tile.weights,     tile.start,         tile.sums};
    kRun(&all);
}

// Sums of two codes each, then all four of them with all four of the next two.
template <bool kSigned>
void expand(const uint8_t* codes, size_t steps, uint8_t* tables) {
    constexpr uint8_t kNone = 255;
    static const uint8_t kFirst[5][16] = {{0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12},
                                          {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3},
                                          {4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7},
                                          {8, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 11, 11, 11, 11},
                                          {12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15, 15}};
    const uint8x16_t first = vld1q_u8(kFirst[0]), one = vdupq_n_u8(1);
    const uint8_t low = kSigned ? kNone : 0;  // a bit of 0 takes away, or leaves out
    const uint8x16_t even = vreinterpretq_u8_u16(vdupq_n_u16(static_cast<uint16_t>(0x100 | low)));
    const uint8x16_t odd = vreinterpretq_u8_u32(vdupq_n_u32(0x01010000u | (low ? 0xFFFFu : 0)));
    for (size_t s = 0; s < steps; ++s, codes += 16, tables += 64) {
        const uint8x16_t q = vld1q_u8(codes);
        const uint8x16_t c0 = vqtbl1q_u8(q, first), c1 = vqtbl1q_u8(q, vaddq_u8(first, one));
        const uint8x16_t c2 = vqtbl1q_u8(q, vaddq_u8(first, vdupq_n_u8(2)));
        const uint8x16_t c3 = vqtbl1q_u8(q, vaddq_u8(first, vdupq_n_u8(3)));
        const uint8x16_t a = vmlaq_u8(vmulq_u8(c0, even), c1, odd), b = vmlaq_u8(vmulq_u8(c2, even), c3, odd);
        const uint32x4_t words = vreinterpretq_u32_u8(a);
        vst1q_u8(tables, vaddq_u8(vreinterpretq_u8_u32(vdupq_laneq_u32(words, 0)), vqtbl1q_u8(b, vld1q_u8(kFirst[1]))));
        vst1q_u8(tables + 16,
                 vaddq_u8(vreinterpretq_u8_u32(vdupq_laneq_u32(words, 1)), vqtbl1q_u8(b, vld1q_u8(kFirst[2]))));
        vst1q_u8(tables + 32,
                 vaddq_u8(vreinterpretq_u8_u32(vdupq_laneq_u32(words, 2)), vqtbl1q_u8(b, vld1q_u8(kFirst[3]))));
        vst1q_u8(tables + 48,
                 vaddq_u8(vreinterpretq_u8_u32(vdupq_laneq_u32(words, 3)), vqtbl1q_u8(b, vld1q_u8(kFirst[4]))));
    }
}

// Costs are counted instructions, as in fill.cpp.
const LookupConv kLookupConv = {{{"uq_conv_lookup_w1a5_4x16__neon", run<uq_lookup_sign__neon>, expand<true>, 43, 0.5f},
                                 {"uq_conv_lookup_w2a6_4x16__neon", run<uq_lookup_two__neon>, expand<false>, 75, 1.0f}},
                                2500};  // moved with the window, too

}  // namespace

void uq_fill_lookup__neon(Kernels* kernels) {
    kernels->lookup_conv = &kLookupConv;
}

}  // namespace uq

#endif
