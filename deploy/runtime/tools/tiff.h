// TIFF 6.0 and BigTIFF: the directory of a page, and its pixels.
#ifndef UNETQ_TOOLS_TIFF_H
#define UNETQ_TOOLS_TIFF_H

#include "image.h"
#include "stream.h"

namespace tool {

struct TiffFile {
    const File* file;
    bool big_endian;
    bool big;  // BigTIFF: 8-byte counts and offsets
    uint64_t first;
};

// The values of a tag, wherever they lie.
struct TiffTag {
    uint16_t type;
    uint64_t count;
    uint64_t at;  // in the file
};

struct TiffPage {
    uint64_t width, height;
    uint64_t bits, samples, format, compression, photometric, predictor, fill_order;
    bool tiled;
    uint64_t part_width, part_height;  // of a strip or a tile
    TiffTag offsets, counts;           // a strip or tile each
    TiffTag description, resolution_x, resolution_y, stack;
    uint64_t unit;
    uint64_t next;  // the next page's place, 0 behind the last
};

// Reads the header; a sentence where it is none.
Exit open_tiff(const File* file, TiffFile* tiff);

// Reads the directory at offset; every value it names lies in the file.
Exit read_page(const TiffFile& tiff, uint64_t offset, TiffPage* page);

// Value index of a tag of whole numbers.
Exit tag_value(const TiffFile& tiff, const TiffTag& tag, uint64_t index, uint64_t* value);

// Checks that this is a grey page whose pixels can be read.
Exit check_page(const TiffFile& tiff, const TiffPage& page, uint64_t number);

// The sentence for a file that breaks a rule.
Exit bad_tiff(const TiffFile& tiff, const char* format, ...) __attribute__((format(printf, 2, 3)));

struct TiffPixels {
    Stream stream;
    uint8_t* row;  // one of a strip or tile, packed
    size_t row_room;
};

// Decodes a page to height x width values. shift: added to the places of uncompressed pixels (stacks with one
// directory). *bad: where a pixel is not finite, its index, else the number of pixels.
Exit read_pixels(const TiffFile& tiff, const TiffPage& page, uint64_t shift, TiffPixels* pixels, float* dst, Seen* seen,
                 uint64_t* bad);

// What an image's tags say about the size of its pixels, for the mask.
struct TiffGeometry {
    bool has_resolution;
    uint8_t resolution[16];  // X and Y, two rationals, little-endian
    uint16_t unit;
    bool imagej;
    char spacing[64];  // as written in ImageJ's description; empty: none
    char unit_name[64];
};

const TiffGeometry& tiff_geometry(const Image& image);

}  // namespace tool

#endif
