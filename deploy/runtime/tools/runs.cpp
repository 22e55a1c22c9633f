#include "runs.h"

namespace tool {
namespace {

constexpr uint32_t kClear = 256, kStop = 257, kFirst = 258, kEntries = 4096, kNone = 0xFFFF;

void clear_table(Lzw* s) {
    s->width = 9;
    s->next = kFirst;
    s->previous = kNone;
}

// The next code; kStop at the end of the input.
uint32_t next_code(Lzw* s) {
    while (s->bit_count < s->width) {
        const int byte = s->input.next();
        if (byte < 0) return kStop;
        s->bits = s->bits << 8 | static_cast<uint32_t>(byte);
        s->bit_count += 8;
    }
    s->bit_count -= s->width;
    return s->bits >> s->bit_count & ((1u << s->width) - 1);
}

// Puts the string of the next code on the stack. An entry refers to earlier ones only, so that walking it ends; a code
// is one longer than the table when it is the string before followed by its own first byte.
void next_string(Lzw* s) {
    const uint32_t code = next_code(s);
    if (code == kClear) return clear_table(s);
    if (code == kStop) {
        s->ended = true;
        return;
    }
    const bool repeats = s->previous != kNone && code == s->next && s->next < kEntries;
    if (code > 255 && !repeats && (code < kFirst || code >= s->next)) {
        s->fault = "a code that does not exist";
        return;
    }
    uint32_t at = repeats ? s->previous : code;
    if (repeats) s->stack[s->pending++] = s->first;
    for (; at >= kFirst; at = s->prefix[at]) s->stack[s->pending++] = s->suffix[at];
    s->stack[s->pending++] = static_cast<uint8_t>(at);
    s->first = static_cast<uint8_t>(at);
    if (s->previous != kNone && s->next < kEntries) {
        s->prefix[s->next] = static_cast<uint16_t>(s->previous);
        s->suffix[s->next] = s->first;
        ++s->next;
        // TIFF's codes grow one entry early.
        if (s->next + 1 >= 1u << s->width && s->width < 12) ++s->width;
    }
    s->previous = code;
}

}  // namespace

void start_lzw(Lzw* stream, Input input) {
    stream->input = input;
    stream->fault = nullptr;
    stream->ended = false;
    stream->bits = stream->pending = 0;
    stream->bit_count = 0;
    clear_table(stream);
}

size_t unpack_lzw(Lzw* s, uint8_t* dst, size_t bytes) {
    size_t got = 0;
    while (got < bytes) {
        if (s->pending)
            dst[got++] = s->stack[--s->pending];
        else if (s->ended || s->fault)
            break;
        else
            next_string(s);
    }
    return got;
}

void start_packbits(PackBits* stream, Input input) {
    *stream = PackBits{input, 0, -1};
}

size_t unpack_packbits(PackBits* s, uint8_t* dst, size_t bytes) {
    size_t got = 0;
    while (got < bytes) {
        if (s->left == 0) {
            const int head = s->input.next();
            if (head < 0) break;
            if (head == 128) continue;
            s->left = static_cast<uint32_t>(head < 128 ? head + 1 : 257 - head);
            s->value = head < 128 ? -1 : s->input.next();
            if (head > 128 && s->value < 0) {
                s->left = 0;
                break;
            }
        }
        const int value = s->value >= 0 ? s->value : s->input.next();
        if (value < 0) break;
        dst[got++] = static_cast<uint8_t>(value);
        --s->left;
    }
    return got;
}

}  // namespace tool
