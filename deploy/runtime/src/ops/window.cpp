#include "window.h"

#include "../lookup.h"

namespace uq {

Window::Window(Run* run, const Op& op, const ConvWork& work)
    : run_(run),
      op_(op),
      conv_(op.conv),
      work_(work),
      first_(run->model->tensors[op.inputs[0]]),
      input_(run->layout->places[op.inputs[0]].size),
      pixel_bytes_(static_cast<uint64_t>(op.conv.window_channels) * op.conv.element_bytes) {}

void Window::start_phase(const Phase& phase, const Geometry& geometry) {
    phase_ = &phase;
    geometry_ = &geometry;
    loaded_ = false;
    if (phase.taps.size()) memset(work_.window + geometry.window_bytes, 0, slack_bytes(conv_));
}

// The value 0, as it enters the kernels.
void Window::fill(uint8_t* dst, uint64_t pixels) const {
    if (conv_.scheme == Scheme::kBits) return fill_planes(dst, pixels);
    if (conv_.scheme == Scheme::kLookup) return fill_tables(dst, pixels);
    const uint64_t values = pixels * conv_.window_channels;
    const int32_t zero = zero_code();
    if (conv_.element_bytes == 1) {
        memset(dst, zero, values);
    } else if (conv_.element_bytes == 2) {
        auto* words = reinterpret_cast<int16_t*>(dst);
        for (uint64_t i = 0; i < values; ++i) words[i] = static_cast<int16_t>(zero);
    } else {
        auto* reals = reinterpret_cast<float*>(dst);
        for (uint64_t i = 0; i < values; ++i) reals[i] = static_cast<float>(first_.zero_point);
    }
}

// Tables of them; channels behind the last enter as 0.
void Window::fill_tables(uint8_t* dst, uint64_t pixels) const {
    uint8_t codes[kLookupGroup], full[4 * kLookupGroup], last[4 * kLookupGroup];
    const auto expand = run_->model->kernels.lookup_conv->forms[conv_.lookup].expand;
    const uint32_t rest = (conv_.input_channels - 1) % kLookupGroup + 1;
    memset(codes, zero_code(), sizeof codes);
    expand(codes, 1, full);
    memset(codes + rest, 0, sizeof codes - rest);
    expand(codes, 1, last);
    for (uint64_t p = 0; p < pixels; ++p) {
        for (uint32_t c = kLookupGroup; c < conv_.window_channels; c += kLookupGroup, dst += sizeof full)
            memcpy(dst, full, sizeof full);
        memcpy(dst, last, sizeof last);
        dst += sizeof last;
    }
}

void Window::load(const Strip& strip) {
    if (phase_->taps.size() == 0) return;
    uint64_t span[2];
    for (int a = 0; a < 2; ++a)
        span[a] = static_cast<uint64_t>(static_cast<int64_t>(phase_->most[a]) - phase_->least[a]) + 1;
    const uint32_t height = conv_.scheme == Scheme::kWinograd ? round_up(strip.count[1], 2) : strip.count[1];
    const uint64_t depths = static_cast<uint64_t>(strip.count[0] - 1) * conv_.input_step[0] + span[0];
    const uint64_t rows = static_cast<uint64_t>(height - 1) * conv_.input_step[1] + span[1];
    const int64_t depth = static_cast<int64_t>(strip.first[0]) * conv_.input_step[0] + phase_->least[0];
    const int64_t row = static_cast<int64_t>(strip.first[1]) * conv_.input_step[1] + phase_->least[1];
    const uint64_t row_bytes = geometry_->window[2] * pixel_bytes_;
    uint64_t kept = 0;
    if (loaded_ && depth == depth_ && depths == depths_ && row >= row_ && row < row_ + static_cast<int64_t>(rows_)) {
        const uint64_t skipped = static_cast<uint64_t>(row - row_);
        kept = rows_ - skipped < rows ? rows_ - skipped : rows;
        if (skipped)
            for (uint64_t z = 0; z < depths; ++z)
                memmove(work_.window + at(z, 0, 0) * pixel_bytes_, work_.window + at(z, skipped, 0) * pixel_bytes_,
                        kept * row_bytes);
    }
    for (uint64_t z = 0; z < depths; ++z)
        for (uint64_t y = kept; y < rows; ++y)
            load_row(depth + static_cast<int64_t>(z), row + static_cast<int64_t>(y),
                     work_.window + at(z, y, 0) * pixel_bytes_);
    loaded_ = true;
    depth_ = depth;
    row_ = row;
    depths_ = depths;
    rows_ = rows;
}

// One row of the window: padding left and right, the image between, or padding alone.
void Window::load_row(int64_t depth, int64_t row, uint8_t* dst) {
    const int64_t x0 = phase_->least[2], width = static_cast<int64_t>(geometry_->window[2]);
    const int64_t begin = x0 < 0 ? (-x0 < width ? -x0 : width) : 0;  // first window position inside the image
    int64_t end = static_cast<int64_t>(input_[2]) - x0;              // first one behind it
    end = end < begin ? begin : end > width ? width : end;
    if (depth < 0 || row < 0 || depth >= input_[0] || row >= input_[1] || begin == end) {
        fill(dst, geometry_->window[2]);
        return;
    }
    fill(dst, static_cast<uint64_t>(begin));
    gather(static_cast<uint32_t>(depth), static_cast<uint32_t>(row), static_cast<uint32_t>(begin + x0),
           static_cast<uint32_t>(end - begin), dst + static_cast<uint64_t>(begin) * pixel_bytes_);
    fill(dst + static_cast<uint64_t>(end) * pixel_bytes_, static_cast<uint64_t>(width - end));
}

// The channels of all inputs side by side.
void Window::gather(uint32_t depth, uint32_t row, uint32_t column, uint32_t count, uint8_t* dst) {
    if (conv_.scheme == Scheme::kBits) return gather_planes(RowPart{depth, row, column, count}, dst);
    const uint64_t pixel = (static_cast<uint64_t>(depth) * input_[1] + row) * input_[2] + column;
    const uint32_t stride = conv_.window_channels;
    uint8_t* bytes = conv_.element_bytes == 1 ? dst : work_.bytes;
    uint32_t channel = 0;
    for (uint32_t i = 0; i < op_.input_count; ++i) {
        const Tensor& tensor = run_->model->tensors[op_.inputs[i]];
        if (const Op* maker = run_->layout->fused_maker(op_.inputs[i])) {
            const RowPart part = {depth, row, column, count};
            produce_codes(run_, *maker, part, conv_.entry_offset, bytes + channel, stride, work_.producers);
            channel += tensor.channels;
            continue;
        }
        const PackedRow source = run_->row(op_.inputs[i], pixel, count);
        if (tensor.is_float) {
            auto* out = reinterpret_cast<float*>(dst) + channel;
            for (uint32_t p = 0; p < count; ++p)
                memcpy(out + static_cast<size_t>(p) * stride, source.data + p * source.pixel_stride,
                       tensor.channels * sizeof(float));
        } else {
            load_bytes(run_->model->kernels, tensor, source, conv_.entry_offset, bytes + channel, stride);
        }
        channel += tensor.channels;
    }
    if (conv_.element_bytes == 1 || first_.is_float) return;
    if (conv_.element_bytes == 2 && conv_.input_channels < stride)  // the spare channel meets weight 0
        for (uint32_t p = 0; p < count; ++p) bytes[static_cast<size_t>(p) * stride + stride - 1] = 0;
    const size_t values = static_cast<size_t>(count) * stride;
    if (conv_.scheme == Scheme::kLookup) {
        for (uint32_t p = 0; p < count && channel < stride; ++p)
            memset(bytes + static_cast<size_t>(p) * stride + channel, 0, stride - channel);
        run_->model->kernels.lookup_conv->forms[conv_.lookup].expand(bytes, values / kLookupGroup, dst);
    } else if (conv_.element_bytes == 2) {
        auto* out = reinterpret_cast<int16_t*>(dst);
        for (size_t i = 0; i < values; ++i) out[i] = bytes[i];
    } else {
        auto* out = reinterpret_cast<float*>(dst);
        for (size_t i = 0; i < values; ++i) out[i] = static_cast<float>(bytes[i] - conv_.entry_offset);
    }
}

}  // namespace uq
