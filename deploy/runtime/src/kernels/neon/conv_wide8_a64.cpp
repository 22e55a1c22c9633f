// Byte convolutions on Armv8.0 for weights and codes of up to 8 bits, whose int16 lanes would be full after a step:
// they are widened at once. Tiles of 4 pixels x 4 output channels, steps of 16 input channels.
//
// w: smull, smlal2, sadalp. int16 lane i holds the products of channels i and i + 8 of one step.
// plain: smull, sadalp, smull2, sadalp. One product always fits, so that there is nothing to prove.
//
//     v0  - v15   int32 lanes of (output channel j, pixel i) in v(4j + i)
//     v16 - v23   two steps (32 codes) of the 4 pixels
//     v24 - v27   one step of four output channels
//     v28 - v31   narrow lanes
// Two steps take 4 + 4 pairs of loads for 4 x 4 x 32 products.
#if defined(__aarch64__)

#include <string.h>

#include "neon.h"

asm(R"(
// One output channel (weights in w) on the pixels a, b, c, d.
.macro uq_column_w w, a, b, c, d, l0, l1, l2, l3
    smull   v28.8h, v\w\().8b, v\a\().8b
    smull   v29.8h, v\w\().8b, v\b\().8b
    smull   v30.8h, v\w\().8b, v\c\().8b
    smull   v31.8h, v\w\().8b, v\d\().8b
    smlal2  v28.8h, v\w\().16b, v\a\().16b
    smlal2  v29.8h, v\w\().16b, v\b\().16b
    smlal2  v30.8h, v\w\().16b, v\c\().16b
    smlal2  v31.8h, v\w\().16b, v\d\().16b
    sadalp  v\l0\().4s, v28.8h
    sadalp  v\l1\().4s, v29.8h
    sadalp  v\l2\().4s, v30.8h
    sadalp  v\l3\().4s, v31.8h
.endm

.macro uq_column_plain w, a, b, c, d, l0, l1, l2, l3
    smull   v28.8h, v\w\().8b, v\a\().8b
    smull   v29.8h, v\w\().8b, v\b\().8b
    smull   v30.8h, v\w\().8b, v\c\().8b
    smull   v31.8h, v\w\().8b, v\d\().8b
    sadalp  v\l0\().4s, v28.8h
    sadalp  v\l1\().4s, v29.8h
    sadalp  v\l2\().4s, v30.8h
    sadalp  v\l3\().4s, v31.8h
    smull2  v28.8h, v\w\().16b, v\a\().16b
    smull2  v29.8h, v\w\().16b, v\b\().16b
    smull2  v30.8h, v\w\().16b, v\c\().16b
    smull2  v31.8h, v\w\().16b, v\d\().16b
    sadalp  v\l0\().4s, v28.8h
    sadalp  v\l1\().4s, v29.8h
    sadalp  v\l2\().4s, v30.8h
    sadalp  v\l3\().4s, v31.8h
.endm

.macro uq_step_wide kind, a, b, c, d
    ldp     q24, q25, [x16], #32
    ldp     q26, q27, [x16], #224
    uq_column_\kind 24, \a, \b, \c, \d, 0, 1, 2, 3
    uq_column_\kind 25, \a, \b, \c, \d, 4, 5, 6, 7
    uq_column_\kind 26, \a, \b, \c, \d, 8, 9, 10, 11
    uq_column_\kind 27, \a, \b, \c, \d, 12, 13, 14, 15
.endm

// A function of one TileRun (x0): all its pixel groups, and the 4 groups of output channels of each.
//     x0 rows   x1 pixel offsets   x2 pixel groups left   x3 tap offsets   x4, x5 first segment and end
//     x6 weights   x7 [4][16] that the sums begin with, or 0: those at x8   x8 sums   x9 - x12 pixels
//     x13 - x14, x26 spare   x15 segment, moving   x16 weights, moving   x17 steps left
//     x19 what the sums begin with, moving   x20 group of output channels, in bytes of weights
//     x22 - x25 pixels, moving
.macro uq_tile_wide name, kind
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
11: ldp     w9, w10, [x1], #8           // the next 4 pixels
    ldp     w11, w12, [x1], #8
    add     x9, x9, x0
    add     x10, x10, x0
    add     x11, x11, x0
    add     x12, x12, x0
    cmp     x7, #0
    csel    x19, x8, x7, eq
    mov     x20, #0
12: add     x16, x6, x20                // the next 4 output channels
    mov     x15, x4
    uq_clear_wide
13: ldp     w13, w14, [x15], #8         // a segment: its tap, first step and number of steps
    ldr     w17, [x15], #8
    ldrsw   x13, [x3, w13, uxtw #2]
    add     x13, x13, w14, uxtw #4
    add     x22, x9, x13
    add     x23, x10, x13
    add     x24, x11, x13
    add     x25, x12, x13
    subs    w17, w17, #2
    b.lo    15f
14: ldp     q16, q17, [x22], #32
    ldp     q18, q19, [x23], #32
    ldp     q20, q21, [x24], #32
    ldp     q22, q23, [x25], #32
    uq_step_wide \kind, 16, 18, 20, 22
    uq_step_wide \kind, 17, 19, 21, 23
    subs    w17, w17, #2
    b.hs    14b
15: tbz     w17, #0, 16f
    ldr     q16, [x22]
    ldr     q18, [x23]
    ldr     q20, [x24]
    ldr     q22, [x25]
    uq_step_wide \kind, 16, 18, 20, 22
16: cmp     x15, x5
    b.ne    13b
    uq_reduce_wide8
    add     x20, x20, #64
    cmp     x20, #256
    b.ne    12b
    add     x8, x8, #192
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
    .size   \name, . - \name
.endm

.macro uq_clear_wide
    movi    v0.4s, #0
    movi    v1.4s, #0
    movi    v2.4s, #0
    movi    v3.4s, #0
    movi    v4.4s, #0
    movi    v5.4s, #0
    movi    v6.4s, #0
    movi    v7.4s, #0
    movi    v8.4s, #0
    movi    v9.4s, #0
    movi    v10.4s, #0
    movi    v11.4s, #0
    movi    v12.4s, #0
    movi    v13.4s, #0
    movi    v14.4s, #0
    movi    v15.4s, #0
.endm

// Adds the lanes up and stores.
.macro uq_reduce_wide8
    ldr     q17, [x19, #64]
    ldr     q18, [x19, #128]
    ldr     q19, [x19, #192]
    ldr     q16, [x19], #16
    addp    v0.4s, v0.4s, v4.4s
    addp    v1.4s, v1.4s, v5.4s
    addp    v2.4s, v2.4s, v6.4s
    addp    v3.4s, v3.4s, v7.4s
    addp    v8.4s, v8.4s, v12.4s
    addp    v9.4s, v9.4s, v13.4s
    addp    v10.4s, v10.4s, v14.4s
    addp    v11.4s, v11.4s, v15.4s
    addp    v0.4s, v0.4s, v8.4s
    addp    v1.4s, v1.4s, v9.4s
    addp    v2.4s, v2.4s, v10.4s
    addp    v3.4s, v3.4s, v11.4s
    add     v0.4s, v0.4s, v16.4s
    add     v1.4s, v1.4s, v17.4s
    add     v2.4s, v2.4s, v18.4s
    add     v3.4s, v3.4s, v19.4s
    str     q1, [x8, #64]
    str     q2, [x8, #128]
    str     q3, [x8, #192]
    str     q0, [x8], #16
.endm

uq_tile_wide uq_tile_w_4x4__neon, w
uq_tile_wide uq_tile_plain_4x4__neon, plain
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 4;
constexpr uint32_t kGroup = 16;
constexpr uint32_t kSegments = 32;  // that a call of the assembly takes

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
};
static_assert(sizeof(TileRun) == 72 && sizeof(Segment) == 16, "the assembly has these offsets in it");

extern "C" {
void uq_tile_w_4x4__neon(const TileRun* run);
void uq_tile_plain_4x4__neon(const TileRun* run);
}

// Segments end where lanes of other kernels are full; here those without a gap are one.
void run_tiles(const ConvTile& tile, void (*assembly)(const TileRun*)) {
    if (tile.pixel_count == 0 || tile.segment_count == 0) return;
    int32_t start[kPixels][kBlock];
    if (tile.start)
        for (auto& row : start) memcpy(row, tile.start, sizeof row);
    Segment merged[kSegments];
    TileRun run = {};
    run.rows = tile.rows;
    run.pixel_offsets = tile.pixel_offsets;
    run.pixel_groups = (tile.pixel_count + kPixels - 1) / kPixels;
    run.tap_offsets = tile.tap_offsets;
    run.segments = merged;
    run.start = tile.start ? start[0] : nullptr;
    run.sums = tile.sums;
    auto* weights = static_cast<const int8_t*>(tile.weights);
    uint32_t s = 0;
    while (s < tile.segment_count) {
        uint32_t count = 0;
        size_t steps = 0;
        for (; s < tile.segment_count; ++s) {
            const Segment& next = tile.segments[s];
            Segment* last = count ? &merged[count - 1] : nullptr;
            if (last && next.tap == last->tap && next.first_step == last->first_step + last->step_count) {
                last->step_count += next.step_count;
            } else {
                if (count == kSegments) break;
                merged[count++] = next;
            }
            steps += next.step_count;
        }
        run.end = merged + count;
        run.weights = weights;
        assembly(&run);
        weights += steps * kGroup * kBlock;
        run.start = nullptr;  // the rest is added
    }
}

}  // namespace

void uq_conv_w8a8w_4x4__neon(const ConvTile& tile) {
    run_tiles(tile, uq_tile_w_4x4__neon);
}

void uq_conv_w8a8_4x4__neon(const ConvTile& tile) {
    run_tiles(tile, uq_tile_plain_4x4__neon);
}

}  // namespace uq

#endif
