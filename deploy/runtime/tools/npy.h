// NumPy array files: what their header says.
#ifndef UNETQ_TOOLS_NPY_H
#define UNETQ_TOOLS_NPY_H

#include "file.h"
#include "numbers.h"

namespace tool {

struct NpyHeader {
    Numbers numbers;
    bool fortran_order;
    uint32_t axes;
    uint64_t shape[4];
    uint64_t data;  // where the numbers begin
};

// Reads and checks the header; the numbers it announces lie in the file.
Exit read_npy_header(const File& file, NpyHeader* header);

// The header of a uint8 array in C order; bytes written.
size_t make_npy_header(const uint64_t* shape, uint32_t axes, uint8_t dst[256]);

}  // namespace tool

#endif
