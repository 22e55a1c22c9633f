// The mask of an image, slice by slice, in the image's geometry.
#ifndef UNETQ_TOOLS_MASK_H
#define UNETQ_TOOLS_MASK_H

#include "deflate.h"
#include "image.h"
#include "output.h"
#include "stream.h"

namespace tool {

struct Mask {
    Kind kind;
    const Image* image;
    uint64_t slice;  // the next one
    uint64_t link;   // TIFF: where the place of the next page goes
    bool packed;     // what is put goes through deflate
    Output output;
    Deflate deflate;
    Stream extension;  // NIfTI: what lies between header and voxels
};

// Whether path can hold the mask, asked before any computing: a known format that carries the geometry, in an existing
// folder, and not the image or the model.
Exit check_output(const char* path, const Image& image, const char* model_path, Kind* kind);

// Begins the file. mask must be zero or discarded.
Exit open_mask(const char* path, Kind kind, const Image& image, Mask* mask);

// height x width label values.
Exit put_slice(Mask* mask, const uint8_t* values);

// Ends the file and puts it in its place.
Exit commit_mask(Mask* mask);
void discard_mask(Mask* mask);

// The formats' parts: the start of the file, one slice, its end.
Exit start_tiff_mask(Mask* mask);
Exit put_tiff_slice(Mask* mask, const uint8_t* values);
Exit start_png_mask(Mask* mask);
Exit put_png_slice(Mask* mask, const uint8_t* values);
Exit start_nifti_mask(Mask* mask);
Exit put_nifti_slice(Mask* mask, const uint8_t* values);
Exit start_npy_mask(Mask* mask);

// For Sink: to the output's end.
Exit put_output(void* output, const void* data, size_t bytes);

}  // namespace tool

#endif
