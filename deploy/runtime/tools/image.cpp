#include "image.h"

#include <string.h>
#include <strings.h>

namespace tool {
namespace {

constexpr uint32_t kMaxSide = 1u << 24;

const struct {
    const char* extension;
    Kind kind;
} kKinds[] = {{".tif", Kind::kTiff},     {".tiff", Kind::kTiff}, {".png", Kind::kPng},
              {".nii.gz", Kind::kNifti}, {".nii", Kind::kNifti}, {".npy", Kind::kNpy}};

const Format* format_of(Kind kind) {
    switch (kind) {
        case Kind::kTiff:
            return &kTiffFormat;
        case Kind::kPng:
            return &kPngFormat;
        case Kind::kNifti:
            return &kNiftiFormat;
        case Kind::kNpy:
            return &kNpyFormat;
    }
    return nullptr;
}

}  // namespace

const char kExtensions[] = ".tif, .tiff, .png, .nii, .nii.gz, .npy";

bool kind_of(const char* path, Kind* kind) {
    const size_t length = strlen(path);
    for (const auto& known : kKinds) {
        const size_t tail = strlen(known.extension);
        if (length < tail || strcasecmp(path + length - tail, known.extension) != 0) continue;
        *kind = known.kind;
        return true;
    }
    return false;
}

const char* kind_name(Kind kind) {
    return kind == Kind::kTiff ? "TIFF" : kind == Kind::kPng ? "PNG" : kind == Kind::kNifti ? "NIfTI" : ".npy";
}

Exit open_image(const char* path, Image* image) {
    memset(image, 0, sizeof *image);
    image->file.descriptor = -1;
    image->channels = 1;
    if (!kind_of(path, &image->kind))
        return fail(kImage, "image %.400s: its extension is not known; use one of %s.", path, kExtensions);
    TOOL_TRY(open_file(path, "image", kImage, &image->file));
    image->format = format_of(image->kind);
    return image->format->open(image);
}

void close_image(Image* image) {
    if (image->format) image->format->close(image);
    close_file(&image->file);
}

Exit check_image(Image* image, float* slice) {
    TOOL_TRY(image->format->start(image));
    for (uint64_t i = 0; i < image->slices * image->channels; ++i) {
        TOOL_TRY(image->format->slice(image, slice));
        if (stopped()) return stop_here();
    }
    TOOL_TRY(image->format->finish(image));
    if (!image->seen.varies)
        return fail(kImage,
                    "image %.400s is constant (every pixel is %g): there is nothing to segment; check that it is the "
                    "right file.",
                    image->file.path, image->seen.first);
    return kDone;
}

Exit set_size(Image* image, uint64_t slices, uint64_t height, uint64_t width, uint64_t most_bytes, uint64_t bits) {
    const char* path = image->file.path;
    if (slices == 0 || height == 0 || width == 0)
        return fail(kImage,
                    "image %.400s has %llu slices of %llu x %llu: each axis needs 1 pixel or more; export it "
                    "anew.",
                    path, static_cast<unsigned long long>(slices), static_cast<unsigned long long>(height),
                    static_cast<unsigned long long>(width));
    if (height > kMaxSide || width > kMaxSide)
        return fail(kImage, "image %.400s: a slice of %llu x %llu pixels; a side has at most %u; cut it into parts.",
                    path, static_cast<unsigned long long>(height), static_cast<unsigned long long>(width), kMaxSide);
    const uint64_t row = (width * bits + 7) / 8;
    if (row > most_bytes || height > most_bytes / row || slices > most_bytes / (row * height))
        return fail(
            kImage,
            "%.400s is truncated or damaged: it says that it holds %llu slices of %llu x %llu pixels, more than "
            "its %llu bytes can; copy it again.",
            path, static_cast<unsigned long long>(slices), static_cast<unsigned long long>(height),
            static_cast<unsigned long long>(width), static_cast<unsigned long long>(image->file.bytes));
    image->slices = slices;
    image->height = static_cast<uint32_t>(height);
    image->width = static_cast<uint32_t>(width);
    return kDone;
}

Exit bad_pixel(const Image& image, uint64_t slice, uint64_t row, uint64_t column) {
    return fail(
        kImage,
        "image %.400s has a pixel in slice %llu (row %llu, column %llu) that is NaN, infinite or beyond float32: "
        "intensities must be finite; replace such pixels first.",
        image.file.path, static_cast<unsigned long long>(slice), static_cast<unsigned long long>(row),
        static_cast<unsigned long long>(column));
}

}  // namespace tool
