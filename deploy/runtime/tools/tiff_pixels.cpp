// Strips and tiles of one grey page, row by row.
#include <string.h>

#include "tiff.h"

namespace tool {
namespace {

constexpr uint64_t kMaxSide = 1u << 24;

bool packing_of(uint64_t compression, Packing* packing) {
    switch (compression) {
        case 1:
            *packing = Packing::kNone;
            return true;
        case 5:
            *packing = Packing::kLzw;
            return true;
        case 8:
        case 32946:
            *packing = Packing::kZlib;
            return true;
        case 32773:
            *packing = Packing::kPackBits;
            return true;
        default:
            return false;
    }
}

Numbers numbers_of(const TiffFile& t, const TiffPage& page) {
    const char kind = page.format == 3 ? 'f' : page.format == 2 ? 'i' : 'u';
    // The predictor of floating point leaves the most significant byte first.
    return Numbers{kind, static_cast<uint8_t>(page.bits / 8), t.big_endian || page.predictor == 3, false, 1.0, 0.0};
}

uint64_t row_bytes(const TiffPage& page, uint64_t width) {
    return (width * page.bits + 7) / 8;
}

// Each number is a difference to the one before.
void add_up(uint8_t* row, size_t count, unsigned bytes, bool big) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; ++i, row += bytes) {
        if (bytes == 1) {
            sum += *row;
            *row = static_cast<uint8_t>(sum);
        } else if (bytes == 2) {
            sum += load_16(row, big);
            store_16(row, static_cast<uint16_t>(sum), big);
        } else if (bytes == 4) {
            sum += load_32(row, big);
            store_32(row, static_cast<uint32_t>(sum), big);
        } else {
            sum += load_64(row, big);
            store_64(row, sum, big);
        }
    }
}

// Differences of bytes; the most significant bytes of all numbers come first, then the next ones.
void gather_floats(uint8_t* row, uint8_t* scratch, size_t count, unsigned bytes) {
    add_up(row, count * bytes, 1, false);
    memcpy(scratch, row, count * bytes);
    for (size_t i = 0; i < count; ++i)
        for (unsigned b = 0; b < bytes; ++b) row[i * bytes + b] = scratch[b * count + i];
}

// Fewer bits than 8: two levels are 0 and 255, more stay as they are stored.
size_t small_numbers(const uint8_t* row, size_t count, unsigned bits, float* dst, Seen* seen) {
    const unsigned mask = (1u << bits) - 1;
    for (size_t x = 0; x < count; ++x) {
        const unsigned value = row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
        dst[x] = static_cast<float>(bits == 1 ? value * 255 : value);
        seen->add(static_cast<double>(dst[x]));
    }
    return count;
}

// One strip or tile: its rows that lie in the image.
Exit read_part(const TiffFile& t, const TiffPage& page, TiffPixels* p, uint64_t x0, uint64_t y0, float* dst, Seen* seen,
               uint64_t* bad) {
    const Numbers numbers = numbers_of(t, page);
    const auto bytes = static_cast<size_t>(row_bytes(page, page.part_width));
    const auto columns = static_cast<size_t>(page.part_width < page.width - x0 ? page.part_width : page.width - x0);
    const uint64_t rows = page.part_height < page.height - y0 ? page.part_height : page.height - y0;
    for (uint64_t y = y0; y < y0 + rows; ++y) {
        TOOL_TRY(read_stream(&p->stream, p->row, bytes));
        if (page.predictor == 2) add_up(p->row, static_cast<size_t>(page.part_width), numbers.bytes, t.big_endian);
        if (page.predictor == 3)
            gather_floats(p->row, p->row + p->row_room, static_cast<size_t>(page.part_width), numbers.bytes);
        float* to = dst + y * page.width + x0;
        const size_t good = page.bits < 8 ? small_numbers(p->row, columns, static_cast<unsigned>(page.bits), to, seen)
                                          : to_floats(numbers, p->row, columns, to, 1, seen);
        if (good < columns) {
            *bad = y * page.width + x0 + good;
            return kDone;
        }
        if (stopped()) return stop_here();
    }
    return finish_stream(&p->stream);
}

}  // namespace

Exit check_page(const TiffFile& t, const TiffPage& page, uint64_t number) {
    const auto n = static_cast<unsigned long long>(number);
    const auto bits = static_cast<unsigned long long>(page.bits);
    if (page.samples != 1)
        return bad_tiff(t, "page %llu has %llu values a pixel (colour) and grey is expected: convert it to grey first",
                        n, static_cast<unsigned long long>(page.samples));
    if (page.photometric > 1)
        return bad_tiff(t, "page %llu has a colour table (colour) and grey is expected: convert it to grey first", n);
    if (page.width == 0 || page.height == 0 || page.width > kMaxSide || page.height > kMaxSide)
        return bad_tiff(t, "page %llu has %llu x %llu pixels; a side has 1 to %llu", n,
                        static_cast<unsigned long long>(page.height), static_cast<unsigned long long>(page.width),
                        static_cast<unsigned long long>(kMaxSide));
    Packing packing;
    if (!packing_of(page.compression, &packing))
        return bad_tiff(t,
                        "page %llu has compression %llu; none, LZW, deflate and PackBits are known: export it again, "
                        "uncompressed",
                        n, static_cast<unsigned long long>(page.compression));
    const bool whole = page.bits == 8 || page.bits == 16 || page.bits == 32 || page.bits == 64;
    const bool small = page.bits == 1 || page.bits == 2 || page.bits == 4;
    if (page.format < 1 || page.format > 3 ||
        !(page.format == 3 ? whole && bits > 8 : whole || (small && page.format == 1)))
        return bad_tiff(t,
                        "page %llu has pixels of %llu bits in format %llu; unsigned of 1 to 64, signed of 8 to 64 and "
                        "floats of 16 to 64 bits are known",
                        n, bits, static_cast<unsigned long long>(page.format));
    if (page.predictor < 1 || page.predictor > 3 || (page.predictor == 2 && (!whole || page.format == 3)) ||
        (page.predictor == 3 && page.format != 3) || (page.predictor > 1 && packing == Packing::kNone) ||
        page.fill_order != 1)
        return bad_tiff(t, "page %llu has predictor %llu and fill order %llu, which do not go with its pixels", n,
                        static_cast<unsigned long long>(page.predictor),
                        static_cast<unsigned long long>(page.fill_order));
    if (page.part_width == 0 || page.part_height == 0 || page.part_width > kMaxSide || page.part_height > kMaxSide)
        return bad_tiff(t, "page %llu has tiles of %llu x %llu", n, static_cast<unsigned long long>(page.part_height),
                        static_cast<unsigned long long>(page.part_width));
    const uint64_t across = (page.width + page.part_width - 1) / page.part_width;
    const uint64_t parts = across * ((page.height + page.part_height - 1) / page.part_height);
    if (page.offsets.count != page.counts.count || page.offsets.count < parts)
        return bad_tiff(t, "page %llu has %llu strips or tiles and names the places of %llu, the sizes of %llu", n,
                        static_cast<unsigned long long>(parts), static_cast<unsigned long long>(page.offsets.count),
                        static_cast<unsigned long long>(page.counts.count));
    if (most_unpacked(packing, t.file->bytes) / page.height < row_bytes(page, page.width))
        return bad_tiff(t, "page %llu says that it is larger than the file's %llu bytes can hold (truncated)", n,
                        static_cast<unsigned long long>(t.file->bytes));
    return kDone;
}

Exit read_pixels(const TiffFile& t, const TiffPage& page, uint64_t shift, TiffPixels* p, float* dst, Seen* seen,
                 uint64_t* bad) {
    Packing packing = Packing::kNone;
    packing_of(page.compression, &packing);
    *bad = page.width * page.height;
    const uint64_t pixels = *bad, row = row_bytes(page, page.part_width);
    uint64_t index = 0;
    for (uint64_t y = 0; y < page.height; y += page.part_height) {
        for (uint64_t x = 0; x < page.width; x += page.part_width, ++index) {
            uint64_t offset = 0, count = 0;
            TOOL_TRY(tag_value(t, page.offsets, index, &offset));
            TOOL_TRY(tag_value(t, page.counts, index, &count));
            const uint64_t rows = page.part_height < page.height - y ? page.part_height : page.height - y;
            // A stack with one directory: its only strip may have the bytes of all slices.
            if (shift && count > row * rows) count = row * rows;
            if (offset > t.file->bytes || shift > t.file->bytes - offset || count < 1 ||
                count > t.file->bytes - offset - shift)
                return bad_tiff(t, "it needs %llu bytes of pixels from %llu on and ends at %llu (truncated)",
                                static_cast<unsigned long long>(count), static_cast<unsigned long long>(offset),
                                static_cast<unsigned long long>(t.file->bytes));
            if (most_unpacked(packing, count) < row * rows)
                return bad_tiff(t, "a strip or tile of %llu bytes cannot hold its %llu (truncated)",
                                static_cast<unsigned long long>(count), static_cast<unsigned long long>(row * rows));
            start_stream(&p->stream, t.file, offset + shift, count, packing);
            TOOL_TRY(read_part(t, page, p, x, y, dst, seen, bad));
            if (*bad < pixels) return kDone;
        }
    }
    return kDone;
}

}  // namespace tool
