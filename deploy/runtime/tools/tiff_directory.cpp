#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tiff.h"

namespace tool {
namespace {

constexpr uint64_t kMaxEntries = 4096;

// Bytes of a value, by the number of its type; 0: unknown.
unsigned type_bytes(uint16_t type) {
    static const uint8_t kBytes[19] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8};
    return type < sizeof kBytes ? kBytes[type] : 0;
}

uint64_t load_offset(const TiffFile& t, const uint8_t* p) {
    return t.big ? load_64(p, t.big_endian) : load_32(p, t.big_endian);
}

Exit inside(const TiffFile& t, uint64_t offset, uint64_t bytes) {
    if (offset <= t.file->bytes && bytes <= t.file->bytes - offset) return kDone;
    return bad_tiff(t, "it needs %llu bytes from %llu on and ends at %llu (truncated)",
                    static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(offset),
                    static_cast<unsigned long long>(t.file->bytes));
}

// The place of a tag's values: in the entry where they fit, else where the entry points.
Exit locate(const TiffFile& t, uint64_t entry, const uint8_t* raw, TiffTag* tag) {
    const unsigned inline_bytes = t.big ? 8 : 4, value_at = t.big ? 12 : 8;
    tag->type = load_16(raw + 2, t.big_endian);
    tag->count = load_offset(t, raw + 4);
    const unsigned size = type_bytes(tag->type);
    tag->at = entry + value_at;
    if (size == 0) return kDone;  // of no type that is read here
    if (tag->count > t.file->bytes / size)
        return bad_tiff(t, "a tag has %llu values (truncated)", static_cast<unsigned long long>(tag->count));
    if (tag->count * size <= inline_bytes) return kDone;
    tag->at = load_offset(t, raw + value_at);
    return inside(t, tag->at, tag->count * size);
}

// The first value of a tag, which must have one.
Exit single(const TiffFile& t, const TiffTag& tag, uint64_t* value) {
    if (tag.count < 1) return bad_tiff(t, "a tag has no value");
    return tag_value(t, tag, 0, value);
}

// Several samples a pixel have a number of bits each; one is looked at, as they are refused anyway.
Exit store_tag(const TiffFile& t, uint16_t number, const TiffTag& tag, TiffPage* page) {
    switch (number) {
        case 256:
            return single(t, tag, &page->width);
        case 257:
            return single(t, tag, &page->height);
        case 258:
            return single(t, tag, &page->bits);
        case 259:
            return single(t, tag, &page->compression);
        case 262:
            return single(t, tag, &page->photometric);
        case 266:
            return single(t, tag, &page->fill_order);
        case 270:
            if (page->description.count == 0) page->description = tag;
            return kDone;
        case 273:
        case 324:
            page->offsets = tag;
            return kDone;
        case 277:
            return single(t, tag, &page->samples);
        case 278:
            if (page->tiled) return kDone;
            return single(t, tag, &page->part_height);
        case 279:
        case 325:
            page->counts = tag;
            return kDone;
        case 282:
            page->resolution_x = tag;
            return kDone;
        case 283:
            page->resolution_y = tag;
            return kDone;
        case 296:
            return single(t, tag, &page->unit);
        case 317:
            return single(t, tag, &page->predictor);
        case 322:
            page->tiled = true;
            return single(t, tag, &page->part_width);
        case 323:
            page->tiled = true;
            return single(t, tag, &page->part_height);
        case 339:
            return single(t, tag, &page->format);
        case 33629:
            page->stack = tag;
            return kDone;
        default:
            return kDone;
    }
}

}  // namespace

Exit bad_tiff(const TiffFile& t, const char* format, ...) {
    char why[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    return fail(kImage, "%.400s is not a usable TIFF: %s; copy or export the stack again.", t.file->path, why);
}

Exit open_tiff(const File* file, TiffFile* t) {
    *t = TiffFile{file, false, false, 0};
    uint8_t head[16];
    if (file->bytes < 8) return bad_tiff(*t, "it is truncated");
    TOOL_TRY(read_at(*file, 0, head, 8));
    t->big_endian = head[0] == 'M';
    const uint16_t version = load_16(head + 2, t->big_endian);
    if ((memcmp(head, "II", 2) != 0 && memcmp(head, "MM", 2) != 0) || (version != 42 && version != 43))
        return bad_tiff(*t, "it does not start like one");
    t->big = version == 43;
    if (t->big) TOOL_TRY(read_at(*file, 8, head + 8, 8));
    if (t->big && (load_16(head + 4, t->big_endian) != 8 || load_16(head + 6, t->big_endian) != 0))
        return bad_tiff(*t, "its offsets have another size than 8 bytes");
    t->first = t->big ? load_64(head + 8, t->big_endian) : load_32(head + 4, t->big_endian);
    return t->first ? kDone : bad_tiff(*t, "it has no page");
}

Exit tag_value(const TiffFile& t, const TiffTag& tag, uint64_t index, uint64_t* value) {
    uint8_t raw[8];
    const bool whole = tag.type == 1 || tag.type == 3 || tag.type == 4 || tag.type == 13 || tag.type >= 16;
    const unsigned bytes = type_bytes(tag.type);
    if (!whole || bytes == 0 || index >= tag.count)
        return bad_tiff(t, "a tag has another type or fewer values than it must");
    TOOL_TRY(read_at(*t.file, tag.at + index * bytes, raw, bytes));
    *value = bytes == 1   ? raw[0]
             : bytes == 2 ? load_16(raw, t.big_endian)
             : bytes == 4 ? load_32(raw, t.big_endian)
                          : load_64(raw, t.big_endian);
    return kDone;
}

Exit read_page(const TiffFile& t, uint64_t offset, TiffPage* page) {
    memset(page, 0, sizeof *page);
    page->bits = page->samples = page->format = page->compression = page->predictor = page->fill_order = page->unit = 1;
    uint8_t raw[20];
    const unsigned count_bytes = t.big ? 8 : 2, entry_bytes = t.big ? 20 : 12, link_bytes = t.big ? 8 : 4;
    TOOL_TRY(inside(t, offset, count_bytes));
    TOOL_TRY(read_at(*t.file, offset, raw, count_bytes));
    const uint64_t entries = t.big ? load_64(raw, t.big_endian) : load_16(raw, t.big_endian);
    if (entries == 0 || entries > kMaxEntries)
        return bad_tiff(t, "a page has %llu tags", static_cast<unsigned long long>(entries));
    uint64_t at = offset + count_bytes;
    TOOL_TRY(inside(t, at, entries * entry_bytes + link_bytes));
    for (uint64_t i = 0; i < entries; ++i, at += entry_bytes) {
        TOOL_TRY(read_at(*t.file, at, raw, entry_bytes));
        TiffTag tag;
        TOOL_TRY(locate(t, at, raw, &tag));
        TOOL_TRY(store_tag(t, load_16(raw, t.big_endian), tag, page));
    }
    TOOL_TRY(read_at(*t.file, at, raw, link_bytes));
    page->next = load_offset(t, raw);
    if (!page->tiled) page->part_width = page->width;
    if (!page->tiled && (page->part_height == 0 || page->part_height > page->height)) page->part_height = page->height;
    return kDone;
}

}  // namespace tool
