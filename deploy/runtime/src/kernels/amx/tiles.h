// The tile registers: eight of at most 16 rows x 64 bytes. With UNETQ_EMULATE_AMX they are plain arrays, so that the
// kernel above them is tested on any processor (tests/kernels/amx.cpp); what they do on one that has them follows
// Intel's Architecture Instruction Set Extensions reference, chapter 3, and has not been run: no such processor was at
// hand.
//
// The instructions are written out because gcc 12's intrinsics do not tell the compiler that they read and write
// memory: it then drops stores to what they load (a configuration on the stack became one of garbage, and SIGILL).
#ifndef UNETQ_AMX_TILES_H
#define UNETQ_AMX_TILES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace uq {
namespace {

// The operand of LDTILECFG.
struct alignas(64) TileShapes {
    uint8_t palette;
    uint8_t first_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64, "as LDTILECFG reads it");

#ifdef UNETQ_EMULATE_AMX

struct EmulatedTiles {
    TileShapes shapes;
    uint8_t bytes[8][16][64];
};
EmulatedTiles emulated_tiles;

// What would be an exception on a processor.
inline void demand(bool holds) {
    if (!holds) __builtin_trap();
}

inline void open_tiles(const TileShapes& shapes) {
    for (uint32_t t = 0; t < 16; ++t) {
        const bool used = t < 8 && shapes.rows[t] != 0;
        demand(used ? shapes.rows[t] <= 16 && shapes.row_bytes[t] != 0 && shapes.row_bytes[t] <= 64
                    : shapes.rows[t] == 0 && shapes.row_bytes[t] == 0);
    }
    demand(shapes.palette == 1 && shapes.first_row == 0);
    for (uint8_t byte : shapes.reserved) demand(byte == 0);
    memset(&emulated_tiles, 0, sizeof emulated_tiles);
    emulated_tiles.shapes = shapes;
}

inline void close_tiles() {
    memset(&emulated_tiles, 0, sizeof emulated_tiles);
}

template <int kTile>
inline void load_tile(const void* from, size_t stride) {
    const TileShapes& shapes = emulated_tiles.shapes;
    demand(shapes.rows[kTile] != 0);
    memset(emulated_tiles.bytes[kTile], 0, sizeof emulated_tiles.bytes[kTile]);
    for (uint32_t r = 0; r < shapes.rows[kTile]; ++r)
        memcpy(emulated_tiles.bytes[kTile][r], static_cast<const uint8_t*>(from) + r * stride, shapes.row_bytes[kTile]);
}

template <int kTile>
inline void store_tile(void* to, size_t stride) {
    const TileShapes& shapes = emulated_tiles.shapes;
    demand(shapes.rows[kTile] != 0);
    for (uint32_t r = 0; r < shapes.rows[kTile]; ++r)
        memcpy(static_cast<uint8_t*>(to) + r * stride, emulated_tiles.bytes[kTile][r], shapes.row_bytes[kTile]);
}

// TDPBUSD: int32 sums[m][n] += codes[m][4 k + i] * weights[k][4 n + i], unsigned by signed bytes, modulo 2^32.
template <int kSums, int kCodes, int kWeights>
inline void multiply_tiles() {
    EmulatedTiles& t = emulated_tiles;
    const TileShapes& s = t.shapes;
    demand(s.rows[kSums] == s.rows[kCodes] && s.row_bytes[kSums] == s.row_bytes[kWeights]);
    demand(s.row_bytes[kCodes] == 4 * s.rows[kWeights] && s.rows[kSums] != 0 && s.rows[kWeights] != 0);
    for (uint32_t m = 0; m < s.rows[kSums]; ++m) {
        for (uint32_t n = 0; n < s.row_bytes[kSums] / 4u; ++n) {
            uint32_t sum;
            memcpy(&sum, &t.bytes[kSums][m][4 * n], sizeof sum);
            for (uint32_t k = 0; k < s.rows[kWeights]; ++k)
                for (uint32_t i = 0; i < 4; ++i)
                    sum += static_cast<uint32_t>(t.bytes[kCodes][m][4 * k + i] *
                                                 static_cast<int8_t>(t.bytes[kWeights][k][4 * n + i]));
            memcpy(&t.bytes[kSums][m][4 * n], &sum, sizeof sum);
        }
    }
}

#else

inline void open_tiles(const TileShapes& shapes) {
    asm volatile("ldtilecfg %0" ::"m"(shapes) : "memory");
}

// Tiles that hold nothing need not be saved when threads change.
inline void close_tiles() {
    asm volatile("tilerelease" ::: "memory");
}

template <int kTile>
inline void load_tile(const void* from, size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
inline void store_tile(void* to, size_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}

template <int kSums, int kCodes, int kWeights>
inline void multiply_tiles() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kCodes), "i"(kWeights));
}

#endif

}  // namespace
}  // namespace uq

#endif
