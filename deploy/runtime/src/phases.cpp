// The phases of a convolution: which outputs share a list of taps.
#include "prove.h"

namespace uq {

// Phase origins are counted with the width innermost.
bool make_phases(Op* op) {
    Conv& conv = op->conv;
    bool transposed = op->mode == 1;
    uint32_t count = 1;
    for (int a = 0; a < 3; ++a) {
        conv.output_step[a] = transposed ? op->stride[a] : 1;
        conv.input_step[a] = transposed ? 1 : op->stride[a];
        count *= conv.output_step[a];
    }
    if (!conv.phases.allocate(count)) return false;
    for (uint32_t p = 0; p < count; ++p) {
        Phase& phase = conv.phases[p];
        uint32_t rest = p;
        for (int a = 2; a >= 0; --a) {
            phase.origin[a] = rest % conv.output_step[a];
            rest /= conv.output_step[a];
        }
        uint32_t index = 0;
        for (uint32_t d = 0; d < op->kernel[0]; ++d) {
            for (uint32_t h = 0; h < op->kernel[1]; ++h) {
                for (uint32_t w = 0; w < op->kernel[2]; ++w, ++index) {
                    const uint32_t k[3] = {d, h, w};
                    Tap tap = {{0, 0, 0}, index};
                    bool mine = true;
                    for (int a = 0; a < 3; ++a) {
                        int64_t reach = static_cast<int64_t>(k[a]) * op->dilation[a] - op->before[a];
                        // Transposed: output o takes input i where i * stride + reach = o.
                        int64_t offset = transposed ? static_cast<int64_t>(phase.origin[a]) - reach : reach;
                        if (transposed) {
                            mine = mine && remainder(offset, op->stride[a]) == 0;
                            offset = floor_div(offset, op->stride[a]);
                        }
                        tap.offset[a] = static_cast<int32_t>(offset);
                    }
                    if (!mine) continue;
                    bool first = phase.taps.size() == 0;
                    if (!phase.taps.append(tap)) return false;
                    for (int a = 0; a < 3; ++a) {
                        if (first || tap.offset[a] < phase.least[a]) phase.least[a] = tap.offset[a];
                        if (first || tap.offset[a] > phase.most[a]) phase.most[a] = tap.offset[a];
                    }
                }
            }
        }
    }
    return true;
}

}  // namespace uq
