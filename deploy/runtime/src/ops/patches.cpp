// Few input channels: the taps of every output pixel side by side, which are then the channels of one tap.
#include "window.h"

namespace uq {
namespace {

// Taps that are neighbours in the window.
struct Stretch {
    int32_t offset;
    uint32_t bytes;
};

// Whole words are copied where a stretch is shorter. What they write too much belongs to the next stretch, or to the
// padding, which meets weights of 0, or to the next patch, all of which are written later.
template <uint32_t kWord>
void copy(const uint8_t* src, uint32_t bytes, uint8_t* dst) {
    for (uint32_t at = 0; at < bytes; at += kWord) memcpy(dst + at, src + at, kWord);
}

}  // namespace

void make_patches(const Conv& conv, const Phase& phase, const Window& window, const ConvWork& work, uint64_t count) {
    const auto channel_bytes = static_cast<uint32_t>(window.pixel_bytes());
    const uint64_t patch = static_cast<uint64_t>(conv.padded_channels) * conv.element_bytes;
    Stretch stretches[kMaxPatchTaps];
    uint32_t n = 0, longest = 0;
    for (size_t t = 0; t < phase.taps.size(); ++t) {
        const int32_t offset = work.tap_offsets[t];
        if (n > 0 && offset == stretches[n - 1].offset + static_cast<int32_t>(stretches[n - 1].bytes))
            stretches[n - 1].bytes += channel_bytes;
        else
            stretches[n++] = Stretch{offset, channel_bytes};
        if (stretches[n - 1].bytes > longest) longest = stretches[n - 1].bytes;
    }
    for (uint64_t p = 0; p < count; ++p) {
        const uint8_t* origin = window.data() + work.pixel_offsets[p];
        uint8_t* out = work.patches + p * patch;
        for (uint32_t i = 0; i < n; ++i) {
            const uint8_t* src = origin + stretches[i].offset;
            const uint32_t bytes = stretches[i].bytes;
            longest <= 4 ? copy<4>(src, bytes, out) : copy<8>(src, bytes, out);
            out += bytes;
        }
        work.pixel_offsets[p] = static_cast<uint32_t>(p * patch);
    }
}

}  // namespace uq
