// Convolution in bits on Armv8.0: tiles of 4 pixels x 16 output channels, steps of 32 input channels.
//
//     v0  - v15   ones of (pixel p, output channels 4q ... 4q + 3) in the bytes of v(4p + q)
//     v16 - v19   words of the 16 output channels, and v20 - v23 (sign) those of the negative ones
//     v24 - v27   a word of each of the 4 pixels in all lanes
//     v28 - v31   what is counted
// A step takes two loads (sign: three) and eor or and, cnt, add for each of 4 x 16 x 32 products of bits. Up to 31 steps
// are added in bytes (31 * 8 <= 255), then the four bytes of an output channel together.
#if defined(__aarch64__)

#include "neon.h"

asm(R"(
.macro uq_bits_load form
    ld4r    {v24.4s, v25.4s, v26.4s, v27.4s}, [x9], #16
    ld1     {v16.4s, v17.4s, v18.4s, v19.4s}, [x10], #64
    .ifc \form, sign
    ld1     {v20.4s, v21.4s, v22.4s, v23.4s}, [x10], #64
    .endif
.endm

// v28 - v31: the bits of the pixel in u that count.
.macro uq_bits_select form, u
    .ifc \form, sign
    eor     v28.16b, v\u\().16b, v20.16b
    eor     v29.16b, v\u\().16b, v21.16b
    eor     v30.16b, v\u\().16b, v22.16b
    eor     v31.16b, v\u\().16b, v23.16b
    and     v28.16b, v28.16b, v16.16b
    and     v29.16b, v29.16b, v17.16b
    and     v30.16b, v30.16b, v18.16b
    and     v31.16b, v31.16b, v19.16b
    .else
    \form    v28.16b, v\u\().16b, v16.16b
    \form    v29.16b, v\u\().16b, v17.16b
    \form    v30.16b, v\u\().16b, v18.16b
    \form    v31.16b, v\u\().16b, v19.16b
    .endif
.endm

.macro uq_bits_begin form, u, a, b, c, d
    uq_bits_select \form, \u
    cnt     v\a\().16b, v28.16b
    cnt     v\b\().16b, v29.16b
    cnt     v\c\().16b, v30.16b
    cnt     v\d\().16b, v31.16b
.endm

.macro uq_bits_go_on form, u, a, b, c, d
    uq_bits_select \form, \u
    cnt     v28.16b, v28.16b
    cnt     v29.16b, v29.16b
    cnt     v30.16b, v30.16b
    cnt     v31.16b, v31.16b
    add     v\a\().16b, v\a\().16b, v28.16b
    add     v\b\().16b, v\b\().16b, v29.16b
    add     v\c\().16b, v\c\().16b, v30.16b
    add     v\d\().16b, v\d\().16b, v31.16b
.endm

.macro uq_bits_step form, what
    uq_bits_load \form
    \what    \form, 24, 0, 1, 2, 3
    \what    \form, 25, 4, 5, 6, 7
    \what    \form, 26, 8, 9, 10, 11
    \what    \form, 27, 12, 13, 14, 15
.endm

// Adds factor times the four bytes of each channel of a pixel to what its sums begin with.
.macro uq_bits_sum a, b, c, d
    ld1     {v16.4s, v17.4s, v18.4s, v19.4s}, [x12], x13
    uaddlp  v\a\().8h, v\a\().16b
    uaddlp  v\b\().8h, v\b\().16b
    uaddlp  v\c\().8h, v\c\().16b
    uaddlp  v\d\().8h, v\d\().16b
    uaddlp  v\a\().4s, v\a\().8h
    uaddlp  v\b\().4s, v\b\().8h
    uaddlp  v\c\().4s, v\c\().8h
    uaddlp  v\d\().4s, v\d\().8h
    mla     v16.4s, v\a\().4s, v20.s[0]
    mla     v17.4s, v\b\().4s, v20.s[0]
    mla     v18.4s, v\c\().4s, v20.s[0]
    mla     v19.4s, v\d\().4s, v20.s[0]
    st1     {v16.4s, v17.4s, v18.4s, v19.4s}, [x6], #64
.endm

// A function of one BitRun (x0): all its tiles.
//     x1 codes   x2 bytes from tile to tile   x3 tiles left   x4 steps   x5 weights   x6 sums   x7 start or 0   x8 factor
//     x9, x10 codes and weights, moving   x11 steps left   x12, x13 where the sums begin, and the way to the next pixel
.macro uq_tile_bits name, form
    .text
    .balign 16
    .hidden \name
    .global \name
    .type   \name, %function
\name:
    stp     d8, d9, [sp, #-64]!
    stp     d10, d11, [sp, #16]
    stp     d12, d13, [sp, #32]
    stp     d14, d15, [sp, #48]
    ldp     x7, x8, [x0, #48]
    ldp     x5, x6, [x0, #32]
    ldp     x3, x4, [x0, #16]
    ldp     x1, x2, [x0]
    cmp     x7, #0
    mov     x13, #64
    csel    x13, x13, xzr, eq
1:  mov     x9, x1
    mov     x10, x5
    add     x1, x1, x2
    uq_bits_step \form, uq_bits_begin
    subs    w11, w4, #1
    b.eq    4f
    tbz     w11, #0, 3f
    uq_bits_step \form, uq_bits_go_on
    subs    w11, w11, #1
    b.eq    4f
3:  uq_bits_step \form, uq_bits_go_on
    uq_bits_step \form, uq_bits_go_on
    subs    w11, w11, #2
    b.ne    3b
4:  cmp     x7, #0
    csel    x12, x6, x7, eq
    fmov    s20, w8
    uq_bits_sum 0, 1, 2, 3
    uq_bits_sum 4, 5, 6, 7
    uq_bits_sum 8, 9, 10, 11
    uq_bits_sum 12, 13, 14, 15
    subs    x3, x3, #1
    b.ne    1b
    ldp     d10, d11, [sp, #16]
    ldp     d12, d13, [sp, #32]
    ldp     d14, d15, [sp, #48]
    ldp     d8, d9, [sp], #64
    ret
    .size   \name, . - \name
.endm

uq_tile_bits uq_tile_xor__neon, eor
uq_tile_bits uq_tile_and__neon, and
uq_tile_bits uq_tile_sign__neon, sign
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 4;
constexpr uint32_t kByteSteps = 31;

// What the assembly above reads.
struct BitRun {
    const uint32_t* codes;
    uint64_t tile_bytes;
    uint64_t tiles;
    uint64_t steps;  // at most kByteSteps
    const uint32_t* weights;
    int32_t* sums;
    const int32_t* start;
    int64_t factor;
};
static_assert(sizeof(BitRun) == 64, "the assembly has these offsets in it");

extern "C" {
void uq_tile_xor__neon(const BitRun* run);
void uq_tile_and__neon(const BitRun* run);
void uq_tile_sign__neon(const BitRun* run);
}

// Plane by plane, each in runs of steps that bytes hold, all of about the same length.
template <void (*kRun)(const BitRun*), uint32_t kWords>
void run(const BitTile& tile) {
    if (tile.pixel_count == 0 || tile.steps == 0) return;
    const uint32_t parts = (tile.steps + kByteSteps - 1) / kByteSteps;
    BitRun run = {};
    run.tile_bytes = tile.tile_stride * sizeof(uint32_t);
    run.tiles = (tile.pixel_count + kPixels - 1) / kPixels;
    run.sums = tile.sums;
    run.start = tile.start;
    for (uint32_t j = 0; j < tile.planes; ++j) {
        run.codes = tile.codes + j * tile.plane_stride;
        run.weights = tile.weights;
        run.factor = tile.factor * (1 << j);
        for (uint32_t part = 0; part < parts; ++part) {
            run.steps = static_cast<uint64_t>(tile.steps) * (part + 1) / parts -
                        static_cast<uint64_t>(tile.steps) * part / parts;
            kRun(&run);
            run.codes += run.steps * kPixels;
            run.weights += run.steps * kWords * kBlock;
            run.start = nullptr;
        }
    }
}

// Counted instructions, as in fill.cpp.
const BitConv kBitConv = {kPixels,
                          UINT32_MAX,
                          {{"uq_conv_xor_w1a1_4x16__neon", run<uq_tile_xor__neon, 1>, 26},
                           {"uq_conv_and_w1a1_4x16__neon", run<uq_tile_and__neon, 1>, 26},
                           {"uq_conv_sign_w2a1_4x16__neon", run<uq_tile_sign__neon, 2>, 34}},
                          4000,
                          1500};

}  // namespace

void uq_fill_bits__neon(Kernels* kernels) {
    kernels->bit_conv = &kBitConv;
}

}  // namespace uq

#endif
