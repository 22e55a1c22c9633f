// An input file, read at any place; nothing is kept of it.
#ifndef UNETQ_TOOLS_FILE_H
#define UNETQ_TOOLS_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "failure.h"

namespace tool {

constexpr size_t kChunk = 16384;

struct File {
    int descriptor;
    uint64_t bytes;
    const char* path;
};

// Opens a regular file of at least one byte. what: "image" or the like, for the sentence, and code where it fails.
Exit open_file(const char* path, const char* what, Exit code, File* file);
void close_file(File* file);

// Reads exactly bytes at offset; a sentence where the file ends before.
Exit read_at(const File& file, uint64_t offset, void* dst, size_t bytes);

// What comes next of [at, end), a chunk a call.
struct Cursor {
    const File* file;
    uint64_t at, end;
    Exit failure;  // of the last read
    uint8_t chunk[kChunk];
};

void start_cursor(Cursor* cursor, const File* file, uint64_t offset, uint64_t bytes);

// The function of an Input (below) whose context is a Cursor.
bool next_chunk(void* cursor, const uint8_t** data, size_t* bytes);

// A source of bytes for decoders: more() gives the next piece, or false at the end or after a failure.
struct Input {
    bool (*more)(void* context, const uint8_t** data, size_t* bytes);
    void* context;
    const uint8_t* data;
    size_t left;

    // The next byte, -1 at the end.
    int next() {
        if (left == 0 && (!more(context, &data, &left) || left == 0)) return -1;
        --left;
        return *data++;
    }
};

inline Input input_from(Cursor* cursor) {
    return Input{next_chunk, cursor, nullptr, 0};
}

}  // namespace tool

#endif
