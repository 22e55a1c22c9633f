#include "mask.h"

#include <string.h>
#include <sys/stat.h>

#include "npy.h"

namespace tool {
namespace {

bool same_file(const char* a, const char* b) {
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

Exit check_folder(const char* path) {
    char folder[PATH_MAX] = ".";
    const char* slash = strrchr(path, '/');
    if (slash) {
        const size_t length = slash == path ? 1 : static_cast<size_t>(slash - path);
        if (length >= sizeof folder)
            return fail(kUsage, "output %.400s: its name is too long; choose another one.", path);
        memcpy(folder, path, length);
        folder[length] = 0;
    }
    struct stat about;
    if (stat(folder, &about) != 0 || !S_ISDIR(about.st_mode))
        return fail(kUsage, "output %.400s: the folder %.400s does not exist; create it first.", path, folder);
    return kDone;
}

}  // namespace

Exit check_output(const char* path, const Image& image, const char* model_path, Kind* kind) {
    if (!kind_of(path, kind))
        return fail(kUsage, "output %.400s: its extension is not known; use one of %s.", path, kExtensions);
    struct stat about;
    if (stat(path, &about) == 0 && S_ISDIR(about.st_mode))
        return fail(kUsage, "output %.400s is a folder; name a file in it.", path);
    TOOL_TRY(check_folder(path));
    if (same_file(path, image.file.path))
        return fail(kUsage, "output %.400s is the input image; images are never overwritten; choose another name.",
                    path);
    if (same_file(path, model_path))
        return fail(kUsage, "output %.400s is the model file; models are never overwritten; choose another name.",
                    path);
    if ((*kind == Kind::kNifti) != (image.kind == Kind::kNifti))
        return fail(
            kUsage,
            "output %.400s: a mask of a %s image would lose or lack its position in space as %s; use one of %s.", path,
            kind_name(image.kind), kind_name(*kind),
            image.kind == Kind::kNifti ? ".nii, .nii.gz" : ".tif, .tiff, .npy, and .png for one slice");
    if (*kind == Kind::kPng && image.slices > 1)
        return fail(kUsage, "output %.400s: a PNG holds 1 slice and the image has %llu; use one of .tif, .tiff, .npy.",
                    path, static_cast<unsigned long long>(image.slices));
    const uint64_t plane = static_cast<uint64_t>(image.height) * image.width;
    if (*kind == Kind::kTiff && image.slices > 0xF0000000u / (plane + 4096))
        return fail(kUsage, "output %.400s: a mask of more than 4 GB does not fit into a TIFF; use .npy.", path);
    return kDone;
}

Exit put_output(void* output, const void* data, size_t bytes) {
    return put(static_cast<Output*>(output), data, bytes);
}

Exit open_mask(const char* path, Kind kind, const Image& image, Mask* mask) {
    mask->kind = kind;
    mask->image = &image;
    mask->slice = 0;
    mask->packed = false;
    TOOL_TRY(open_output(path, &mask->output));
    switch (kind) {
        case Kind::kTiff:
            return start_tiff_mask(mask);
        case Kind::kPng:
            return start_png_mask(mask);
        case Kind::kNifti:
            return start_nifti_mask(mask);
        case Kind::kNpy:
            return start_npy_mask(mask);
    }
    return kDone;
}

Exit put_slice(Mask* mask, const uint8_t* values) {
    ++mask->slice;
    switch (mask->kind) {
        case Kind::kTiff:
            return put_tiff_slice(mask, values);
        case Kind::kPng:
            return put_png_slice(mask, values);
        case Kind::kNifti:
            return put_nifti_slice(mask, values);
        case Kind::kNpy:
            return put(&mask->output, values, static_cast<size_t>(mask->image->height) * mask->image->width);
    }
    return kDone;
}

Exit commit_mask(Mask* mask) {
    if (mask->packed) TOOL_TRY(finish_deflate(&mask->deflate));
    return commit(&mask->output);
}

void discard_mask(Mask* mask) {
    if (mask->image) discard(&mask->output);
}

Exit start_npy_mask(Mask* mask) {
    const Image& image = *mask->image;
    const uint64_t shape[3] = {image.slices, image.height, image.width};
    const bool flat = image.slices == 1 && (image.flat || image.kind != Kind::kNpy);
    uint8_t header[256];
    const size_t bytes = make_npy_header(shape + (flat ? 1 : 0), flat ? 2 : 3, header);
    return put(&mask->output, header, bytes);
}

}  // namespace tool
