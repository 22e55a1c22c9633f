// Unpacks deflate (RFC 1951), and what is around it in zlib (RFC 1950) and gzip (RFC 1952) streams, as it is read.
#ifndef UNETQ_TOOLS_INFLATE_H
#define UNETQ_TOOLS_INFLATE_H

#include "file.h"

namespace tool {

enum class Wrapper : uint8_t { kZlib, kGzip };

// A canonical Huffman code: symbols ordered by length and value, and a table for codes of at most kFastBits.
struct HuffmanCode {
    static constexpr unsigned kFastBits = 9;
    uint16_t fast[1u << kFastBits];  // length << 9 | symbol; 0 where the code is longer
    uint16_t count[16];
    uint16_t symbol[288];
};

struct Inflate {
    enum State : uint8_t { kOpen, kBlock, kStored, kCodes, kMatch, kClose, kEnd };

    Input input;
    Wrapper wrapper;
    State state;
    bool last_block;
    const char* fault;  // what is wrong with the stream; NULL while nothing is
    uint32_t bits;      // read and not yet used, the next one lowest
    unsigned bit_count;
    uint32_t left;      // of a stored block or a match
    uint32_t distance;  // of a match
    uint32_t at;        // in the window
    uint32_t history;   // bytes of this member in the window
    uint32_t check;     // Adler-32 or CRC-32 of this member so far
    uint32_t length;    // of this member, modulo 2^32
    HuffmanCode literals, distances;
    uint8_t window[32768];
};

void start_inflate(Inflate* stream, Input input, Wrapper wrapper);

// Unpacks up to bytes; fewer only at the end (whose checksum was right) or where fault is set.
size_t inflate(Inflate* stream, uint8_t* dst, size_t bytes);

}  // namespace tool

#endif
