#include "conv_shape.h"

#include "ops.h"

namespace uq {
namespace {

constexpr uint64_t kStripPixels = 1024;    // weights are unpacked once a strip: enough pixels to hide that
constexpr uint64_t kMaxWindow = 1u << 30;  // offsets in the window are 32 bits

}  // namespace

Geometry conv_geometry(const Conv& conv, const Phase& phase, const uint32_t output[3]) {
    Geometry g = {};
    for (int a = 0; a < 3; ++a) {
        uint32_t step = conv.output_step[a], origin = phase.origin[a];
        g.count[a] = output[a] > origin ? (output[a] - origin + step - 1) / step : 0;
    }
    g.all_pixels = pixels(g.count);
    if (g.all_pixels == 0) return g;
    uint64_t rows = (kStripPixels + g.count[2] - 1) / g.count[2];
    g.strip[2] = g.count[2];
    g.strip[1] = rows < g.count[1] ? static_cast<uint32_t>(rows) : g.count[1];
    uint64_t plane = static_cast<uint64_t>(g.count[1]) * g.count[2];
    uint64_t depths = g.strip[1] < g.count[1] ? 1 : (kStripPixels + plane - 1) / plane;
    g.strip[0] = depths < g.count[0] ? static_cast<uint32_t>(depths) : g.count[0];
    g.strip_pixels = pixels(g.strip);
    if (phase.taps.size() == 0) return g;
    g.window_bytes = static_cast<uint64_t>(conv.padded_channels) * conv.element_bytes;
    for (int a = 0; a < 3; ++a) {
        int64_t reach = static_cast<int64_t>(phase.most[a]) - phase.least[a];
        g.window[a] = static_cast<uint64_t>(g.strip[a] - 1) * conv.input_step[a] + static_cast<uint64_t>(reach) + 1;
        g.window_bytes = product(g.window_bytes, g.window[a]);
    }
    return g;
}

uint64_t conv_work_units(const Op& op, const uint32_t output[3]) {
    uint64_t positions = 0;
    for (size_t p = 0; p < op.conv.phases.size(); ++p) {
        const Phase& phase = op.conv.phases[p];
        positions += product(conv_geometry(op.conv, phase, output).all_pixels, phase.taps.size());
    }
    return product(positions, product(op.output_channels, op.conv.group_inputs));
}

ConvWork carve_conv(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3],
                    Carver* carver) {
    const Conv& conv = op.conv;
    uint64_t window = 0, strip = 0, all = 0, taps = 0;
    for (size_t p = 0; p < conv.phases.size(); ++p) {
        Geometry g = conv_geometry(conv, conv.phases[p], output);
        if (g.window_bytes > window) window = g.window_bytes;
        if (g.strip_pixels > strip) strip = g.strip_pixels;
        if (conv.phases[p].taps.size() > taps) taps = conv.phases[p].taps.size();
        all += g.all_pixels;
    }
    const uint64_t tap_bytes = slack_bytes(conv) * kBlock;
    const bool wide = conv.scheme != Scheme::kBytes;
    const uint64_t code_bytes = model.tensors[op.output].is_float ? 4 : 1;
    ConvWork work = {};
    work.window = carver->take<uint8_t>(window > kMaxWindow ? kTooLarge : window + slack_bytes(conv));
    work.bytes = carver->take<uint8_t>(wide ? product(input[2], conv.padded_channels) : 0);
    work.pixel_offsets = carver->take<uint32_t>(strip + kTilePixels);
    work.tap_offsets = carver->take<int32_t>(taps);
    work.weights = carver->take<uint8_t>(product(tap_bytes, taps));
    work.scratch = carver->take<int8_t>(weight_scratch_bytes(op));
    work.sums = carver->take<int32_t>(product((op.epilogue.norm_weight ? all : strip) + kTilePixels, kBlock));
    work.codes = carver->take<uint8_t>(product(strip, kBlock * code_bytes));
    work.gain = carver->take<float>(kBlock);
    work.offset = carver->take<float>(kBlock);
    return work;
}

uint64_t conv_work_bytes(const uq_model& model, const Op& op, const uint32_t input[3], const uint32_t output[3]) {
    Carver carver(nullptr);
    carve_conv(model, op, input, output, &carver);
    return carver.used();
}

}  // namespace uq
