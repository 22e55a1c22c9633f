// NIfTI-1 and NIfTI-2 in one file: the header, which a mask takes over.
#ifndef UNETQ_TOOLS_NIFTI_H
#define UNETQ_TOOLS_NIFTI_H

#include "image.h"

namespace tool {

struct NiftiHeader {
    uint8_t raw[540];
    size_t bytes;  // 348, or 540 in NIfTI-2
    bool big_endian;
    uint64_t voxels;  // where they begin in the unpacked file
    bool packed;      // .nii.gz
};

// The header of an opened NIfTI image.
const NiftiHeader& nifti_header(const Image& image);

// Where the volume lies, from a header of axes axes, the first three so long; a sentence where it says something
// impossible, a warning where it contradicts itself or tells no direction.
Exit read_place(const NiftiHeader& header, unsigned axes, const int64_t length[3], Image* image);

// Turns it into the header of a uint8 mask: same size, position and codes; no scaling, no display range, and one volume
// where there are channels.
void make_mask_header(NiftiHeader* header, bool channels, bool extended);

}  // namespace tool

#endif
