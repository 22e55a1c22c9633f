// Packs bytes into deflate blocks with fixed codes (RFC 1951): small code and little memory, made for masks.
#ifndef UNETQ_TOOLS_DEFLATE_H
#define UNETQ_TOOLS_DEFLATE_H

#include "inflate.h"

namespace tool {

// Where the packed bytes go.
struct Sink {
    Exit (*put)(void* context, const void* data, size_t bytes);
    void* context;
};

struct Deflate {
    Sink sink;
    Wrapper wrapper;
    uint64_t bits;
    unsigned bit_count;
    uint32_t check, length;
    size_t filled, used;
    uint16_t heads[4096];  // the last place of each hash of three bytes in block, plus 1
    uint8_t block[32768];  // collected and then packed by itself
    uint8_t packed[1024];
};

Exit start_deflate(Deflate* stream, Sink sink, Wrapper wrapper);
Exit deflate(Deflate* stream, const uint8_t* data, size_t bytes);

// Ends the stream with its checksum.
Exit finish_deflate(Deflate* stream);

}  // namespace tool

#endif
