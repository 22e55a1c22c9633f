// An image as a stack of slices, read one after another; nothing larger than a slice is held.
#ifndef UNETQ_TOOLS_IMAGE_H
#define UNETQ_TOOLS_IMAGE_H

#include "file.h"
#include "geometry.h"
#include "numbers.h"

namespace tool {

enum class Kind : uint8_t { kTiff, kPng, kNifti, kNpy };

struct Image;

// One format. The functions are called in the order open, (start, slice x channels x slices, finish) any number of
// times, close; close after every open, failed or not.
struct Format {
    Exit (*open)(Image* image);               // fills kind's sizes; image->file is open
    Exit (*start)(Image* image);              // back to the first slice
    Exit (*slice)(Image* image, float* dst);  // the next slice, height x width values
    Exit (*finish)(Image* image);             // checks what lies behind the last one
    void (*close)(Image* image);
};

struct Image {
    File file;
    Kind kind;
    uint32_t channels;  // of NIfTI alone more than 1: so many volumes of slices, one after another
    uint64_t slices;
    uint32_t height, width;
    bool flat;  // .npy of two axes, whose mask has two as well
    Geometry geometry;
    char warning[320];  // what a reader should know of geometry, a sentence or ""
    Seen seen;
    const Format* format;
    void* state;  // the format's own
};

extern const Format kTiffFormat, kPngFormat, kNiftiFormat, kNpyFormat;

// The kind of file that a name stands for; false for an extension that is none of kExtensions.
bool kind_of(const char* path, Kind* kind);
const char* kind_name(Kind kind);
extern const char kExtensions[];

Exit open_image(const char* path, Image* image);
void close_image(Image* image);

// Reads everything once: each number is finite, each checksum right, and not all pixels are one value.
Exit check_image(Image* image, float* slice);

// Sets the size from what a file says; a sentence where it is beyond what can be, or more than the file's packed bytes
// can hold. most_bytes: of pixels in the file at most; bits: of one pixel.
Exit set_size(Image* image, uint64_t slices, uint64_t height, uint64_t width, uint64_t most_bytes, uint64_t bits);

// The sentence for the pixel of the slice that to_floats did not take.
Exit bad_pixel(const Image& image, uint64_t slice, uint64_t row, uint64_t column);

}  // namespace tool

#endif
