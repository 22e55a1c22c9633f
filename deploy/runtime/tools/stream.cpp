#include "stream.h"

#include <string.h>

namespace tool {
namespace {

size_t copy_plain(Input* input, uint8_t* dst, size_t bytes) {
    size_t got = 0;
    while (got < bytes) {
        if (input->left == 0 && (!input->more(input->context, &input->data, &input->left) || input->left == 0)) break;
        const size_t run = bytes - got < input->left ? bytes - got : input->left;
        memcpy(dst + got, input->data, run);
        input->data += run;
        input->left -= run;
        got += run;
    }
    return got;
}

size_t read_some(Stream* s, uint8_t* dst, size_t bytes) {
    switch (s->packing) {
        case Packing::kNone:
            return copy_plain(&s->plain, dst, bytes);
        case Packing::kZlib:
        case Packing::kGzip:
            return inflate(&s->inflate, dst, bytes);
        case Packing::kLzw:
            return unpack_lzw(&s->lzw, dst, bytes);
        case Packing::kPackBits:
            return unpack_packbits(&s->packbits, dst, bytes);
    }
    return 0;
}

const char* fault_of(const Stream& s) {
    if (s.packing == Packing::kZlib || s.packing == Packing::kGzip) return s.inflate.fault;
    return s.packing == Packing::kLzw ? s.lzw.fault : nullptr;
}

Exit failure_of(const Stream& s) {
    if (s.cursor.failure != kDone) return s.cursor.failure;
    const char* fault = fault_of(s);
    return fail(kImage, "%.400s is truncated or damaged (%s); copy it again.", s.cursor.file->path,
                fault ? fault : "it ends too soon");
}

}  // namespace

void start_stream(Stream* s, const File* file, uint64_t offset, uint64_t bytes, Packing packing) {
    start_cursor(&s->cursor, file, offset, bytes);
    s->packing = packing;
    const Input input = input_from(&s->cursor);
    if (packing == Packing::kNone) s->plain = input;
    if (packing == Packing::kZlib) start_inflate(&s->inflate, input, Wrapper::kZlib);
    if (packing == Packing::kGzip) start_inflate(&s->inflate, input, Wrapper::kGzip);
    if (packing == Packing::kLzw) start_lzw(&s->lzw, input);
    if (packing == Packing::kPackBits) start_packbits(&s->packbits, input);
}

Exit read_stream(Stream* s, void* dst, size_t bytes) {
    return read_some(s, static_cast<uint8_t*>(dst), bytes) == bytes ? kDone : failure_of(*s);
}

Exit skip_stream(Stream* s, uint64_t bytes) {
    uint8_t scratch[1024];
    while (bytes) {
        const size_t run = bytes < sizeof scratch ? static_cast<size_t>(bytes) : sizeof scratch;
        TOOL_TRY(read_stream(s, scratch, run));
        bytes -= run;
    }
    return kDone;
}

Exit finish_stream(Stream* s) {
    if (s->packing != Packing::kZlib && s->packing != Packing::kGzip) return kDone;
    uint8_t scratch[1024];
    while (read_some(s, scratch, sizeof scratch) == sizeof scratch)
        if (stopped()) return stop_here();
    return s->cursor.failure != kDone || fault_of(*s) ? failure_of(*s) : kDone;
}

uint64_t most_unpacked(Packing packing, uint64_t packed_bytes) {
    // deflate: 258 bytes from 2 bits at best; LZW: 4096 bytes from 12 bits; PackBits: 128 from 2 bytes.
    const uint64_t ratio = packing == Packing::kNone       ? 1
                           : packing == Packing::kPackBits ? 64
                           : packing == Packing::kLzw      ? 2731
                                                           : 1032;
    return packed_bytes > UINT64_MAX / ratio ? UINT64_MAX : packed_bytes * ratio;
}

}  // namespace tool
