// An output is written beside its place under another name and renamed at the end: whole or not at all.
#ifndef UNETQ_TOOLS_OUTPUT_H
#define UNETQ_TOOLS_OUTPUT_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

namespace tool {

struct Output {
    int descriptor;  // -1: not open
    const char* path;
    uint64_t at;  // bytes written so far, with those that are held back
    size_t held;
    char temporary[PATH_MAX];
    uint8_t buffer[16384];
};

// Creates the temporary neighbour of path.
Exit open_output(const char* path, Output* output);
Exit put(Output* output, const void* data, size_t bytes);

// Overwrites what was put before at offset.
Exit patch(Output* output, uint64_t offset, const void* data, size_t bytes);

// Everything to the disk, the usual permissions, and the rename.
Exit commit(Output* output);

// Removes the temporary file if it was not committed; may be called any time.
void discard(Output* output);

}  // namespace tool

#endif
