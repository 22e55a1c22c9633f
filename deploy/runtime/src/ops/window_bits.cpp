// Rows of planes: a pixel is [plane][word], 32 channels a word, those behind the last channel 0.
#include "../fields.h"
#include "window.h"

namespace uq {
namespace {

// One code in all channels: a plane is all ones or all zeros.
void fill_pixel(const Conv& conv, uint32_t code, uint32_t* pixel) {
    memset(pixel, 0, conv.planes * conv.words * sizeof(uint32_t));
    for (uint32_t j = 0; j < conv.planes; ++j, pixel += conv.words) {
        if ((code >> j & 1) == 0) continue;
        memset(pixel, 0xff, conv.input_channels / 32 * sizeof(uint32_t));
        if (conv.input_channels % 32) pixel[conv.input_channels / 32] = (1u << conv.input_channels % 32) - 1;
    }
}

// Whole words.
void split_words(const uint8_t* src, uint32_t words, uint32_t bits, uint32_t flip, uint32_t plane, uint32_t* dst) {
    const uint32_t low = flip & 1 ? UINT32_MAX : 0, high = flip & 2 ? UINT32_MAX : 0;
    if (bits == 1) {
        for (uint32_t i = 0; i < words; ++i) {
            uint32_t value;
            memcpy(&value, src + i * sizeof value, sizeof value);
            dst[i] = value ^ low;
        }
        return;
    }
    for (uint32_t i = 0; i < words; ++i) {
        uint64_t value;
        memcpy(&value, src + i * sizeof value, sizeof value);
        dst[i] = even_bits(value) ^ low;
        dst[plane + i] = even_bits(value >> 1) ^ high;
    }
}

// Fields of 1 or 2 bits of a row to the planes of its pixels, from channel first, a multiple of 8, on.
void split_fields(const PackedRow& row, uint32_t flip, const Conv& conv, uint32_t first, uint32_t* dst) {
    const uint64_t bytes = (static_cast<uint64_t>(row.channels) * row.storage_bits + 7) / 8;
    const uint32_t pixel_words = conv.planes * conv.words;
    if (row.channels % 32 == 0 && first % 32 == 0) {
        dst += first / 32;
        for (uint32_t p = 0; p < row.pixels; ++p, dst += pixel_words)
            split_words(row.data + p * row.pixel_stride, row.channels / 32, row.storage_bits, flip, conv.words, dst);
        return;
    }
    for (uint32_t p = 0; p < row.pixels; ++p, dst += pixel_words) {
        const uint8_t* src = row.data + p * row.pixel_stride;
        for (uint32_t c = 0; c < row.channels; c += 32) {
            const uint32_t left = row.channels - c, n = left < 32 ? left : 32;
            const Fields fields = read_fields(src, bytes, c, n, row.storage_bits);
            const uint32_t all = n < 32 ? (1u << n) - 1 : UINT32_MAX;
            const uint32_t planes[2] = {fields.low ^ (flip & 1 ? all : 0), fields.high ^ (flip & 2 ? all : 0)};
            // Whole words alone would overwrite what the next input puts behind these channels.
            for (uint32_t j = 0; j < row.storage_bits; ++j)
                memcpy(reinterpret_cast<uint8_t*>(dst + j * conv.words) + (first + c) / 8, &planes[j], (n + 7) / 8);
        }
    }
}

// Bytes of codes, each plus the offset, to planes that hold 0 from channel first on.
void split_bytes(const uint8_t* src, uint32_t count, uint32_t channels, const Conv& conv, uint32_t first,
                 uint32_t* dst) {
    const uint32_t pixel_words = conv.planes * conv.words;
    for (uint32_t p = 0; p < count; ++p, dst += pixel_words)
        for (uint32_t c = first; c < first + channels; ++c, ++src)
            for (uint32_t j = 0; j < conv.planes; ++j)
                dst[j * conv.words + c / 32] |= static_cast<uint32_t>(*src >> j & 1) << c % 32;
}

}  // namespace

void Window::fill_planes(uint8_t* dst, uint64_t count) const {
    auto* pixels = reinterpret_cast<uint32_t*>(dst);
    const size_t words = conv_.planes * conv_.words;
    if (count > 0) fill_pixel(conv_, static_cast<uint32_t>(zero_code()), pixels);
    for (uint64_t p = 1; p < count; ++p) memcpy(pixels + p * words, pixels, words * sizeof(uint32_t));
}

void Window::gather_planes(const RowPart& part, uint8_t* dst) {
    const uint64_t pixel = (static_cast<uint64_t>(part.depth) * input_[1] + part.row) * input_[2] + part.column;
    auto* planes = reinterpret_cast<uint32_t*>(dst);
    memset(dst, 0, part.count * pixel_bytes_);
    uint32_t first = 0;
    for (uint32_t i = 0; i < op_.input_count; ++i) {
        const Tensor& tensor = run_->model->tensors[op_.inputs[i]];
        const Kernels& kernels = run_->model->kernels;
        const Op* maker = run_->layout->fused_maker(op_.inputs[i]);
        PackedRow row = run_->row(op_.inputs[i], pixel, part.count);
        if (tensor.bits <= 2 && first % 8 == 0) {
            if (maker) {
                row.data = work_.packed;
                row.pixel_stride = tensor.pixel_bytes();
                produce_packed(run_, *maker, part, row, work_.bytes, work_.producers);
            }
            split_fields(row, static_cast<uint32_t>(tensor.code_offset()), conv_, first, planes);
        } else {
            if (maker)
                produce_codes(run_, *maker, part, conv_.entry_offset, work_.bytes, tensor.channels, work_.producers);
            else
                load_bytes(kernels, tensor, row, conv_.entry_offset, work_.bytes, tensor.channels);
            split_bytes(work_.bytes, part.count, tensor.channels, conv_, first, planes);
        }
        first += tensor.channels;
    }
}

}  // namespace uq
