// A TIFF as a stack: its chain of pages, or ImageJ's stacks that have one directory for all slices.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiff.h"

namespace tool {
namespace {

constexpr uint64_t kMaxPages = 1000000;

struct TiffState {
    TiffFile file;
    TiffPage first, page;
    bool one_directory;    // for all slices
    uint64_t slice_bytes;  // there
    uint64_t next;         // slice
    uint64_t next_place;   // of its directory
    TiffGeometry geometry;
    TiffPixels pixels;
    char description[4096];
};

TiffState* state_of(const Image* image) {
    return static_cast<TiffState*>(image->state);
}

// A whole number behind name in the description; 1 where there is none.
uint64_t number_behind(const char* text, const char* name) {
    const char* found = strstr(text, name);
    if (!found) return 1;
    uint64_t value = 0;
    for (found += strlen(name); *found >= '0' && *found <= '9' && value < kMaxPages; ++found)
        value = value * 10 + static_cast<uint64_t>(*found - '0');
    return value ? value : 1;
}

// The rest of the line behind name.
void text_behind(const char* text, const char* name, char* dst, size_t room) {
    const char* found = strstr(text, name);
    dst[0] = 0;
    if (!found) return;
    found += strlen(name);
    const size_t length = strcspn(found, "\r\n");
    if (length < room) {
        memcpy(dst, found, length);
        dst[length] = 0;
    }
}

// The axes of slices that tifffile's description names; none where there is none, or not of these pixels.
size_t shape_of(const char* text, const TiffPage& page, uint64_t sizes[8]) {
    static const char kStart[] = "{\"shape\": [";
    size_t axes = 0;
    if (strncmp(text, kStart, sizeof kStart - 1) != 0) return 0;
    const char* at = text + sizeof kStart - 1;
    for (char* end = nullptr; axes < 8; at = end + 1) {
        sizes[axes] = strtoull(at, &end, 10);
        if (end == at) break;
        ++axes;
        if (*end != ',') break;
    }
    return axes > 2 && sizes[axes - 2] == page.height && sizes[axes - 1] == page.width ? axes - 2 : 0;
}

// How many slices the description announces, over all axes; several long axes are more than a stack.
Exit announced(const TiffState& s, uint64_t pages, uint64_t* slices) {
    static const char* const kImagej[] = {"\nframes=", "\nslices=", "\nchannels="};
    static const char* const kOme[] = {"SizeT=\"", "SizeZ=\"", "SizeC=\""};
    const char* text = s.description;
    uint64_t sizes[8] = {};
    size_t axes = 0;
    *slices = pages;
    if (s.geometry.imagej) {
        for (const char* name : kImagej) sizes[axes++] = number_behind(text, name);
        *slices = number_behind(text, "\nimages=");
    } else if (strstr(text, "<OME")) {
        for (const char* name : kOme) sizes[axes++] = number_behind(text, name);
    } else {
        axes = shape_of(text, s.first, sizes);
        if (axes) *slices = 1;
        for (size_t a = 0; a < axes; ++a) *slices = sizes[a] && *slices < kMaxPages ? *slices * sizes[a] : kMaxPages;
    }
    unsigned longer = 0;
    for (size_t a = 0; a < axes; ++a) longer += sizes[a] > 1;
    if (longer > 1)
        return bad_tiff(s.file,
                        "it has %u axes of slices (time, depth, channels) and (pages, height, width) are expected: "
                        "split it",
                        longer);
    if (s.first.stack.count > 1) return bad_tiff(s.file, "it is a MetaMorph stack: export it with one page a slice");
    return kDone;
}

Exit read_description(TiffState* s) {
    const TiffTag& tag = s->first.description;
    if (tag.count == 0 || tag.type != 2) return kDone;
    const uint64_t most = sizeof s->description - 1;
    const auto length = static_cast<size_t>(tag.count < most ? tag.count : most);
    TOOL_TRY(read_at(*s->file.file, tag.at, s->description, length));
    s->description[length] = 0;
    s->geometry.imagej = strncmp(s->description, "ImageJ=", 7) == 0;
    return kDone;
}

Exit read_resolution(TiffState* s) {
    TiffGeometry& g = s->geometry;
    const TiffTag* tags[2] = {&s->first.resolution_x, &s->first.resolution_y};
    g.has_resolution = true;
    for (unsigned i = 0; i < 2; ++i) {
        if (tags[i]->type != 5 || tags[i]->count < 1) {
            g.has_resolution = false;
            return kDone;
        }
        uint8_t raw[8];
        TOOL_TRY(read_at(*s->file.file, tags[i]->at, raw, sizeof raw));
        for (unsigned k = 0; k < 2; ++k) {
            const uint32_t part = load_32(raw + 4 * k, s->file.big_endian);
            if (part == 0) g.has_resolution = false;
            store_32(g.resolution + 8 * i + 4 * k, part, false);
        }
    }
    g.unit = s->first.unit <= 3 ? static_cast<uint16_t>(s->first.unit) : uint16_t{1};
    if (!g.imagej) return kDone;
    text_behind(s->description, "\nspacing=", g.spacing, sizeof g.spacing);
    text_behind(s->description, "\nunit=", g.unit_name, sizeof g.unit_name);
    return kDone;
}

bool same_kind(const TiffPage& a, const TiffPage& b) {
    return a.width == b.width && a.height == b.height && a.bits == b.bits && a.format == b.format;
}

// Follows the chain once; a second finger at half the speed meets it where it runs in a circle.
Exit count_pages(TiffState* s, uint64_t* pages) {
    uint64_t place = s->file.first, slow = place;
    for (*pages = 0; place != 0; place = s->page.next) {
        TOOL_TRY(read_page(s->file, place, &s->page));
        if (*pages == 0) s->first = s->page;
        ++*pages;
        TOOL_TRY(check_page(s->file, s->page, *pages));
        if (!same_kind(s->page, s->first))
            return bad_tiff(s->file, "its pages differ in size or type and a stack is expected");
        if (stopped()) return stop_here();
        if (*pages % 2 == 0) {
            TiffPage behind;
            TOOL_TRY(read_page(s->file, slow, &behind));
            slow = behind.next;
        }
        if ((*pages > 1 && s->page.next == slow) || *pages > kMaxPages)
            return bad_tiff(s->file, "its chain of pages runs in a circle");
    }
    return kDone;
}

// The strips of one slice lie one behind another, and all slices behind the first.
Exit check_one_directory(TiffState* s, uint64_t slices) {
    const TiffPage& page = s->first;
    uint64_t end = 0;
    for (uint64_t i = 0; i < page.offsets.count; ++i) {
        uint64_t offset = 0, count = 0;
        TOOL_TRY(tag_value(s->file, page.offsets, i, &offset));
        TOOL_TRY(tag_value(s->file, page.counts, i, &count));
        if (page.compression != 1 || page.tiled || (i > 0 && offset != end) || offset > UINT64_MAX / 4 ||
            count > UINT64_MAX / 4)
            return bad_tiff(s->file, "it announces %llu slices and has 1 page",
                            static_cast<unsigned long long>(slices));
        end = offset + count;
        s->slice_bytes += count;
    }
    const uint64_t wanted = (page.width * page.bits + 7) / 8 * page.height;
    // ImageJ may give one strip with the bytes of the whole stack.
    if (s->slice_bytes != wanted && !(page.offsets.count == 1 && s->slice_bytes >= wanted))
        return bad_tiff(s->file, "it announces %llu slices and has 1 page", static_cast<unsigned long long>(slices));
    s->slice_bytes = wanted;
    s->one_directory = true;
    uint64_t first = 0;
    TOOL_TRY(tag_value(s->file, page.offsets, 0, &first));
    if (first > s->file.file->bytes || (s->file.file->bytes - first) / wanted < slices)
        return bad_tiff(s->file, "it announces %llu slices of %llu bytes and ends at %llu (truncated)",
                        static_cast<unsigned long long>(slices), static_cast<unsigned long long>(wanted),
                        static_cast<unsigned long long>(s->file.file->bytes));
    return kDone;
}

Exit open_tiff_image(Image* image) {
    auto* s = static_cast<TiffState*>(calloc(1, sizeof(TiffState)));
    if (!s) return fail(kRuntime, "no memory to read %.400s; close other programs.", image->file.path);
    image->state = s;
    uint64_t pages = 0, slices = 0;
    TOOL_TRY(open_tiff(&image->file, &s->file));
    TOOL_TRY(count_pages(s, &pages));
    TOOL_TRY(read_description(s));
    TOOL_TRY(read_resolution(s));
    TOOL_TRY(announced(*s, pages, &slices));
    if (pages == 1 && slices > 1) {
        TOOL_TRY(check_one_directory(s, slices));
    } else if (pages != slices && !s->geometry.imagej) {
        return bad_tiff(s->file, "it announces %llu slices and has %llu pages", static_cast<unsigned long long>(slices),
                        static_cast<unsigned long long>(pages));
    } else {
        slices = pages;
    }
    // Each page was checked against the file by itself; pages may share their pixels, so that no sum limits them.
    TOOL_TRY(set_size(image, slices, s->first.height, s->first.width, UINT64_MAX, s->first.bits));
    const uint64_t widest = s->first.part_width > s->first.width ? s->first.part_width : s->first.width;
    s->pixels.row_room = static_cast<size_t>((widest * s->first.bits + 7) / 8);
    return kDone;
}

Exit start_tiff(Image* image) {
    TiffState* s = state_of(image);
    s->next = 0;
    s->next_place = s->file.first;
    return kDone;
}

Exit slice_tiff(Image* image, float* dst) {
    TiffState* s = state_of(image);
    const uint64_t slice = s->next++;
    if (s->one_directory) {
        s->page = s->first;
    } else {
        TOOL_TRY(read_page(s->file, s->next_place, &s->page));
        TOOL_TRY(check_page(s->file, s->page, s->next));
        s->next_place = s->page.next;
    }
    // Rows of tiles can be longer on a later page; twice, for the predictor's scratch.
    const auto room = static_cast<size_t>((s->page.part_width * s->page.bits + 7) / 8);
    if (!s->pixels.row || room > s->pixels.row_room) {
        free(s->pixels.row);
        if (room > s->pixels.row_room) s->pixels.row_room = room;
        s->pixels.row = static_cast<uint8_t*>(malloc(2 * s->pixels.row_room));
        if (!s->pixels.row) return fail(kRuntime, "no memory to read %.400s; close other programs.", image->file.path);
    }
    uint64_t bad = 0;
    const uint64_t shift = s->one_directory ? slice * s->slice_bytes : 0;
    TOOL_TRY(read_pixels(s->file, s->page, shift, &s->pixels, dst, &image->seen, &bad));
    const uint64_t pixels = static_cast<uint64_t>(image->height) * image->width;
    return bad < pixels ? bad_pixel(*image, slice, bad / image->width, bad % image->width) : kDone;
}

Exit finish_tiff(Image*) {
    return kDone;
}

void close_tiff(Image* image) {
    if (image->state) free(state_of(image)->pixels.row);
    free(image->state);
}

}  // namespace

const Format kTiffFormat = {open_tiff_image, start_tiff, slice_tiff, finish_tiff, close_tiff};

const TiffGeometry& tiff_geometry(const Image& image) {
    return state_of(&image)->geometry;
}

}  // namespace tool
