#include "inflate.h"

#include <string.h>

#include "../src/crc32.h"
#include "adler32.h"

namespace tool {
namespace {

constexpr uint32_t kWindow = sizeof(Inflate::window);

// Makes at least count (at most 16) bits available where the input has as many; fewer at its end.
void fill(Inflate* s, unsigned count) {
    while (s->bit_count < count) {
        const int byte = s->input.next();
        if (byte < 0) return;
        s->bits |= static_cast<uint32_t>(byte) << s->bit_count;
        s->bit_count += 8;
    }
}

uint32_t take(Inflate* s, unsigned count) {
    fill(s, count);
    if (s->bit_count < count) {
        if (!s->fault) s->fault = "it ends too soon";
        return 0;
    }
    const uint32_t value = s->bits & ((1u << count) - 1);
    s->bits >>= count;
    s->bit_count -= count;
    return value;
}

uint32_t take_32(Inflate* s, bool big_endian) {
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; ++i) value |= take(s, 8) << (big_endian ? 24 - 8 * i : 8 * i);
    return value;
}

// Lengths (0: unused) of count symbols to a code. As in RFC 1951 a code must be complete, but for a single symbol of
// one bit; false otherwise.
bool make_code(const uint8_t* lengths, unsigned count, HuffmanCode* code) {
    memset(code->count, 0, sizeof code->count);
    memset(code->fast, 0, sizeof code->fast);
    for (unsigned i = 0; i < count; ++i) ++code->count[lengths[i]];
    const unsigned used = count - code->count[0];
    int32_t room = 1;
    uint16_t next[16], place[16];
    uint16_t first = 0, index = 0;
    code->count[0] = 0;
    for (unsigned length = 1; length < 16; ++length) {
        room = 2 * room - code->count[length];
        if (room < 0) return false;
        first = static_cast<uint16_t>((first + code->count[length - 1]) << 1);
        next[length] = first;
        place[length] = index;
        index = static_cast<uint16_t>(index + code->count[length]);
    }
    if (room > 0 && !(used == 0 || (used == 1 && code->count[1] == 1))) return false;
    for (unsigned i = 0; i < count; ++i) {
        const unsigned length = lengths[i];
        if (length == 0) continue;
        code->symbol[place[length]++] = static_cast<uint16_t>(i);
        const unsigned value = next[length]++;
        if (length > HuffmanCode::kFastBits) continue;
        unsigned reversed = 0;
        for (unsigned k = 0; k < length; ++k) reversed |= (value >> k & 1) << (length - 1 - k);
        for (unsigned k = reversed; k < 1u << HuffmanCode::kFastBits; k += 1u << length)
            code->fast[k] = static_cast<uint16_t>(length << 9 | i);
    }
    return true;
}

// The next symbol; with fault set, 0.
unsigned decode(Inflate* s, const HuffmanCode& code) {
    fill(s, 15);
    const uint16_t entry = code.fast[s->bits & ((1u << HuffmanCode::kFastBits) - 1)];
    if (entry && entry >> 9 <= s->bit_count) {
        s->bits >>= entry >> 9;
        s->bit_count -= entry >> 9;
        return entry & 511;
    }
    uint32_t value = 0, first = 0, index = 0;
    for (unsigned length = 1; length < 16 && length <= s->bit_count; ++length) {
        value |= s->bits >> (length - 1) & 1;
        const uint32_t count = code.count[length];
        if (value - first < count) {
            s->bits >>= length;
            s->bit_count -= length;
            return code.symbol[index + (value - first)];
        }
        index += count;
        first = (first + count) << 1;
        value <<= 1;
    }
    s->fault = s->bit_count < 15 ? "it ends too soon" : "a code that does not exist";
    return 0;
}

void fixed_codes(Inflate* s) {
    uint8_t lengths[288];
    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    memset(lengths + 280, 8, 8);
    make_code(lengths, 288, &s->literals);
    memset(lengths, 5, 32);
    make_code(lengths, 32, &s->distances);
}

void read_codes(Inflate* s) {
    static const uint8_t kOrder[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const unsigned literals = take(s, 5) + 257, distances = take(s, 5) + 1, given = take(s, 4) + 4;
    uint8_t lengths[288 + 32] = {};
    for (unsigned i = 0; i < given; ++i) lengths[kOrder[i]] = static_cast<uint8_t>(take(s, 3));
    if (literals > 286 || distances > 30 || !make_code(lengths, 19, &s->literals))
        s->fault = "a damaged table of codes";
    memset(lengths, 0, sizeof lengths);
    for (unsigned at = 0; at < literals + distances && !s->fault;) {
        const unsigned symbol = decode(s, s->literals);
        if (symbol < 16) {
            lengths[at++] = static_cast<uint8_t>(symbol);
            continue;
        }
        const uint8_t value = symbol == 16 && at > 0 ? lengths[at - 1] : 0;
        const unsigned repeat = symbol == 16 ? 3 + take(s, 2) : symbol == 17 ? 3 + take(s, 3) : 11 + take(s, 7);
        if ((symbol == 16 && at == 0) || repeat > literals + distances - at) {
            s->fault = "a damaged table of codes";
            return;
        }
        memset(lengths + at, value, repeat);
        at += repeat;
    }
    if (s->fault) return;
    if (lengths[256] == 0 || !make_code(lengths, literals, &s->literals) ||
        !make_code(lengths + literals, distances, &s->distances))
        s->fault = "a damaged table of codes";
}

void start_block(Inflate* s) {
    if (s->last_block) {
        s->state = Inflate::kClose;
        return;
    }
    s->last_block = take(s, 1) != 0;
    const uint32_t kind = take(s, 2);
    if (kind == 0) {
        take(s, s->bit_count % 8);
        s->left = take(s, 16);
        if ((take(s, 16) ^ s->left) != 0xFFFF && !s->fault) s->fault = "a damaged stored block";
        s->state = Inflate::kStored;
    } else if (kind == 3) {
        s->fault = "an unknown kind of block";
    } else {
        if (kind == 1) fixed_codes(s);
        if (kind == 2) read_codes(s);
        s->state = Inflate::kCodes;
    }
}

// Lengths grow in steps of 2^extra from 3, distances likewise from 1.
void start_match(Inflate* s, unsigned symbol) {
    static const uint16_t kLength[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                         31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    if (symbol > 285) {
        s->fault = "a code that does not exist";
        return;
    }
    const unsigned l = symbol - 257;
    s->left = kLength[l] + (l < 8 || l == 28 ? 0 : take(s, (l - 4) / 4));
    const unsigned d = decode(s, s->distances);
    if (s->fault) return;
    if (d > 29) {
        s->fault = "a code that does not exist";
        return;
    }
    s->distance = d < 4 ? d + 1 : ((2 + d % 2) << (d / 2 - 1)) + 1 + take(s, d / 2 - 1);
    if (s->distance > s->history && !s->fault) s->fault = "a reference to before its start";
    s->state = Inflate::kMatch;
}

void skip_text(Inflate* s) {
    while (!s->fault && take(s, 8) != 0) {
    }
}

void open_member(Inflate* s) {
    if (s->wrapper == Wrapper::kZlib) {
        const uint32_t method = take(s, 8), flags = take(s, 8);
        if (!s->fault && ((method & 15) != 8 || method >> 4 > 7 || (method * 256 + flags) % 31 || (flags & 32)))
            s->fault = "it does not start like a zlib stream";
        s->check = 1;
    } else {
        const uint32_t magic = take(s, 8) << 8 | take(s, 8), method = take(s, 8), flags = take(s, 8);
        if (magic != 0x1F8B || method != 8 || (flags & 0xE0)) s->fault = "it does not start like a gzip file";
        take_32(s, false);  // time
        take(s, 16);        // extra flags, system
        if (flags & 4)
            for (uint32_t i = take(s, 16); i > 0 && !s->fault; --i) take(s, 8);
        if (flags & 8) skip_text(s);   // name
        if (flags & 16) skip_text(s);  // comment
        if (flags & 2) take(s, 16);    // checksum of these bytes
        s->check = 0;
    }
    s->length = s->history = s->at = 0;
    s->last_block = false;
    s->state = Inflate::kBlock;
}

// After the last block: the checksum, and whether another gzip member follows (zeros between are allowed).
void close_member(Inflate* s) {
    take(s, s->bit_count % 8);
    const bool zlib = s->wrapper == Wrapper::kZlib;
    const uint32_t check = take_32(s, zlib);
    if (!s->fault && check != s->check) s->fault = "its checksum is wrong";
    s->state = Inflate::kEnd;
    if (zlib || s->fault) return;
    if (take_32(s, false) != s->length && !s->fault) s->fault = "its length is wrong";
    while (!s->fault) {
        fill(s, 8);
        if (s->bit_count < 8) return;
        if ((s->bits & 255) != 0) {
            s->state = Inflate::kOpen;
            return;
        }
        take(s, 8);
    }
}

void update_check(Inflate* s, const uint8_t* data, size_t bytes) {
    s->check = s->wrapper == Wrapper::kZlib ? adler32(s->check, data, bytes) : uq::crc32(s->check, data, bytes);
    s->length += static_cast<uint32_t>(bytes);
}

}  // namespace

void start_inflate(Inflate* stream, Input input, Wrapper wrapper) {
    stream->input = input;
    stream->wrapper = wrapper;
    stream->state = Inflate::kOpen;
    stream->fault = nullptr;
    stream->bits = 0;
    stream->bit_count = 0;
    memset(stream->window, 0, sizeof stream->window);
}

size_t inflate(Inflate* s, uint8_t* dst, size_t bytes) {
    size_t got = 0, checked = 0;
    auto put = [&](uint8_t value) {
        dst[got++] = s->window[s->at] = value;
        s->at = (s->at + 1) % kWindow;
        if (s->history < kWindow) ++s->history;
    };
    while (got < bytes && !s->fault && s->state != Inflate::kEnd) {
        if (s->state == Inflate::kOpen) {
            open_member(s);
        } else if (s->state == Inflate::kBlock) {
            start_block(s);
        } else if (s->state == Inflate::kStored) {
            for (; s->left && got < bytes && !s->fault; --s->left) {
                const auto value = static_cast<uint8_t>(take(s, 8));
                if (!s->fault) put(value);
            }
            if (s->left == 0) s->state = Inflate::kBlock;
        } else if (s->state == Inflate::kCodes) {
            const unsigned symbol = decode(s, s->literals);
            if (s->fault) break;
            if (symbol < 256) put(static_cast<uint8_t>(symbol));
            if (symbol == 256) s->state = Inflate::kBlock;
            if (symbol > 256) start_match(s, symbol);
        } else if (s->state == Inflate::kMatch) {
            for (; s->left && got < bytes; --s->left) put(s->window[(s->at + kWindow - s->distance) % kWindow]);
            if (s->left == 0) s->state = Inflate::kCodes;
        } else {
            update_check(s, dst + checked, got - checked);
            checked = got;
            close_member(s);
        }
    }
    update_check(s, dst + checked, got - checked);
    return got;
}

}  // namespace tool
