// The two other packings of TIFF: LZW (TIFF 6.0, most significant bit first) and PackBits.
#ifndef UNETQ_TOOLS_RUNS_H
#define UNETQ_TOOLS_RUNS_H

#include "file.h"

namespace tool {

struct Lzw {
    Input input;
    const char* fault;
    bool ended;
    uint32_t bits;
    unsigned bit_count;
    unsigned width;     // of the next code
    uint32_t next;      // the next entry that is made
    uint32_t previous;  // the code before, kNone after a clear
    uint8_t first;      // the first byte of its string
    uint32_t pending;   // bytes of a string in stack, the next one last
    uint16_t prefix[4096];
    uint8_t suffix[4096];
    uint8_t stack[4096];
};

void start_lzw(Lzw* stream, Input input);

// Unpacks up to bytes; fewer at the end or where fault is set.
size_t unpack_lzw(Lzw* stream, uint8_t* dst, size_t bytes);

struct PackBits {
    Input input;
    uint32_t left;  // of a run or of bytes to copy
    int value;      // of a run, -1 while copying
};

void start_packbits(PackBits* stream, Input input);

// Unpacks up to bytes; fewer at the end.
size_t unpack_packbits(PackBits* stream, uint8_t* dst, size_t bytes);

}  // namespace tool

#endif
