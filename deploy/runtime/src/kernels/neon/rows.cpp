// The row kernels again, vectorised by the compiler under this folder's flags.
#include <string.h>

#include "neon.h"

namespace uq {
namespace {

#include "../rows.inc"
#include "../winograd.inc"

}  // namespace

void uq_fill_rows__neon(Kernels* kernels) {
    kernels->load_codes = load_codes;
    kernels->store_codes = store_codes;
    kernels->unpack_weights = unpack_weights;
    kernels->winograd_input = winograd_input;
    kernels->winograd_weights = winograd_weights;
    kernels->winograd_output = winograd_output;
    kernels->maximum = maximum;
    kernels->blend_rows = blend_rows;
    kernels->double_row = double_row;
    kernels->norm_sums = norm_sums;
}

}  // namespace uq
