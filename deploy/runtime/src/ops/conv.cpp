// Convolution and transposed convolution, integer and float, in two and three dimensions: one core.
//
// A transposed convolution is its sub-pixel phases, each an ordinary tap list whose outputs lie output_step apart; an
// ordinary convolution has one phase. A phase is cut into strips of whole output rows. The input window of a strip is
// unpacked once into rows padded with the value 0, gathering the channels of all inputs (a concat costs nothing); then
// each block of 16 output channels unpacks its weights once and meets every pixel of the strip, in ranges of segments
// whose weights stay in the first-level cache. Instance norm needs all sums of a channel before the first output: there
// the blocks are the outer loop, and the sums of one block are kept for the whole image.
#include "conv_shape.h"
#include "ops.h"

namespace uq {
namespace {

constexpr uint64_t kRangeBytes = 18 * 1024;  // of unpacked weights, beside the input pixels in a 32 KiB cache

class ConvRun {
  public:
    ConvRun(Run* run, const Op& op, uint8_t* memory)
        : run_(run),
          kernels_(run->model->kernels),
          op_(op),
          conv_(op.conv),
          first_(run->model->tensors[op.inputs[0]]),
          input_(run->layout->places[op.inputs[0]].size),
          output_(run->layout->places[op.output].size) {
        Carver carver(memory);
        work_ = carve_conv(*run->model, op, input_, output_, &carver);
        target_ = run->model->tensors[op.output].target();
    }

    bool plain() {
        for (size_t p = 0; p < conv_.phases.size(); ++p) {
            if (!start_phase(p)) continue;
            for (bool more = first_strip(); more; more = next_strip()) {
                load_window();
                for (uint32_t b = 0; b < conv_.blocks; ++b) {
                    sum_block(b, 0);
                    finish_block(b, 0, arrays_from(op_.epilogue.arrays, b * kBlock));
                    if (!run_->advance(strip_units(b))) return false;
                }
            }
        }
        return true;
    }

    bool normalised() {
        for (uint32_t b = 0; b < conv_.blocks; ++b) {
            uint64_t base = 0;
            for (size_t p = 0; p < conv_.phases.size(); ++p) {
                if (!start_phase(p)) continue;
                for (bool more = first_strip(); more; more = next_strip()) {
                    load_window();
                    sum_block(b, base);
                    base += strip_pixels();
                    if (!run_->advance(strip_units(b))) return false;
                }
            }
            const bool is_float = conv_.scheme == Scheme::kFloat;
            NormSums sums;
            sums.clear();
            if (is_float)
                sums.add_float(static_cast<const float*>(work_.sums), kBlock, base);
            else
                kernels_.norm_sums(static_cast<const int32_t*>(work_.sums), kBlock, base, sums.total, sums.high,
                                   sums.low);
            sums.affine(op_.epilogue, b * kBlock, used(b), base, is_float, work_.gain, work_.offset);
            EpilogueArrays arrays = arrays_from(op_.epilogue.arrays, b * kBlock);
            arrays.gain = work_.gain;
            arrays.offset = work_.offset;
            base = 0;
            for (size_t p = 0; p < conv_.phases.size(); ++p) {
                if (!start_phase(p)) continue;
                for (bool more = first_strip(); more; more = next_strip()) {
                    finish_block(b, base, arrays);
                    base += strip_pixels();
                }
            }
        }
        return true;
    }

  private:
    uint32_t used(uint32_t block) const {
        uint32_t left = op_.output_channels - block * kBlock;
        return left < kBlock ? left : kBlock;
    }

    // False when the phase has no output. Tap offsets are relative to the first tap position of a pixel.
    bool start_phase(size_t index) {
        phase_ = &conv_.phases[index];
        g_ = conv_geometry(conv_, *phase_, output_);
        if (g_.all_pixels == 0) return false;
        pixel_bytes_ = static_cast<uint64_t>(conv_.padded_channels) * conv_.element_bytes;
        for (size_t t = 0; t < phase_->taps.size(); ++t) {
            const Tap& tap = phase_->taps[t];
            uint64_t at = static_cast<uint64_t>(tap.offset[0] - static_cast<int64_t>(phase_->least[0]));
            at = at * g_.window[1] + static_cast<uint64_t>(tap.offset[1] - static_cast<int64_t>(phase_->least[1]));
            at = at * g_.window[2] + static_cast<uint64_t>(tap.offset[2] - static_cast<int64_t>(phase_->least[2]));
            work_.tap_offsets[t] = static_cast<int32_t>(at * pixel_bytes_);
        }
        if (phase_->taps.size()) memset(work_.window + g_.window_bytes, 0, slack_bytes(conv_));
        return true;
    }

    bool first_strip() {
        q_[0] = q_[1] = 0;
        shape_strip();
        return true;
    }

    bool next_strip() {
        q_[1] += g_.strip[1];
        if (q_[1] >= g_.count[1]) {
            q_[1] = 0;
            q_[0] += g_.strip[0];
        }
        if (q_[0] >= g_.count[0]) return false;
        shape_strip();
        return true;
    }

    void shape_strip() {
        n_[0] = g_.count[0] - q_[0] < g_.strip[0] ? g_.count[0] - q_[0] : g_.strip[0];
        n_[1] = g_.count[1] - q_[1] < g_.strip[1] ? g_.count[1] - q_[1] : g_.strip[1];
        n_[2] = g_.count[2];
        uint32_t* offset = work_.pixel_offsets;
        for (uint64_t d = 0; d < n_[0]; ++d)
            for (uint64_t h = 0; h < n_[1]; ++h)
                for (uint64_t w = 0; w < n_[2]; ++w) {
                    uint64_t at = (d * conv_.input_step[0] * g_.window[1] + h * conv_.input_step[1]) * g_.window[2];
                    *offset++ = static_cast<uint32_t>((at + w * conv_.input_step[2]) * pixel_bytes_);
                }
        for (uint32_t i = 0; i < kTilePixels; ++i) *offset++ = 0;  // the last tile's surplus repeats the first pixel
    }

    uint64_t strip_pixels() const { return pixels(n_); }

    uint64_t strip_units(uint32_t block) const {
        return strip_pixels() * used(block) * phase_->taps.size() * conv_.group_inputs;
    }

    void fill(uint8_t* dst, uint64_t positions) {
        if (conv_.scheme == Scheme::kBytes) {
            memset(dst, first_.code_offset(), positions * pixel_bytes_);
        } else if (conv_.scheme == Scheme::kWords) {
            auto* words = reinterpret_cast<int16_t*>(dst);
            for (uint64_t i = 0; i < positions * conv_.padded_channels; ++i)
                words[i] = static_cast<int16_t>(first_.code_offset());
        } else {
            memset(dst, 0, positions * pixel_bytes_);
        }
    }

    void load_window() {
        if (phase_->taps.size() == 0) return;
        const int64_t x0 = phase_->least[2];
        const int64_t window = static_cast<int64_t>(g_.window[2]);
        const int64_t begin = x0 < 0 ? (-x0 < window ? -x0 : window) : 0;  // first window position inside the image
        int64_t end = static_cast<int64_t>(input_[2]) - x0;                // first one behind it
        end = end < begin ? begin : end > window ? window : end;
        const uint64_t depths = static_cast<uint64_t>(n_[0] - 1) * conv_.input_step[0] + span(0);
        const uint64_t rows = static_cast<uint64_t>(n_[1] - 1) * conv_.input_step[1] + span(1);
        for (uint64_t z = 0; z < depths; ++z) {
            int64_t d = static_cast<int64_t>(q_[0]) * conv_.input_step[0] + phase_->least[0] + static_cast<int64_t>(z);
            for (uint64_t y = 0; y < rows; ++y) {
                int64_t h =
                    static_cast<int64_t>(q_[1]) * conv_.input_step[1] + phase_->least[1] + static_cast<int64_t>(y);
                uint8_t* dst = work_.window + (z * g_.window[1] + y) * g_.window[2] * pixel_bytes_;
                if (d < 0 || h < 0 || d >= input_[0] || h >= input_[1] || begin == end) {
                    fill(dst, g_.window[2]);
                    continue;
                }
                fill(dst, static_cast<uint64_t>(begin));
                uint64_t pixel = (static_cast<uint64_t>(d) * input_[1] + static_cast<uint64_t>(h)) * input_[2];
                load_row(pixel + static_cast<uint64_t>(begin + x0), static_cast<uint32_t>(end - begin),
                         dst + static_cast<uint64_t>(begin) * pixel_bytes_);
                fill(dst + static_cast<uint64_t>(end) * pixel_bytes_, static_cast<uint64_t>(window - end));
            }
        }
    }

    uint64_t span(int axis) const {
        return static_cast<uint64_t>(static_cast<int64_t>(phase_->most[axis]) - phase_->least[axis]) + 1;
    }

    // The channels of all inputs side by side.
    void load_row(uint64_t pixel, uint32_t count, uint8_t* dst) {
        uint32_t channel = 0;
        const uint32_t stride = conv_.padded_channels;
        uint8_t* bytes = conv_.scheme == Scheme::kBytes ? dst : work_.bytes;
        for (uint32_t i = 0; i < op_.input_count; ++i) {
            const Tensor& tensor = run_->model->tensors[op_.inputs[i]];
            PackedRow row = run_->row(op_.inputs[i], pixel, count);
            if (tensor.is_float) {
                auto* out = reinterpret_cast<float*>(dst) + channel;
                for (uint32_t p = 0; p < count; ++p)
                    memcpy(out + static_cast<size_t>(p) * stride, row.data + p * row.pixel_stride,
                           tensor.channels * sizeof(float));
            } else {
                load_bytes(kernels_, tensor, row, true, bytes + channel, stride);
            }
            channel += tensor.channels;
        }
        if (conv_.scheme == Scheme::kBytes || first_.is_float) return;
        if (conv_.scheme == Scheme::kWords && conv_.input_channels < stride)  // the spare channel meets weight 0
            for (uint32_t p = 0; p < count; ++p) bytes[static_cast<size_t>(p) * stride + stride - 1] = 0;
        const size_t values = static_cast<size_t>(count) * stride;
        if (conv_.scheme == Scheme::kWords) {
            auto* out = reinterpret_cast<int16_t*>(dst);
            for (size_t i = 0; i < values; ++i) out[i] = bytes[i];
        } else {
            auto* out = reinterpret_cast<float*>(dst);
            for (size_t i = 0; i < values; ++i) out[i] = static_cast<float>(bytes[i] - first_.code_offset());
        }
    }

    // Sums of the current strip for one block, at pixel number base of the sums.
    void sum_block(uint32_t block, uint64_t base) {
        const uint64_t count = strip_pixels();
        auto* sums = static_cast<int32_t*>(work_.sums) + base * kBlock;
        if (conv_.scheme == Scheme::kFloat)
            memset(sums, 0, count * kBlock * sizeof(float));
        else
            for (uint64_t p = 0; p < count; ++p)
                memcpy(sums + p * kBlock, &phase_->start[block * kBlock], kBlock * sizeof(int32_t));
        if (phase_->taps.size() == 0) return;
        unpack_block(kernels_, op_, *phase_, block, work_.weights, work_.scratch);
        const uint64_t step_bytes = static_cast<uint64_t>(kBlock) * conv_.group * conv_.element_bytes;
        ConvTile tile = {};
        tile.rows = work_.window + static_cast<uint64_t>(conv_.first_channel(block)) * conv_.element_bytes;
        tile.pixel_offsets = work_.pixel_offsets;
        tile.pixel_count = static_cast<uint32_t>((count + kTilePixels - 1) / kTilePixels * kTilePixels);
        tile.tap_offsets = work_.tap_offsets;
        tile.weights = work_.weights;
        tile.sums = sums;
        uint32_t at = phase_->first_segment[block], end = phase_->first_segment[block + 1];
        while (at < end) {
            uint64_t steps = 0;
            tile.segments = &phase_->segments[at];
            tile.segment_count = 0;
            while (at < end && (steps == 0 || (steps + phase_->segments[at].step_count) * step_bytes <= kRangeBytes)) {
                steps += phase_->segments[at++].step_count;
                ++tile.segment_count;
            }
            if (conv_.scheme == Scheme::kBytes)
                kernels_.conv_w8a8(tile);
            else if (conv_.scheme == Scheme::kWords)
                kernels_.conv_w16a16(tile);
            else
                kernels_.conv_w32a32(tile);
            tile.weights = static_cast<const uint8_t*>(tile.weights) + steps * step_bytes;
        }
    }

    // Epilogue and store of the current strip for one block.
    void finish_block(uint32_t block, uint64_t base, const EpilogueArrays& arrays) {
        const uint32_t count = static_cast<uint32_t>(strip_pixels());
        if (conv_.scheme == Scheme::kFloat)
            kernels_.epilogue_f32(static_cast<const float*>(work_.sums) + base * kBlock, kBlock, count, kBlock, arrays,
                                  target_, work_.codes, kBlock);
        else
            kernels_.epilogue_i32(static_cast<const int32_t*>(work_.sums) + base * kBlock, kBlock, count, kBlock,
                                  arrays, target_, work_.codes, kBlock);
        uint64_t source = 0;
        for (uint32_t d = 0; d < n_[0]; ++d)
            for (uint32_t h = 0; h < n_[1]; ++h, source += static_cast<uint64_t>(n_[2]) * kBlock)
                store_row(block, d, h, source);
    }

    void store_row(uint32_t block, uint32_t d, uint32_t h, uint64_t source) {
        uint64_t depth = static_cast<uint64_t>(q_[0] + d) * conv_.output_step[0] + phase_->origin[0];
        uint64_t height = static_cast<uint64_t>(q_[1] + h) * conv_.output_step[1] + phase_->origin[1];
        uint64_t pixel = (depth * output_[1] + height) * output_[2] + phase_->origin[2];
        PackedRow row = run_->row(op_.output, pixel, n_[2]);
        row.data += static_cast<uint64_t>(block) * kBlock * row.storage_bits / 8;
        row.pixel_stride *= conv_.output_step[2];
        row.channels = used(block);
        if (!target_.is_float) {
            kernels_.store_codes(static_cast<const uint8_t*>(work_.codes) + source, kBlock, row);
            return;
        }
        const float* values = static_cast<const float*>(work_.codes) + source;
        for (uint32_t p = 0; p < row.pixels; ++p)
            memcpy(row.data + p * row.pixel_stride, values + p * kBlock, row.channels * sizeof(float));
    }

    Run* run_;
    const Kernels& kernels_;
    const Op& op_;
    const Conv& conv_;
    const Tensor& first_;
    const uint32_t* input_;
    const uint32_t* output_;
    ConvWork work_;
    Target target_;
    const Phase* phase_ = nullptr;
    Geometry g_ = {};
    uint64_t pixel_bytes_ = 0;
    uint32_t q_[2] = {};  // first depth and row of the strip
    uint32_t n_[3] = {};
};

}  // namespace

bool run_conv(Run* run, const Op& op, uint8_t* work) {
    ConvRun conv(run, op, work);
    return op.epilogue.norm_weight ? conv.normalised() : conv.plain();
}

}  // namespace uq
