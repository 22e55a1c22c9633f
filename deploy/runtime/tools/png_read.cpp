// PNG (its specification, third edition): grey of 1 to 16 bits, interlaced or not. Every chunk's checksum is checked.
#include <stdlib.h>
#include <string.h>

#include "../src/crc32.h"
#include "image.h"
#include "inflate.h"

namespace tool {
namespace {

constexpr uint8_t kSignature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

struct PngState {
    unsigned bits;
    bool interlaced;
    uint64_t at;          // in the file
    uint64_t chunk_left;  // of the pixel data chunk that is being unpacked
    uint32_t crc;
    bool ended;  // behind the last pixel data chunk
    Exit failure;
    Inflate inflate;
    uint8_t* rows;  // two, each with its filter byte in front
    size_t row_room;
    uint8_t input[kChunk];
};

PngState* state_of(const Image* image) {
    return static_cast<PngState*>(image->state);
}

Exit damaged(const Image* image, const char* why) {
    return fail(kImage, "%.400s cannot be decoded as PNG (%s): the file must be whole; export it again.",
                image->file.path, why);
}

struct Chunk {
    uint32_t bytes;
    uint8_t type[4];
};

Exit read_chunk(Image* image, Chunk* chunk) {
    uint8_t head[8];
    TOOL_TRY(read_at(image->file, state_of(image)->at, head, sizeof head));
    chunk->bytes = load_32(head, true);
    memcpy(chunk->type, head + 4, 4);
    if (chunk->bytes > INT32_MAX) return damaged(image, "a chunk is too long");
    state_of(image)->at += sizeof head;
    state_of(image)->crc = uq::crc32(0, chunk->type, 4);
    return kDone;
}

bool is(const Chunk& chunk, const char* type) {
    return memcmp(chunk.type, type, 4) == 0;
}

Exit check_crc(Image* image) {
    uint8_t stored[4];
    TOOL_TRY(read_at(image->file, state_of(image)->at, stored, sizeof stored));
    state_of(image)->at += sizeof stored;
    return load_32(stored, true) == state_of(image)->crc ? kDone : damaged(image, "a chunk's checksum is wrong");
}

// Goes over the rest of a chunk.
Exit skip_chunk(Image* image, uint64_t bytes) {
    PngState* s = state_of(image);
    while (bytes) {
        const size_t run = bytes < kChunk ? static_cast<size_t>(bytes) : kChunk;
        TOOL_TRY(read_at(image->file, s->at, s->input, run));
        s->crc = uq::crc32(s->crc, s->input, run);
        s->at += run;
        bytes -= run;
    }
    return check_crc(image);
}

// The next piece of the pixel data, over the borders of chunks.
Exit next_piece(Image* image, size_t* bytes) {
    PngState* s = state_of(image);
    *bytes = 0;
    while (s->chunk_left == 0 && !s->ended) {
        TOOL_TRY(check_crc(image));
        const uint64_t before = s->at;
        Chunk chunk;
        TOOL_TRY(read_chunk(image, &chunk));
        s->chunk_left = chunk.bytes;
        if (is(chunk, "IDAT")) continue;
        s->ended = true;
        s->at = before;
    }
    if (s->ended) return kDone;
    *bytes = s->chunk_left < kChunk ? static_cast<size_t>(s->chunk_left) : kChunk;
    TOOL_TRY(read_at(image->file, s->at, s->input, *bytes));
    s->crc = uq::crc32(s->crc, s->input, *bytes);
    s->at += *bytes;
    s->chunk_left -= *bytes;
    return kDone;
}

bool more_pixels(void* context, const uint8_t** data, size_t* bytes) {
    auto* image = static_cast<Image*>(context);
    PngState* s = state_of(image);
    if (s->failure == kDone) s->failure = next_piece(image, bytes);
    *data = s->input;
    return s->failure == kDone && *bytes > 0;
}

Exit open_png(Image* image) {
    auto* s = static_cast<PngState*>(calloc(1, sizeof(PngState)));
    if (!s) return fail(kRuntime, "no memory to read %.400s; close other programs.", image->file.path);
    image->state = s;
    uint8_t signature[8], header[13];
    if (image->file.bytes < sizeof signature) return damaged(image, "it is truncated");
    TOOL_TRY(read_at(image->file, 0, signature, sizeof signature));
    if (memcmp(signature, kSignature, sizeof signature) != 0) return damaged(image, "it does not start like one");
    s->at = sizeof signature;
    Chunk chunk;
    TOOL_TRY(read_chunk(image, &chunk));
    if (!is(chunk, "IHDR") || chunk.bytes != sizeof header) return damaged(image, "it has no header");
    TOOL_TRY(read_at(image->file, s->at, header, sizeof header));
    s->at += sizeof header;
    s->crc = uq::crc32(s->crc, header, sizeof header);
    TOOL_TRY(check_crc(image));
    s->bits = header[8];
    if (header[9] == 2 || header[9] == 3 || header[9] == 4 || header[9] == 6)
        return fail(kImage, "%.400s has %s and grey is expected; convert it to a grey PNG first.", image->file.path,
                    header[9] == 2   ? "3 channels"
                    : header[9] == 3 ? "a colour table"
                    : header[9] == 4 ? "2 channels"
                                     : "4 channels");
    const bool depth = s->bits == 1 || s->bits == 2 || s->bits == 4 || s->bits == 8 || s->bits == 16;
    if (header[9] != 0 || !depth || header[10] != 0 || header[11] != 0 || header[12] > 1)
        return damaged(image, "its header is wrong");
    s->interlaced = header[12] == 1;
    TOOL_TRY(set_size(image, 1, load_32(header + 4, true), load_32(header, true), 1032 * image->file.bytes, s->bits));
    s->row_room = 1 + (static_cast<size_t>(image->width) * s->bits + 7) / 8;
    s->rows = static_cast<uint8_t*>(malloc(2 * s->row_room));
    return s->rows ? kDone : fail(kRuntime, "no memory to read %.400s; close other programs.", image->file.path);
}

Exit start_png(Image* image) {
    PngState* s = state_of(image);
    s->at = sizeof kSignature + 8 + 13 + 4;
    s->ended = false;
    s->failure = kDone;
    for (;;) {
        Chunk chunk;
        TOOL_TRY(read_chunk(image, &chunk));
        s->chunk_left = chunk.bytes;
        if (is(chunk, "IDAT")) break;
        if (is(chunk, "IEND")) return damaged(image, "it has no pixels");
        TOOL_TRY(skip_chunk(image, chunk.bytes));
    }
    start_inflate(&s->inflate, Input{more_pixels, image, nullptr, 0}, Wrapper::kZlib);
    return kDone;
}

Exit unpack(Image* image, uint8_t* dst, size_t bytes) {
    PngState* s = state_of(image);
    if (inflate(&s->inflate, dst, bytes) == bytes) return kDone;
    if (s->failure != kDone) return s->failure;
    return damaged(image, s->inflate.fault ? s->inflate.fault : "it is truncated");
}

uint8_t paeth(uint8_t left, uint8_t above, uint8_t corner) {
    const int to_left = abs(above - corner), to_above = abs(left - corner), to_corner = abs(left + above - 2 * corner);
    return to_left <= to_above && to_left <= to_corner ? left : to_above <= to_corner ? above : corner;
}

// Undoes the filter of a row (behind its filter byte), given the row above; step: bytes of a pixel, at least 1.
bool unfilter(uint8_t filter, uint8_t* row, const uint8_t* above, size_t bytes, size_t step) {
    if (filter > 4) return false;
    for (size_t i = 0; i < bytes; ++i) {
        const uint8_t left = i < step ? 0 : row[i - step], corner = i < step ? 0 : above[i - step];
        const int add = filter == 0   ? 0
                        : filter == 1 ? left
                        : filter == 2 ? above[i]
                        : filter == 3 ? (left + above[i]) / 2
                                      : paeth(left, above[i], corner);
        row[i] = static_cast<uint8_t>(row[i] + add);
    }
    return true;
}

// Small depths are stretched to 8 bits, as the Python side has them.
float pixel(const uint8_t* row, size_t x, unsigned bits) {
    if (bits == 16) return load_16(row + 2 * x, true);
    if (bits == 8) return row[x];
    const unsigned mask = (1u << bits) - 1;
    const unsigned value = row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
    return static_cast<float>(value * (255 / mask));
}

// One pass: pixels (y0 + i * dy, x0 + k * dx).
Exit read_pass(Image* image, float* dst, uint32_t x0, uint32_t y0, uint32_t dx, uint32_t dy) {
    PngState* s = state_of(image);
    if (x0 >= image->width || y0 >= image->height) return kDone;
    const size_t width = (image->width - x0 + dx - 1) / dx, bytes = (width * s->bits + 7) / 8;
    uint8_t *row = s->rows, *above = s->rows + s->row_room;
    memset(above, 0, s->row_room);
    for (uint32_t y = y0; y < image->height; y += dy) {
        TOOL_TRY(unpack(image, row, 1 + bytes));
        if (!unfilter(row[0], row + 1, above + 1, bytes, s->bits == 16 ? 2 : 1))
            return damaged(image, "a filter that does not exist");
        float* to = dst + static_cast<size_t>(y) * image->width + x0;
        for (size_t x = 0; x < width; ++x) {
            to[x * dx] = pixel(row + 1, x, s->bits);
            image->seen.add(static_cast<double>(to[x * dx]));
        }
        uint8_t* swap = row;
        row = above;
        above = swap;
    }
    return kDone;
}

Exit slice_png(Image* image, float* dst) {
    if (!state_of(image)->interlaced) return read_pass(image, dst, 0, 0, 1, 1);
    static const uint8_t kPasses[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                          {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
    for (const auto& pass : kPasses) TOOL_TRY(read_pass(image, dst, pass[0], pass[1], pass[2], pass[3]));
    return kDone;
}

// The checksum of the pixels, and all chunks up to the end.
Exit finish_png(Image* image) {
    PngState* s = state_of(image);
    uint8_t surplus;
    while (inflate(&s->inflate, &surplus, 1) == 1)
        if (stopped()) return stop_here();
    if (s->failure != kDone) return s->failure;
    if (s->inflate.fault) return damaged(image, s->inflate.fault);
    if (!s->ended) TOOL_TRY(skip_chunk(image, s->chunk_left));
    for (;;) {
        Chunk chunk;
        TOOL_TRY(read_chunk(image, &chunk));
        TOOL_TRY(skip_chunk(image, chunk.bytes));
        if (is(chunk, "IEND")) return kDone;
    }
}

void close_png(Image* image) {
    if (image->state) free(state_of(image)->rows);
    free(image->state);
}

}  // namespace

const Format kPngFormat = {open_png, start_png, slice_png, finish_png, close_png};

}  // namespace tool
