#include "deflate.h"

#include <string.h>

#include "../src/crc32.h"
#include "adler32.h"
#include "numbers.h"

namespace tool {
namespace {

constexpr unsigned kLongest = 258, kShortest = 3;

Exit put_packed(Deflate* s) {
    const size_t bytes = s->used;
    s->used = 0;
    return s->sink.put(s->sink.context, s->packed, bytes);
}

// Adds count (at most 16) bits, the lowest first.
Exit put_bits(Deflate* s, uint32_t value, unsigned count) {
    s->bits |= static_cast<uint64_t>(value) << s->bit_count;
    s->bit_count += count;
    for (; s->bit_count >= 8; s->bit_count -= 8, s->bits >>= 8) {
        s->packed[s->used++] = static_cast<uint8_t>(s->bits);
        if (s->used == sizeof s->packed) TOOL_TRY(put_packed(s));
    }
    return kDone;
}

// Huffman codes go with their highest bit first.
Exit put_code(Deflate* s, uint32_t code, unsigned count) {
    uint32_t reversed = 0;
    for (unsigned i = 0; i < count; ++i) reversed |= (code >> i & 1) << (count - 1 - i);
    return put_bits(s, reversed, count);
}

// The fixed code of a literal or length (RFC 1951, 3.2.6).
Exit put_symbol(Deflate* s, unsigned symbol) {
    if (symbol < 144) return put_code(s, 48 + symbol, 8);
    if (symbol < 256) return put_code(s, 400 + symbol - 144, 9);
    return symbol < 280 ? put_code(s, symbol - 256, 7) : put_code(s, 192 + symbol - 280, 8);
}

unsigned top_bit(unsigned value) {
    unsigned bit = 0;
    while (value >>= 1) ++bit;
    return bit;
}

// Lengths from 3 and distances from 1 have a symbol for each, then ranges that double every 4 and 2 symbols.
Exit put_match(Deflate* s, unsigned length, unsigned distance) {
    const unsigned l = length - kShortest, d = distance - 1;
    if (length == kLongest) {
        TOOL_TRY(put_symbol(s, 285));
    } else if (l < 8) {
        TOOL_TRY(put_symbol(s, 257 + l));
    } else {
        const unsigned extra = top_bit(l) - 2;
        TOOL_TRY(put_symbol(s, 257 + 4 * extra + (l >> extra)));
        TOOL_TRY(put_bits(s, l & ((1u << extra) - 1), extra));
    }
    if (d < 4) return put_code(s, d, 5);
    const unsigned extra = top_bit(d) - 1;
    TOOL_TRY(put_code(s, 2 * extra + (d >> extra), 5));
    return put_bits(s, d & ((1u << extra) - 1), extra);
}

// One block of what was collected; matches stay inside it.
Exit put_block(Deflate* s, bool last) {
    memset(s->heads, 0, sizeof s->heads);
    TOOL_TRY(put_bits(s, last ? 3 : 2, 3));  // whether it is the last one; fixed codes
    const uint8_t* data = s->block;
    for (size_t at = 0; at < s->filled;) {
        size_t length = 0, from = 0;
        if (at + kShortest <= s->filled) {
            const uint32_t three =
                static_cast<uint32_t>(data[at]) << 16 | static_cast<uint32_t>(data[at + 1]) << 8 | data[at + 2];
            uint16_t& head = s->heads[three * 2654435761u >> 20];
            from = head;
            const size_t most = s->filled - at < kLongest ? s->filled - at : kLongest;
            if (from)
                while (length < most && data[from - 1 + length] == data[at + length]) ++length;
            head = static_cast<uint16_t>(at + 1);
        }
        if (length >= kShortest) {
            TOOL_TRY(put_match(s, static_cast<unsigned>(length), static_cast<unsigned>(at + 1 - from)));
            at += length;
        } else {
            TOOL_TRY(put_symbol(s, data[at++]));
        }
    }
    s->filled = 0;
    return put_symbol(s, 256);
}

}  // namespace

Exit start_deflate(Deflate* s, Sink sink, Wrapper wrapper) {
    s->sink = sink;
    s->wrapper = wrapper;
    s->bits = 0;
    s->bit_count = 0;
    s->length = 0;
    s->filled = s->used = 0;
    s->check = wrapper == Wrapper::kZlib ? 1 : 0;
    if (wrapper == Wrapper::kZlib) return sink.put(sink.context, "\x78\x01", 2);
    return sink.put(sink.context, "\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);  // no name, no time
}

Exit deflate(Deflate* s, const uint8_t* data, size_t bytes) {
    s->check = s->wrapper == Wrapper::kZlib ? adler32(s->check, data, bytes) : uq::crc32(s->check, data, bytes);
    s->length += static_cast<uint32_t>(bytes);
    while (bytes) {
        if (s->filled == sizeof s->block) TOOL_TRY(put_block(s, false));
        const size_t room = sizeof s->block - s->filled, run = bytes < room ? bytes : room;
        memcpy(s->block + s->filled, data, run);
        s->filled += run;
        data += run;
        bytes -= run;
    }
    return kDone;
}

Exit finish_deflate(Deflate* s) {
    TOOL_TRY(put_block(s, true));
    TOOL_TRY(put_bits(s, 0, (8 - s->bit_count) % 8));
    TOOL_TRY(put_packed(s));
    uint8_t tail[8];
    const bool zlib = s->wrapper == Wrapper::kZlib;
    store_32(tail, s->check, zlib);
    store_32(tail + 4, s->length, false);
    return s->sink.put(s->sink.context, tail, zlib ? 4 : 8);
}

}  // namespace tool
