// A stretch of a file as bytes in order, unpacked on the way where it is packed.
#ifndef UNETQ_TOOLS_STREAM_H
#define UNETQ_TOOLS_STREAM_H

#include "inflate.h"
#include "runs.h"

namespace tool {

enum class Packing : uint8_t { kNone, kZlib, kGzip, kLzw, kPackBits };

struct Stream {
    Packing packing;
    Cursor cursor;
    union {
        Input plain;
        Inflate inflate;
        Lzw lzw;
        PackBits packbits;
    };
};

void start_stream(Stream* stream, const File* file, uint64_t offset, uint64_t bytes, Packing packing);

// Exactly bytes; a sentence where there are fewer or they are damaged.
Exit read_stream(Stream* stream, void* dst, size_t bytes);
Exit skip_stream(Stream* stream, uint64_t bytes);

// Unpacks what is left, so that its checksum is checked; does nothing for bytes without one.
Exit finish_stream(Stream* stream);

// The most bytes that one packed byte can stand for: what a file of a given size cannot hold is refused before memory
// is asked for.
uint64_t most_unpacked(Packing packing, uint64_t packed_bytes);

}  // namespace tool

#endif
