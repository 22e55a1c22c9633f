// A NIfTI mask: the image's own header and extensions, and uint8 voxels with the first axis innermost.
#include <string.h>
#include <strings.h>

#include "mask.h"
#include "nifti.h"

namespace tool {
namespace {

Exit put_voxels(Mask* mask, const void* data, size_t bytes) {
    return mask->packed ? deflate(&mask->deflate, static_cast<const uint8_t*>(data), bytes)
                        : put(&mask->output, data, bytes);
}

// What lies between the image's header and voxels, as it is.
Exit copy_extensions(Mask* mask, uint64_t bytes) {
    uint8_t piece[1024];
    while (bytes) {
        const size_t run = bytes < sizeof piece ? static_cast<size_t>(bytes) : sizeof piece;
        TOOL_TRY(read_stream(&mask->extension, piece, run));
        TOOL_TRY(put_voxels(mask, piece, run));
        bytes -= run;
    }
    return kDone;
}

}  // namespace

Exit start_nifti_mask(Mask* mask) {
    NiftiHeader header = nifti_header(*mask->image);
    const Packing packing = header.packed ? Packing::kGzip : Packing::kNone;
    const size_t length = strlen(mask->output.path);
    mask->packed = strcasecmp(mask->output.path + length - 3, ".gz") == 0;
    if (mask->packed) TOOL_TRY(start_deflate(&mask->deflate, Sink{put_output, &mask->output}, Wrapper::kGzip));
    // The four bytes behind the header say whether extensions follow.
    uint8_t flags[4];
    start_stream(&mask->extension, &mask->image->file, 0, mask->image->file.bytes, packing);
    TOOL_TRY(skip_stream(&mask->extension, header.bytes));
    TOOL_TRY(read_stream(&mask->extension, flags, sizeof flags));
    const bool extended = flags[0] != 0;
    const uint64_t surplus = header.voxels - header.bytes - sizeof flags;
    make_mask_header(&header, mask->image->channels > 1, extended);
    if (!extended) memset(flags, 0, sizeof flags);
    TOOL_TRY(put_voxels(mask, header.raw, header.bytes));
    TOOL_TRY(put_voxels(mask, flags, sizeof flags));
    return extended ? copy_extensions(mask, surplus) : kDone;
}

Exit put_nifti_slice(Mask* mask, const uint8_t* values) {
    const size_t rows = mask->image->height, columns = mask->image->width;
    uint8_t piece[1024];
    for (size_t column = 0; column < columns; ++column) {
        for (size_t row = 0; row < rows;) {
            size_t run = 0;
            for (; run < sizeof piece && row < rows; ++run, ++row) piece[run] = values[row * columns + column];
            TOOL_TRY(put_voxels(mask, piece, run));
        }
    }
    return kDone;
}

}  // namespace tool
