// A PNG mask: 8 bits of grey, no filter. The pixels go into chunks of at most kPiece bytes as they are packed.
#include <string.h>

#include "../src/crc32.h"
#include "mask.h"

namespace tool {
namespace {

Exit put_chunk(Output* output, const char* type, const void* data, size_t bytes) {
    uint8_t head[8], tail[4];
    store_32(head, static_cast<uint32_t>(bytes), true);
    memcpy(head + 4, type, 4);
    store_32(tail, uq::crc32(uq::crc32(0, head + 4, 4), static_cast<const uint8_t*>(data), bytes), true);
    TOOL_TRY(put(output, head, sizeof head));
    TOOL_TRY(put(output, data, bytes));
    return put(output, tail, sizeof tail);
}

// For Sink: a chunk for each piece that the packer hands out (1 KB).
Exit put_pixels(void* output, const void* data, size_t bytes) {
    return bytes ? put_chunk(static_cast<Output*>(output), "IDAT", data, bytes) : kDone;
}

}  // namespace

Exit start_png_mask(Mask* mask) {
    uint8_t header[13] = {};
    store_32(header, mask->image->width, true);
    store_32(header + 4, mask->image->height, true);
    header[8] = 8;
    TOOL_TRY(put(&mask->output, "\x89PNG\r\n\x1a\n", 8));
    return put_chunk(&mask->output, "IHDR", header, sizeof header);
}

Exit put_png_slice(Mask* mask, const uint8_t* values) {
    const uint8_t filter = 0;
    const size_t width = mask->image->width;
    TOOL_TRY(start_deflate(&mask->deflate, Sink{put_pixels, &mask->output}, Wrapper::kZlib));
    for (size_t y = 0; y < mask->image->height; ++y) {
        TOOL_TRY(deflate(&mask->deflate, &filter, 1));
        TOOL_TRY(deflate(&mask->deflate, values + y * width, width));
    }
    TOOL_TRY(finish_deflate(&mask->deflate));
    return put_chunk(&mask->output, "IEND", "", 0);
}

}  // namespace tool
