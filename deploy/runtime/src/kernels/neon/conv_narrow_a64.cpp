// Byte convolutions on Armv8.0: tiles of 3 pixels x 4 output channels, steps of 16 input channels.
//
// n: smull, smlal, smlal2. int16 lane i holds the products of channels i and i + 8 of every step since the last flush,
//    which adds pairs of lanes to int32 lanes (sadalp).
// m: mul, mla. int8 lane i holds those of channel i. A flush adds pairs of lanes to int16 lanes: each at most 2 * 128,
//    so that they hold 127 flushes; they are widened at the end.
//
// Every register has its place, which compilers do not manage without spilling:
//     v0  - v11   narrow lanes of (output channel j, pixel i) in v(3j + i)
//     v12 - v23   what they are widened into
//     v24 - v29   two steps (32 codes) of the 3 pixels
//     v30, v31    one step of two output channels
// Two steps take 3 + 4 pairs of loads for 3 x 4 x 32 products.
#if defined(__aarch64__)

#include <string.h>

#include "neon.h"

asm(R"(
// One step of 4 output channels on the pixels in registers a, b, c. op begins lanes (smull, mul) or goes on with them.
.macro uq_step_n op, a, b, c
    ldp     q30, q31, [x16], #32
    \op     v0.8h, v30.8b, v\a\().8b
    \op     v1.8h, v30.8b, v\b\().8b
    \op     v2.8h, v30.8b, v\c\().8b
    \op     v3.8h, v31.8b, v\a\().8b
    \op     v4.8h, v31.8b, v\b\().8b
    \op     v5.8h, v31.8b, v\c\().8b
    smlal2  v0.8h, v30.16b, v\a\().16b
    smlal2  v1.8h, v30.16b, v\b\().16b
    smlal2  v2.8h, v30.16b, v\c\().16b
    smlal2  v3.8h, v31.16b, v\a\().16b
    smlal2  v4.8h, v31.16b, v\b\().16b
    smlal2  v5.8h, v31.16b, v\c\().16b
    ldp     q30, q31, [x16], #224
    \op     v6.8h, v30.8b, v\a\().8b
    \op     v7.8h, v30.8b, v\b\().8b
    \op     v8.8h, v30.8b, v\c\().8b
    \op     v9.8h, v31.8b, v\a\().8b
    \op     v10.8h, v31.8b, v\b\().8b
    \op     v11.8h, v31.8b, v\c\().8b
    smlal2  v6.8h, v30.16b, v\a\().16b
    smlal2  v7.8h, v30.16b, v\b\().16b
    smlal2  v8.8h, v30.16b, v\c\().16b
    smlal2  v9.8h, v31.16b, v\a\().16b
    smlal2  v10.8h, v31.16b, v\b\().16b
    smlal2  v11.8h, v31.16b, v\c\().16b
.endm

.macro uq_step_m op, a, b, c
    ldp     q30, q31, [x16], #32
    \op     v0.16b, v30.16b, v\a\().16b
    \op     v1.16b, v30.16b, v\b\().16b
    \op     v2.16b, v30.16b, v\c\().16b
    \op     v3.16b, v31.16b, v\a\().16b
    \op     v4.16b, v31.16b, v\b\().16b
    \op     v5.16b, v31.16b, v\c\().16b
    ldp     q30, q31, [x16], #224
    \op     v6.16b, v30.16b, v\a\().16b
    \op     v7.16b, v30.16b, v\b\().16b
    \op     v8.16b, v30.16b, v\c\().16b
    \op     v9.16b, v31.16b, v\a\().16b
    \op     v10.16b, v31.16b, v\b\().16b
    \op     v11.16b, v31.16b, v\c\().16b
.endm

// Narrow lanes to wide ones: op begins them (saddlp) or adds to them (sadalp).
.macro uq_flush op, wide, narrow
    \op     v12.\wide, v0.\narrow
    \op     v13.\wide, v1.\narrow
    \op     v14.\wide, v2.\narrow
    \op     v15.\wide, v3.\narrow
    \op     v16.\wide, v4.\narrow
    \op     v17.\wide, v5.\narrow
    \op     v18.\wide, v6.\narrow
    \op     v19.\wide, v7.\narrow
    \op     v20.\wide, v8.\narrow
    \op     v21.\wide, v9.\narrow
    \op     v22.\wide, v10.\narrow
    \op     v23.\wide, v11.\narrow
.endm

.macro uq_widen
    saddlp  v12.4s, v12.8h
    saddlp  v13.4s, v13.8h
    saddlp  v14.4s, v14.8h
    saddlp  v15.4s, v15.8h
    saddlp  v16.4s, v16.8h
    saddlp  v17.4s, v17.8h
    saddlp  v18.4s, v18.8h
    saddlp  v19.4s, v19.8h
    saddlp  v20.4s, v20.8h
    saddlp  v21.4s, v21.8h
    saddlp  v22.4s, v22.8h
    saddlp  v23.4s, v23.8h
.endm

.macro uq_clear
    movi    v12.4s, #0
    movi    v13.4s, #0
    movi    v14.4s, #0
    movi    v15.4s, #0
    movi    v16.4s, #0
    movi    v17.4s, #0
    movi    v18.4s, #0
    movi    v19.4s, #0
    movi    v20.4s, #0
    movi    v21.4s, #0
    movi    v22.4s, #0
    movi    v23.4s, #0
.endm

.macro uq_one kind, op
    ldr     q24, [x12], #16
    ldr     q26, [x13], #16
    ldr     q28, [x14], #16
    uq_step_\kind \op, 24, 26, 28
.endm

.macro uq_two kind, op, next
    ldp     q24, q25, [x12], #32
    ldp     q26, q27, [x13], #32
    ldp     q28, q29, [x14], #32
    uq_step_\kind \op, 24, 26, 28
    uq_step_\kind \next, 25, 27, 29
.endm

// w17 steps that begin new lanes, an odd one first.
.macro uq_segment kind, first, next
    tbz     w17, #0, 91f
    uq_one  \kind, \first
    subs    w17, w17, #1
    b.ne    92f
    b       93f
91: uq_two  \kind, \first, \next
    subs    w17, w17, #2
    b.eq    93f
92: uq_two  \kind, \next, \next
    subs    w17, w17, #2
    b.ne    92b
93:
.endm

// A function of one TileRun (x0): all its pixel groups, and the 4 groups of output channels of each.
//     x0 rows   x1 pixel offsets   x2 pixel groups left   x3 tap offsets   x4, x5 first segment and end
//     x6 weights   x7 [3][16] that the sums begin with, or 0: those at x8   x8 sums   x9 - x11 pixels
//     x12 - x14 the same, moving   x15 segment, moving   x16 weights, moving   x17 steps left
//     x19 what the sums begin with, moving   x21 group of output channels, in bytes of weights   x20, x22 - x24 spare
.macro uq_begin name
    .text
    .balign 16
    .hidden \name
    .global \name
    .type   \name, %function
\name:
    stp     d8, d9, [sp, #-112]!
    stp     d10, d11, [sp, #16]
    stp     d12, d13, [sp, #32]
    stp     d14, d15, [sp, #48]
    stp     x19, x20, [sp, #64]
    stp     x21, x22, [sp, #80]
    stp     x23, x24, [sp, #96]
    ldp     x7, x8, [x0, #56]
    ldp     x5, x6, [x0, #40]
    ldp     x3, x4, [x0, #24]
    ldr     x2, [x0, #16]
    ldp     x0, x1, [x0]
11: ldp     w9, w10, [x1], #8           // the next 3 pixels
    ldr     w11, [x1], #4
    add     x9, x9, x0
    add     x10, x10, x0
    add     x11, x11, x0
    cmp     x7, #0
    csel    x19, x8, x7, eq
    mov     x21, #0
12: add     x16, x6, x21                // the next 4 output channels
.endm

// int32 lanes, and int16 lanes of at most 31 flushes (31 * 4 * 256 < 32768), to one sum a channel.
.macro uq_reduce_wide
    addp    v12.4s, v12.4s, v15.4s
    addp    v13.4s, v13.4s, v16.4s
    addp    v14.4s, v14.4s, v17.4s
    addp    v18.4s, v18.4s, v21.4s
    addp    v19.4s, v19.4s, v22.4s
    addp    v20.4s, v20.4s, v23.4s
    addp    v12.4s, v12.4s, v18.4s
    addp    v13.4s, v13.4s, v19.4s
    addp    v14.4s, v14.4s, v20.4s
.endm

.macro uq_reduce_few
    addp    v12.8h, v12.8h, v15.8h
    addp    v13.8h, v13.8h, v16.8h
    addp    v14.8h, v14.8h, v17.8h
    addp    v18.8h, v18.8h, v21.8h
    addp    v19.8h, v19.8h, v22.8h
    addp    v20.8h, v20.8h, v23.8h
    addp    v12.8h, v12.8h, v18.8h
    addp    v13.8h, v13.8h, v19.8h
    addp    v14.8h, v14.8h, v20.8h
    saddlp  v12.4s, v12.8h
    saddlp  v13.4s, v13.8h
    saddlp  v14.4s, v14.8h
.endm

// Stores the sums, and goes on.
.macro uq_end name
    ldr     q1, [x19, #64]
    ldr     q2, [x19, #128]
    ldr     q0, [x19], #16
    add     v0.4s, v0.4s, v12.4s
    add     v1.4s, v1.4s, v13.4s
    add     v2.4s, v2.4s, v14.4s
    str     q1, [x8, #64]
    str     q2, [x8, #128]
    str     q0, [x8], #16
    add     x21, x21, #64
    cmp     x21, #256
    b.ne    12b
    add     x8, x8, #128
    subs    x2, x2, #1
    b.ne    11b
    ldp     d10, d11, [sp, #16]
    ldp     d12, d13, [sp, #32]
    ldp     d14, d15, [sp, #48]
    ldp     x19, x20, [sp, #64]
    ldp     x21, x22, [sp, #80]
    ldp     x23, x24, [sp, #96]
    ldp     d8, d9, [sp], #112
    ret
    .size   \name, . - \name
.endm

// One tap, and steps without a gap: the pixels simply go on, and every segment may end with a flush.
.macro uq_tile_straight name, kind, first, next, wide, narrow
    uq_begin \name
    mov     x12, x9
    mov     x13, x10
    mov     x14, x11
    ldr     w17, [x4, #8]
    add     x15, x4, #16
    uq_segment \kind, \first, \next
    uq_flush saddlp, \wide, \narrow
    cmp     x15, x5
    b.eq    15f
14: ldr     w17, [x15, #8]
    add     x15, x15, #16
    uq_segment \kind, \first, \next
    uq_flush sadalp, \wide, \narrow
    cmp     x15, x5
    b.ne    14b
15: .ifc \kind, m
    uq_reduce_few
    .else
    uq_reduce_wide
    .endif
    uq_end  \name
.endm

// The pixels at a segment's tap, and its number of steps in w17, its flush in w24.
.macro uq_address
    ldp     w22, w23, [x15], #8
    ldp     w17, w24, [x15], #8
    ldrsw   x22, [x3, w22, uxtw #2]
    add     x22, x22, w23, uxtw #4
    add     x12, x9, x22
    add     x13, x10, x22
    add     x14, x11, x22
.endm

// Any taps; lanes go on over segments that do not flush.
.macro uq_tile_taps name, kind, first, next, wide, narrow
    uq_begin \name
    mov     x15, x4
    uq_clear
13: uq_address
    uq_segment \kind, \first, \next
    b       15f
14: uq_two  \kind, \next, \next
    subs    w17, w17, #2
    b.ne    14b
15: cbnz    w24, 16f
    cmp     x15, x5
    b.eq    16f
    uq_address
    tbz     w17, #0, 14b
    uq_one  \kind, \next
    subs    w17, w17, #1
    b.ne    14b
    b       15b
16: uq_flush sadalp, \wide, \narrow
    cmp     x15, x5
    b.ne    13b
    .ifc \kind, m
    uq_widen
    .endif
    uq_reduce_wide
    uq_end  \name
.endm

uq_tile_straight uq_tile_n_straight__neon, n, smull, smlal, 4s, 8h
uq_tile_taps uq_tile_n_taps__neon, n, smull, smlal, 4s, 8h
uq_tile_straight uq_tile_m_straight__neon, m, mul, mla, 8h, 16b
uq_tile_taps uq_tile_m_taps__neon, m, mul, mla, 8h, 16b
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 3;
constexpr uint32_t kGroup = 16;
constexpr uint32_t kFlushes = 127;    // that the int16 lanes of "m" hold
constexpr uint32_t kFewFlushes = 31;  // after which they can be added up before they are widened

// What the assembly above reads.
struct TileRun {
    const uint8_t* rows;
    const uint32_t* pixel_offsets;
    uint64_t pixel_groups;
    const int32_t* tap_offsets;
    const Segment* segments;
    const Segment* end;
    const void* weights;
    const int32_t* start;  // [3][16], or null
    void* sums;
};
static_assert(sizeof(TileRun) == 72 && sizeof(Segment) == 16, "the assembly has these offsets in it");

extern "C" {
void uq_tile_n_straight__neon(const TileRun* run);
void uq_tile_n_taps__neon(const TileRun* run);
void uq_tile_m_straight__neon(const TileRun* run);
void uq_tile_m_taps__neon(const TileRun* run);
}

void run_tiles(const ConvTile& tile, uint32_t most_straight, void (*straight)(const TileRun*),
               void (*taps)(const TileRun*)) {
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
                   tile.sums};
    if (tile.segment_count > most_straight || !uq_is_straight__neon(tile)) return taps(&run);
    const Segment& first = tile.segments[0];
    run.rows += tile.tap_offsets[first.tap] + static_cast<ptrdiff_t>(first.first_step) * kGroup;
    straight(&run);
}

}  // namespace

void uq_conv_w8a8n_3x4__neon(const ConvTile& tile) {
    run_tiles(tile, UINT32_MAX, uq_tile_n_straight__neon, uq_tile_n_taps__neon);
}

void uq_conv_w8a8m_3x4__neon(const ConvTile& whole) {
    ConvTile tile = whole;
    while (true) {
        const uint32_t left = static_cast<uint32_t>(whole.segments + whole.segment_count - tile.segments);
        tile.segment_count = left < kFlushes ? left : kFlushes;
        run_tiles(tile, kFewFlushes, uq_tile_m_straight__neon, uq_tile_m_taps__neon);
        if (tile.segment_count == left) return;
        size_t steps = 0;
        for (uint32_t s = 0; s < tile.segment_count; ++s) steps += tile.segments[s].step_count;
        tile.weights = static_cast<const int8_t*>(tile.weights) + steps * kGroup * kBlock;
        tile.segments += tile.segment_count;
        tile.start = nullptr;  // the rest is added
    }
}

}  // namespace uq

#endif
