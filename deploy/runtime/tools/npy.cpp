#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"

namespace tool {
namespace {

constexpr size_t kMaxHeader = 10000;  // as numpy.load

// A reader of the one Python dictionary that a header is: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
struct Text {
    const char* at;
    const char* end;

    void blanks() {
        while (at < end && (*at == ' ' || *at == '\n' || *at == '\t')) ++at;
    }
    bool take(char wanted) {
        blanks();
        if (at == end || *at != wanted) return false;
        ++at;
        return true;
    }
    bool word(const char* wanted) {
        blanks();
        const size_t length = strlen(wanted);
        if (static_cast<size_t>(end - at) < length || memcmp(at, wanted, length) != 0) return false;
        at += length;
        return true;
    }
    bool string(char* dst, size_t room) {
        blanks();
        if (at == end || (*at != '\'' && *at != '"')) return false;
        const char quote = *at++;
        size_t used = 0;
        while (at < end && *at != quote) {
            if (used + 1 >= room) return false;
            dst[used++] = *at++;
        }
        dst[used] = 0;
        return take(quote);
    }
    bool number(uint64_t* value) {
        blanks();
        if (at == end || *at < '0' || *at > '9') return false;
        *value = 0;
        for (; at < end && *at >= '0' && *at <= '9'; ++at) {
            if (*value > (uint64_t{1} << 56)) return false;
            *value = *value * 10 + static_cast<uint64_t>(*at - '0');
        }
        if (at < end && *at == 'L') ++at;  // Python 2
        return true;
    }
};

bool read_shape(Text* text, NpyHeader* header) {
    header->axes = 0;
    if (!text->take('(')) return false;
    while (!text->take(')')) {
        if (header->axes == 4 || !text->number(&header->shape[header->axes])) return false;
        ++header->axes;
        if (!text->take(',')) return text->take(')');
    }
    return true;
}

bool read_dictionary(Text text, char descr[16], NpyHeader* header) {
    unsigned found = 0;
    if (!text.take('{')) return false;
    while (!text.take('}')) {
        char key[16];
        if (!text.string(key, sizeof key) || !text.take(':')) return false;
        if (strcmp(key, "descr") == 0) {
            if (!text.string(descr, 16)) return false;
            found |= 1;
        } else if (strcmp(key, "fortran_order") == 0) {
            header->fortran_order = text.word("True");
            if (!header->fortran_order && !text.word("False")) return false;
            found |= 2;
        } else if (strcmp(key, "shape") == 0) {
            if (!read_shape(&text, header)) return false;
            found |= 4;
        } else {
            return false;
        }
        if (!text.take(',') && text.at < text.end && *text.at != '}') return false;
    }
    return found == 7;
}

bool read_type(const char* descr, Numbers* numbers) {
    if (strlen(descr) != 3 || !strchr("<>|", descr[0]) || !strchr("uif", descr[1])) return false;
    *numbers = Numbers{descr[1], static_cast<uint8_t>(descr[2] - '0'), descr[0] == '>', false, 1.0, 0.0};
    const uint8_t bytes = numbers->bytes;
    return (bytes == 1 && descr[1] != 'f') || bytes == 2 || bytes == 4 || bytes == 8;
}

}  // namespace

Exit read_npy_header(const File& file, NpyHeader* header) {
    uint8_t start[12];
    static const uint8_t kMagic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    if (file.bytes < sizeof start)
        return fail(kImage, "%.400s is truncated: no .npy file is so short; copy it again.", file.path);
    TOOL_TRY(read_at(file, 0, start, sizeof start));
    if (memcmp(start, kMagic, sizeof kMagic) != 0 || start[6] < 1 || start[6] > 3)
        return fail(kImage, "%.400s does not start like a .npy file; save it again with numpy.save.", file.path);
    const size_t before = start[6] == 1 ? 10 : 12;
    const uint64_t length = start[6] == 1 ? load_16(start + 8, false) : load_32(start + 8, false);
    if (length > kMaxHeader)
        return fail(kImage, "%.400s: a header of %llu bytes, at most %zu are read; save it again with numpy.save.",
                    file.path, static_cast<unsigned long long>(length), kMaxHeader);
    char text[kMaxHeader], descr[16] = "";
    TOOL_TRY(read_at(file, before, text, static_cast<size_t>(length)));
    memset(header, 0, sizeof *header);
    if (!read_dictionary(Text{text, text + length}, descr, header))
        return fail(
            kImage,
            "%.400s: its header is damaged, or it holds objects, fields or more than 4 axes; save it again with "
            "numpy.save as an array of numbers.",
            file.path);
    if (!read_type(descr, &header->numbers))
        return fail(kImage,
                    "%.400s has numbers of type %.16s: integers or floats of at most 8 bytes are expected; "
                    "convert it first.",
                    file.path, descr);
    header->data = before + length;
    uint64_t count = 1;
    for (uint32_t a = 0; a < header->axes; ++a) {
        const uint64_t room = header->shape[a] ? file.bytes / header->shape[a] : 0;
        if (header->shape[a] && count > room)
            return fail(kImage, "%.400s is truncated: it announces more numbers than its %llu bytes; copy it again.",
                        file.path, static_cast<unsigned long long>(file.bytes));
        count *= header->shape[a];
    }
    if (count > (file.bytes - header->data) / header->numbers.bytes)
        return fail(kImage,
                    "%.400s is truncated: it announces %llu numbers of %u bytes and ends at byte %llu; copy it "
                    "again.",
                    file.path, static_cast<unsigned long long>(count), header->numbers.bytes,
                    static_cast<unsigned long long>(file.bytes));
    return kDone;
}

size_t make_npy_header(const uint64_t* shape, uint32_t axes, uint8_t dst[256]) {
    char text[240];
    size_t used =
        static_cast<size_t>(snprintf(text, sizeof text, "{'descr': '|u1', 'fortran_order': False, 'shape': ("));
    for (uint32_t a = 0; a < axes; ++a)
        used += static_cast<size_t>(snprintf(text + used, sizeof text - used, "%s%llu", a ? ", " : "",
                                             static_cast<unsigned long long>(shape[a])));
    used += static_cast<size_t>(snprintf(text + used, sizeof text - used, "), }"));
    // The numbers begin at a multiple of 64; the header ends with a line feed.
    const size_t total = (10 + used + 1 + 63) / 64 * 64;
    memset(text + used, ' ', total - 10 - used);
    text[total - 11] = '\n';
    memcpy(dst, "\x93NUMPY\x01\x00", 8);
    store_16(dst + 8, static_cast<uint16_t>(total - 10), false);
    memcpy(dst + 10, text, total - 10);
    return total;
}

// ---------------------------------------------------------------------------------------------- as an image

namespace {

struct NpyState {
    NpyHeader header;
    uint64_t next;
    uint8_t chunk[65536];
};

NpyState* state_of(const Image* image) {
    return static_cast<NpyState*>(image->state);
}

Exit open_npy(Image* image) {
    auto* state = static_cast<NpyState*>(calloc(1, sizeof(NpyState)));
    if (!state) return fail(kRuntime, "no memory to read %.400s; close other programs.", image->file.path);
    image->state = state;
    NpyHeader& header = state->header;
    TOOL_TRY(read_npy_header(image->file, &header));
    if (header.axes != 2 && header.axes != 3)
        return fail(kImage, "%.400s has %u axes: (H, W) or (slices, H, W) is expected; reshape it.", image->file.path,
                    header.axes);
    image->flat = header.axes == 2;
    const uint64_t* shape = header.shape + (image->flat ? 0 : 1);
    return set_size(image, image->flat ? 1 : header.shape[0], shape[0], shape[1], image->file.bytes,
                    uint64_t{8} * header.numbers.bytes);
}

Exit start_npy(Image* image) {
    state_of(image)->next = 0;
    return kDone;
}

// Numbers first, first + step, ... (counted in the file's order) to dst[0], dst[dst_step], ...: through the chunk, or
// one by one where they lie too far apart. *done < count says which one is not finite.
Exit read_numbers(Image* image, uint64_t first, uint64_t step, uint64_t count, float* dst, size_t dst_step,
                  uint64_t* done) {
    NpyState* s = state_of(image);
    const Numbers& numbers = s->header.numbers;
    const uint64_t room = sizeof s->chunk / numbers.bytes;
    for (*done = 0; *done < count;) {
        if (stopped()) return stop_here();
        uint64_t run = step <= room ? 1 + (room - 1) / step : 1;
        if (run > count - *done) run = count - *done;
        const uint64_t at = first + *done * step;
        TOOL_TRY(read_at(image->file, s->header.data + at * numbers.bytes, s->chunk,
                         static_cast<size_t>(((run - 1) * step + 1) * numbers.bytes)));
        const size_t piece = step == 1 ? static_cast<size_t>(run) : 1;
        for (uint64_t i = 0; i < run; i += piece) {
            const uint8_t* src = s->chunk + i * step * numbers.bytes;
            const size_t good = to_floats(numbers, src, piece, dst + *done * dst_step, dst_step, &image->seen);
            *done += good;
            if (good < piece) return kDone;
        }
    }
    return kDone;
}

Exit slice_npy(Image* image, float* dst) {
    NpyState* s = state_of(image);
    const uint64_t slice = s->next++, height = image->height, width = image->width;
    const uint64_t plane = height * width;
    uint64_t done = 0;
    if (!s->header.fortran_order) {
        TOOL_TRY(read_numbers(image, slice * plane, 1, plane, dst, 1, &done));
        return done < plane ? bad_pixel(*image, slice, done / width, done % width) : kDone;
    }
    // Fortran's order: slices innermost, then rows, then columns.
    for (uint64_t x = 0; x < width; ++x) {
        TOOL_TRY(read_numbers(image, slice + x * height * image->slices, image->slices, height, dst + x,
                              static_cast<size_t>(width), &done));
        if (done < height) return bad_pixel(*image, slice, done, x);
    }
    return kDone;
}

Exit finish_npy(Image*) {
    return kDone;
}

void close_npy(Image* image) {
    free(image->state);
}

}  // namespace

const Format kNpyFormat = {open_npy, start_npy, slice_npy, finish_npy, close_npy};

}  // namespace tool
