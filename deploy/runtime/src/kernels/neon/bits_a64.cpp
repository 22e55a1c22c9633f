// Convolution in bits on Armv8.0: tiles of 4 pixels x 16 output channels, steps of 32 input channels. A lane of 32 bits
// is an output channel, so that nothing is added across lanes until the end.
//
//     v0  - v15   ones of (pixel p, output channels 4k ... 4k + 3) in the bytes of v(4p + k)
//     v16 - v19   a step's weights, 4 output channels each
//     v20 - v23   a step's codes, a pixel each, the same word in every lane (ld4r)
//     v24 - v31   what is counted
//
// Bytes take 31 steps (31 * 8 <= 255); then pairs of them are added to lanes of 16 bits, which wait on the stack in the
// meantime. A plane counts twice as much as the one below it: planes go from the highest to the lowest, and what is
// there is doubled in between.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "neon.h"

asm(R"(
// Four counts: begun, or added to.
.macro uq_bits_count begin, c0, c1, c2, c3, t0, t1, t2, t3
    .if \begin
    cnt     v\c0\().16b, v\t0\().16b
    cnt     v\c1\().16b, v\t1\().16b
    cnt     v\c2\().16b, v\t2\().16b
    cnt     v\c3\().16b, v\t3\().16b
    .else
    cnt     v\t0\().16b, v\t0\().16b
    cnt     v\t1\().16b, v\t1\().16b
    cnt     v\t2\().16b, v\t2\().16b
    cnt     v\t3\().16b, v\t3\().16b
    add     v\c0\().16b, v\c0\().16b, v\t0\().16b
    add     v\c1\().16b, v\c1\().16b, v\t1\().16b
    add     v\c2\().16b, v\c2\().16b, v\t2\().16b
    add     v\c3\().16b, v\c3\().16b, v\t3\().16b
    .endif
.endm

// Pixel u. op: eor, and.
.macro uq_bits_plain op, begin, u, c0, c1, c2, c3, t0, t1, t2, t3
    \op     v\t0\().16b, v16.16b, v\u\().16b
    \op     v\t1\().16b, v17.16b, v\u\().16b
    \op     v\t2\().16b, v18.16b, v\u\().16b
    \op     v\t3\().16b, v19.16b, v\u\().16b
    uq_bits_count \begin, \c0, \c1, \c2, \c3, \t0, \t1, \t2, \t3
.endm

// The same for signs: where codes are 1, bit puts the positive weights into the negative ones.
.macro uq_bits_signs begin, u, c0, c1, c2, c3, t0, t1, t2, t3
    bit     v\t0\().16b, v16.16b, v\u\().16b
    bit     v\t1\().16b, v17.16b, v\u\().16b
    bit     v\t2\().16b, v18.16b, v\u\().16b
    bit     v\t3\().16b, v19.16b, v\u\().16b
    uq_bits_count \begin, \c0, \c1, \c2, \c3, \t0, \t1, \t2, \t3
.endm

.macro uq_bits_load
    ld4r    {v20.4s, v21.4s, v22.4s, v23.4s}, [x12], #16
    ld1     {v16.16b, v17.16b, v18.16b, v19.16b}, [x13], #64
.endm

.macro uq_bits_step_eor begin
    uq_bits_load
    uq_bits_plain eor, \begin, 20, 0, 1, 2, 3, 24, 25, 26, 27
    uq_bits_plain eor, \begin, 21, 4, 5, 6, 7, 28, 29, 30, 31
    uq_bits_plain eor, \begin, 22, 8, 9, 10, 11, 24, 25, 26, 27
    uq_bits_plain eor, \begin, 23, 12, 13, 14, 15, 28, 29, 30, 31
.endm

.macro uq_bits_step_and begin
    uq_bits_load
    uq_bits_plain and, \begin, 20, 0, 1, 2, 3, 24, 25, 26, 27
    uq_bits_plain and, \begin, 21, 4, 5, 6, 7, 28, 29, 30, 31
    uq_bits_plain and, \begin, 22, 8, 9, 10, 11, 24, 25, 26, 27
    uq_bits_plain and, \begin, 23, 12, 13, 14, 15, 28, 29, 30, 31
.endm

// bit overwrites the negative weights, so that every pixel loads them anew: one instruction, where copies are four.
.macro uq_bits_step_bit begin
    uq_bits_load
    ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [x13]
    ld1     {v28.16b, v29.16b, v30.16b, v31.16b}, [x13]
    uq_bits_signs \begin, 20, 0, 1, 2, 3, 24, 25, 26, 27
    ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [x13]
    uq_bits_signs \begin, 21, 4, 5, 6, 7, 28, 29, 30, 31
    ld1     {v28.16b, v29.16b, v30.16b, v31.16b}, [x13], #64
    uq_bits_signs \begin, 22, 8, 9, 10, 11, 24, 25, 26, 27
    uq_bits_signs \begin, 23, 12, 13, 14, 15, 28, 29, 30, 31
.endm

// op on v16 ... v31, each from its counts in v0 ... v15.
.macro uq_bits_fold op, wide, narrow
    \op     v16.\wide, v0.\narrow
    \op     v17.\wide, v1.\narrow
    \op     v18.\wide, v2.\narrow
    \op     v19.\wide, v3.\narrow
    \op     v20.\wide, v4.\narrow
    \op     v21.\wide, v5.\narrow
    \op     v22.\wide, v6.\narrow
    \op     v23.\wide, v7.\narrow
    \op     v24.\wide, v8.\narrow
    \op     v25.\wide, v9.\narrow
    \op     v26.\wide, v10.\narrow
    \op     v27.\wide, v11.\narrow
    \op     v28.\wide, v12.\narrow
    \op     v29.\wide, v13.\narrow
    \op     v30.\wide, v14.\narrow
    \op     v31.\wide, v15.\narrow
.endm

// op on each of v16 ... v31 by itself.
.macro uq_bits_each op, wide, narrow, more
    \op     v16.\wide, v16.\narrow \more
    \op     v17.\wide, v17.\narrow \more
    \op     v18.\wide, v18.\narrow \more
    \op     v19.\wide, v19.\narrow \more
    \op     v20.\wide, v20.\narrow \more
    \op     v21.\wide, v21.\narrow \more
    \op     v22.\wide, v22.\narrow \more
    \op     v23.\wide, v23.\narrow \more
    \op     v24.\wide, v24.\narrow \more
    \op     v25.\wide, v25.\narrow \more
    \op     v26.\wide, v26.\narrow \more
    \op     v27.\wide, v27.\narrow \more
    \op     v28.\wide, v28.\narrow \more
    \op     v29.\wide, v29.\narrow \more
    \op     v30.\wide, v30.\narrow \more
    \op     v31.\wide, v31.\narrow \more
.endm

.macro uq_bits_stack op
    mov     x17, sp
    \op     {v16.8h, v17.8h, v18.8h, v19.8h}, [x17], #64
    \op     {v20.8h, v21.8h, v22.8h, v23.8h}, [x17], #64
    \op     {v24.8h, v25.8h, v26.8h, v27.8h}, [x17], #64
    \op     {v28.8h, v29.8h, v30.8h, v31.8h}, [x17]
.endm

// A pixel's sums: what was there plus (add) or minus (sub) what was counted.
.macro uq_bits_sum op, r0, r1, r2, r3
    ld1     {v0.4s, v1.4s, v2.4s, v3.4s}, [x19], x20
    \op     v0.4s, v0.4s, v\r0\().4s
    \op     v1.4s, v1.4s, v\r1\().4s
    \op     v2.4s, v2.4s, v\r2\().4s
    \op     v3.4s, v3.4s, v\r3\().4s
    st1     {v0.4s, v1.4s, v2.4s, v3.4s}, [x8], #64
.endm

.macro uq_bits_sums op
    uq_bits_sum \op, 16, 17, 18, 19
    uq_bits_sum \op, 20, 21, 22, 23
    uq_bits_sum \op, 24, 25, 26, 27
    uq_bits_sum \op, 28, 29, 30, 31
.endm

// A function of one BitRun (x0).
//     x1 codes of the tile   x2, x3 bytes to the next plane and tile   x4 planes   x5 tiles left   x6 steps
//     x7 weights   x8 sums   x9 factor   x10 planes left   x11 codes of the plane   x12, x13 codes and weights, moving
//     x14 steps left   x15 of them in this run of bytes   x16 0: nothing is counted yet; bit 1: a plane has ended
//     x19, x20 where the sums begin, and the way from pixel to pixel there   x21 31
.macro uq_bits_function name, step
    .text
    .balign 16
    .hidden \name
    .global \name
    .type   \name, %function
\name:
    stp     d8, d9, [sp, #-96]!
    stp     d10, d11, [sp, #16]
    stp     d12, d13, [sp, #32]
    stp     d14, d15, [sp, #48]
    stp     x19, x20, [sp, #64]
    str     x21, [sp, #80]
    sub     sp, sp, #256
    ldp     x1, x2, [x0]
    ldp     x3, x4, [x0, #16]
    ldp     x5, x6, [x0, #32]
    ldp     x7, x19, [x0, #48]
    ldp     x8, x9, [x0, #64]
    mov     x21, #31
    cmp     x19, #0
    mov     x20, #64
    csel    x20, x20, xzr, eq
    csel    x19, x8, x19, eq
10: sub     x10, x4, #1
    madd    x11, x10, x2, x1
    add     x10, x10, #1
    mov     x16, #0
11: mov     x12, x11
    mov     x13, x7
    mov     x14, x6
12: cmp     x14, #31
    csel    x15, x14, x21, ls
    sub     x14, x14, x15
    \step   1
    subs    x15, x15, #1
    b.eq    16f
    subs    x15, x15, #4
    b.lt    14f
13: \step   0
    \step   0
    \step   0
    \step   0
    subs    x15, x15, #4
    b.ge    13b
14: adds    x15, x15, #4
    b.eq    16f
15: \step   0
    subs    x15, x15, #1
    b.ne    15b
16: cbnz    x16, 17f
    uq_bits_fold uaddlp, 8h, 16b
    b       19f
17: uq_bits_stack ld1
    tbz     x16, #1, 18f
    uq_bits_each shl, 8h, 8h, ", #1"
18: uq_bits_fold uadalp, 8h, 16b
19: mov     x16, #1
    cbz     x14, 20f
    uq_bits_stack st1
    b       12b
20: subs    x10, x10, #1
    b.eq    21f
    uq_bits_stack st1
    mov     x16, #3
    sub     x11, x11, x2
    b       11b
21: uq_bits_each uaddlp, 4s, 8h
    tbnz    x9, #63, 22f
    uq_bits_sums add
    b       24f
22: tbnz    x9, #0, 23f
    uq_bits_each shl, 4s, 4s, ", #1"
23: uq_bits_sums sub
24: add     x1, x1, x3
    subs    x5, x5, #1
    b.ne    10b
    add     sp, sp, #256
    ldp     d10, d11, [sp, #16]
    ldp     d12, d13, [sp, #32]
    ldp     d14, d15, [sp, #48]
    ldp     x19, x20, [sp, #64]
    ldr     x21, [sp, #80]
    ldp     d8, d9, [sp], #96
    ret
    .size   \name, . - \name
.endm

uq_bits_function uq_bits_xor__neon, uq_bits_step_eor
uq_bits_function uq_bits_and__neon, uq_bits_step_and
uq_bits_function uq_bits_sign__neon, uq_bits_step_bit
)");

namespace uq {
namespace {

constexpr uint32_t kPixels = 4;

// What the assembly above reads.
struct BitRun {
    const uint32_t* codes;
    uint64_t plane_bytes;
    uint64_t tile_bytes;
    uint64_t planes;
    uint64_t tiles;
    uint64_t steps;
    const uint32_t* weights;
    const int32_t* start;
    int32_t* sums;
    int64_t factor;
};
static_assert(sizeof(BitRun) == 80, "the assembly has these offsets in it");

extern "C" {
void uq_bits_xor__neon(const BitRun* run);
void uq_bits_and__neon(const BitRun* run);
void uq_bits_sign__neon(const BitRun* run);
}

template <void (*kRun)(const BitRun*)>
void run(const BitTile& tile) {
    if (tile.pixel_count == 0 || tile.steps == 0) return;
    const BitRun run = {tile.codes,
                        tile.plane_stride * sizeof(uint32_t),
                        tile.tile_stride * sizeof(uint32_t),
                        tile.planes,
                        (tile.pixel_count + kPixels - 1) / kPixels,
                        tile.steps,
                        tile.weights,
                        tile.start,
                        tile.sums,
                        tile.factor};
    kRun(&run);
}

// Four words of four pixels, each pixel's into a lane (ld4 to one lane), are four rows of the result.
void arrange4(const uint8_t* rows, const uint32_t* pixel_offsets, const int32_t* tap_offsets, uint32_t taps,
              uint32_t words, uint32_t* dst) {
    const size_t row = static_cast<size_t>(taps) * kPixels;
    const uint8_t *pixel0 = rows + pixel_offsets[0], *pixel1 = rows + pixel_offsets[1];
    const uint8_t *pixel2 = rows + pixel_offsets[2], *pixel3 = rows + pixel_offsets[3];
    for (uint32_t t = 0; t < taps; ++t, dst += kPixels) {
        const ptrdiff_t tap = tap_offsets[t];
        const auto* p0 = reinterpret_cast<const uint32_t*>(pixel0 + tap);
        const auto* p1 = reinterpret_cast<const uint32_t*>(pixel1 + tap);
        const auto* p2 = reinterpret_cast<const uint32_t*>(pixel2 + tap);
        const auto* p3 = reinterpret_cast<const uint32_t*>(pixel3 + tap);
        uint32_t* out = dst;
        uint32_t j = 0;
        // In assembly, as compilers copy the registers in between.
        for (; j + 4 <= words; j += 4, out += 4 * row)
            asm("ld4 {v16.s, v17.s, v18.s, v19.s}[0], [%0], #16\n"
                "ld4 {v16.s, v17.s, v18.s, v19.s}[1], [%1], #16\n"
                "ld4 {v16.s, v17.s, v18.s, v19.s}[2], [%2], #16\n"
                "ld4 {v16.s, v17.s, v18.s, v19.s}[3], [%3], #16\n"
                "str q16, [%4]\n"
                "str q17, [%4, %5]\n"
                "str q18, [%4, %6]\n"
                "str q19, [%4, %7]\n"
                : "+r"(p0), "+r"(p1), "+r"(p2), "+r"(p3)
                : "r"(out), "r"(4 * row), "r"(8 * row), "r"(12 * row)
                : "v16", "v17", "v18", "v19", "memory");
        for (; j + 2 <= words; j += 2, out += 2 * row)
            asm("ld2 {v16.s, v17.s}[0], [%0], #8\n"
                "ld2 {v16.s, v17.s}[1], [%1], #8\n"
                "ld2 {v16.s, v17.s}[2], [%2], #8\n"
                "ld2 {v16.s, v17.s}[3], [%3], #8\n"
                "str q16, [%4]\n"
                "str q17, [%4, %5]\n"
                : "+r"(p0), "+r"(p1), "+r"(p2), "+r"(p3)
                : "r"(out), "r"(4 * row)
                : "v16", "v17", "memory");
        if (j < words) {
            const uint32x4_t v = {*p0, *p1, *p2, *p3};
            vst1q_u32(out, v);
        }
    }
}

// At most 16 ones a step in a lane of 16 bits. Costs are counted instructions, as in fill.cpp.
const BitConv kBitConv = {kPixels,
                          UINT16_MAX / 16,
                          arrange4,
                          {{"uq_conv_xor_w1a1_4x16__neon", run<uq_bits_xor__neon>, 25},
                           {"uq_conv_and_w1a1_4x16__neon", run<uq_bits_and__neon>, 25},
                           {"uq_conv_sign_w2a1_4x16__neon", run<uq_bits_sign__neon>, 27}},
                          1500,
                          1000};

}  // namespace

void uq_fill_bits__neon(Kernels* kernels) {
    kernels->bit_conv = &kBitConv;
}

}  // namespace uq

#endif
