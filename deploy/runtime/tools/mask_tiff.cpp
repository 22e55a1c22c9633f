// A TIFF mask: one deflated strip a page, little-endian; the image's resolution, and ImageJ's spacing and unit.
#include <stdio.h>
#include <string.h>

#include "mask.h"
#include "tiff.h"

namespace tool {
namespace {

constexpr uint16_t kAscii = 2, kShort = 3, kLong = 4, kRational = 5;

struct Directory {
    uint16_t entries;
    uint8_t raw[2 + 16 * 12 + 4];
};

void add(Directory* d, uint16_t tag, uint16_t type, uint32_t count, uint32_t value) {
    uint8_t* at = d->raw + 2 + 12 * d->entries++;
    store_16(at, tag, false);
    store_16(at + 2, type, false);
    store_32(at + 4, count, false);
    store_32(at + 8, value, false);  // little-endian: a short stands in the first two bytes
}

Exit align(Output* output) {
    return output->at % 2 ? put(output, "", 1) : kDone;
}

// As ImageJ writes it; empty for other stacks.
size_t describe(const Image& image, const TiffGeometry& geometry, char* text, size_t room) {
    if (!geometry.imagej) return 0;
    const auto slices = static_cast<unsigned long long>(image.slices);
    int used =
        snprintf(text, room, "ImageJ=1.11a\nimages=%llu\nslices=%llu\nhyperstack=true\nmode=grayscale", slices, slices);
    if (geometry.spacing[0])
        used += snprintf(text + used, room - static_cast<size_t>(used), "\nspacing=%s", geometry.spacing);
    if (geometry.unit_name[0])
        used += snprintf(text + used, room - static_cast<size_t>(used), "\nunit=%s", geometry.unit_name);
    return static_cast<size_t>(used) + 1;
}

}  // namespace

Exit start_tiff_mask(Mask* mask) {
    mask->link = 4;
    return put(&mask->output, "II*\0\0\0\0\0", 8);
}

Exit put_tiff_slice(Mask* mask, const uint8_t* values) {
    static const TiffGeometry kNothing = {};
    const Image& image = *mask->image;
    const TiffGeometry& geometry = image.kind == Kind::kTiff ? tiff_geometry(image) : kNothing;
    Output* output = &mask->output;
    TOOL_TRY(align(output));
    const uint64_t pixels_at = output->at;
    TOOL_TRY(start_deflate(&mask->deflate, Sink{put_output, output}, Wrapper::kZlib));
    TOOL_TRY(deflate(&mask->deflate, values, static_cast<size_t>(image.height) * image.width));
    TOOL_TRY(finish_deflate(&mask->deflate));
    const uint64_t pixels_end = output->at;

    char description[320];
    const size_t description_bytes = mask->slice == 1 ? describe(image, geometry, description, sizeof description) : 0;
    TOOL_TRY(align(output));
    const uint64_t description_at = output->at;
    TOOL_TRY(put(output, description, description_bytes));
    TOOL_TRY(align(output));
    const uint64_t resolution_at = output->at;
    if (geometry.has_resolution) TOOL_TRY(put(output, geometry.resolution, sizeof geometry.resolution));

    Directory d = {};
    add(&d, 256, kLong, 1, image.width);
    add(&d, 257, kLong, 1, image.height);
    add(&d, 258, kShort, 1, 8);
    add(&d, 259, kShort, 1, 8);  // deflate
    add(&d, 262, kShort, 1, 1);  // 0 is black
    if (description_bytes)
        add(&d, 270, kAscii, static_cast<uint32_t>(description_bytes), static_cast<uint32_t>(description_at));
    add(&d, 273, kLong, 1, static_cast<uint32_t>(pixels_at));
    add(&d, 277, kShort, 1, 1);
    add(&d, 278, kLong, 1, image.height);
    add(&d, 279, kLong, 1, static_cast<uint32_t>(pixels_end - pixels_at));
    if (geometry.has_resolution) {
        add(&d, 282, kRational, 1, static_cast<uint32_t>(resolution_at));
        add(&d, 283, kRational, 1, static_cast<uint32_t>(resolution_at + 8));
        add(&d, 296, kShort, 1, geometry.unit);
    }
    store_16(d.raw, d.entries, false);
    const uint64_t directory_at = output->at;
    const size_t bytes = 2 + size_t{12} * d.entries;
    TOOL_TRY(put(output, d.raw, bytes + 4));
    if (output->at > UINT32_MAX)
        return fail(kOutput, "cannot write %.400s: a TIFF holds at most 4 GB; use .npy.", output->path);
    uint8_t link[4];
    store_32(link, static_cast<uint32_t>(directory_at), false);
    TOOL_TRY(patch(output, mask->link, link, sizeof link));
    mask->link = directory_at + bytes;
    return kDone;
}

}  // namespace tool
