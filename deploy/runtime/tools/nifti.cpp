// The voxels lie first axis innermost: a slice (a place on the third axis) is one stretch of them, and pixel (row,
// column) of it is (place on the first axis, place on the second).
#include "nifti.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "stream.h"

namespace tool {
namespace {

struct NiftiState {
    NiftiHeader header;
    Numbers numbers;
    uint64_t next;
    Stream stream;
    uint8_t chunk[kChunk];
};

constexpr int64_t kMostChannels = 65536;

NiftiState* state_of(const Image* image) {
    return static_cast<NiftiState*>(image->state);
}

// Where the fields of the two versions lie.
struct Fields {
    size_t magic, datatype, bitpix, dim, slope, intercept, offset, display, display_bytes;
};
constexpr Fields kFirst = {344, 70, 72, 40, 112, 116, 108, 124, 8};
constexpr Fields kSecond = {4, 12, 14, 16, 176, 184, 168, 192, 16};

const Fields& fields_of(const NiftiHeader& header) {
    return header.bytes == 540 ? kSecond : kFirst;
}

int64_t dimension(const NiftiHeader& h, unsigned index) {
    const uint8_t* at = h.raw + fields_of(h).dim;
    if (h.bytes == 540) return static_cast<int64_t>(load_64(at + 8 * index, h.big_endian));
    return static_cast<int16_t>(load_16(at + 2 * index, h.big_endian));
}

double real(const NiftiHeader& h, size_t at) {
    return h.bytes == 540 ? double_of(load_64(h.raw + at, h.big_endian))
                          : static_cast<double>(float_of(load_32(h.raw + at, h.big_endian)));
}

void put_real(NiftiHeader* h, size_t at, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (h->bytes == 348) return store_32(h->raw + at, bits, h->big_endian);
    const double wide = value;
    uint64_t wide_bits;
    memcpy(&wide_bits, &wide, sizeof wide_bits);
    store_64(h->raw + at, wide_bits, h->big_endian);
}

bool number_type(int code, Numbers* numbers) {
    static const struct {
        int code;
        char kind;
        uint8_t bytes;
    } kTypes[] = {{2, 'u', 1},   {4, 'i', 2},   {8, 'i', 4},   {16, 'f', 4},   {64, 'f', 8},
                  {256, 'i', 1}, {512, 'u', 2}, {768, 'u', 4}, {1024, 'i', 8}, {1280, 'u', 8}};
    for (const auto& type : kTypes) {
        if (type.code != code) continue;
        *numbers = Numbers{type.kind, type.bytes, false, false, 1.0, 0.0};
        return true;
    }
    return false;
}

Packing packing_of(const NiftiHeader& header) {
    return header.packed ? Packing::kGzip : Packing::kNone;
}

Exit read_header(Image* image) {
    NiftiState* s = state_of(image);
    NiftiHeader& h = s->header;
    const char* path = image->file.path;
    const size_t length = strlen(path);
    h.packed = length > 3 && strcasecmp(path + length - 3, ".gz") == 0;
    start_stream(&s->stream, &image->file, 0, image->file.bytes, packing_of(h));
    TOOL_TRY(read_stream(&s->stream, h.raw, 4));
    h.big_endian = h.raw[0] == 0;
    const uint32_t size = load_32(h.raw, h.big_endian);
    if (size != 348 && size != 540)
        return fail(kImage, "%.400s does not start like a NIfTI file; convert it again.", path);
    h.bytes = size;
    TOOL_TRY(read_stream(&s->stream, h.raw + 4, h.bytes - 4));
    if (memcmp(h.raw + fields_of(h).magic, size == 348 ? "n+1" : "n+2", 4) != 0)
        return fail(kImage,
                    "%.400s: its magic is not that of a NIfTI file with header and voxels in one; convert it again.",
                    path);
    return kDone;
}

Exit read_geometry(Image* image) {
    NiftiState* s = state_of(image);
    NiftiHeader& h = s->header;
    const char* path = image->file.path;
    const Fields& at = fields_of(h);
    const int64_t axes = dimension(h, 0);
    if (axes < 1 || axes > 7)
        return fail(kImage, "%.400s has %lld axes, NIfTI has 1 to 7; it is damaged: copy it again.", path,
                    static_cast<long long>(axes));
    bool single = axes >= 2;
    int64_t shape[3] = {1, 1, 1}, channels = 1;
    for (unsigned a = 1; a <= static_cast<unsigned>(axes); ++a) {
        const int64_t length = dimension(h, a);
        if (length < 1)
            return fail(kImage, "%.400s: axis %u has %lld voxels, at least 1 is needed; it is damaged: copy it again.",
                        path, a, static_cast<long long>(length));
        if (a <= 3) shape[a - 1] = length;
        if (a <= 3 || length == 1) continue;
        single = single && channels == 1 && length <= kMostChannels;
        channels = length;
    }
    if (!single)
        return fail(kImage,
                    "%.400s has %lld axes: one 2-D or 3-D volume is expected, with channels on one more axis at most; "
                    "split a series into volumes.",
                    path, static_cast<long long>(axes));
    const int type = load_16(h.raw + at.datatype, h.big_endian);
    if (!number_type(type, &s->numbers))
        return fail(kImage,
                    "%.400s has voxels of NIfTI type %d: grey integers or floats of at most 8 bytes are expected; "
                    "convert it to grey.",
                    path, type);
    s->numbers.big_endian = h.big_endian;
    const double slope = real(h, at.slope), intercept = real(h, at.intercept);
    if (slope != 0 && isfinite(slope)) {  // else: no scaling
        if (!isfinite(intercept))
            return fail(kImage,
                        "%.400s: a scaling of %g and an intercept of %g, which must be finite; convert it again.", path,
                        slope, intercept);
        s->numbers.scaled = slope != 1 || intercept != 0;
        s->numbers.slope = slope;
        s->numbers.intercept = intercept;
    }
    const double first = h.bytes == 540
                             ? static_cast<double>(static_cast<int64_t>(load_64(h.raw + at.offset, h.big_endian)))
                             : real(h, at.offset);
    if (!(first >= static_cast<double>(h.bytes + 4) && first < 1e15 && first == floor(first)))
        return fail(kImage,
                    "%.400s: its voxels begin at byte %g, behind the header and its 4 bytes is expected; convert it "
                    "again.",
                    path, first);
    h.voxels = static_cast<uint64_t>(first);
    TOOL_TRY(read_place(h, static_cast<unsigned>(axes), shape, image));
    const uint64_t most = most_unpacked(packing_of(h), image->file.bytes);
    if (h.voxels > most)
        return fail(kImage, "%.400s is truncated: its voxels begin at byte %g; copy it again.", path, first);
    image->channels = static_cast<uint32_t>(channels);
    const uint64_t room = (most - h.voxels) / image->channels;  // of a volume
    return set_size(image, static_cast<uint64_t>(shape[2]), static_cast<uint64_t>(shape[0]),
                    static_cast<uint64_t>(shape[1]), room, uint64_t{8} * s->numbers.bytes);
}

Exit open_nifti(Image* image) {
    image->state = calloc(1, sizeof(NiftiState));
    if (!image->state) return fail(kRuntime, "no memory to read %.400s; close other programs.", image->file.path);
    TOOL_TRY(read_header(image));
    return read_geometry(image);
}

Exit start_nifti(Image* image) {
    NiftiState* s = state_of(image);
    s->next = 0;
    start_stream(&s->stream, &image->file, 0, image->file.bytes, packing_of(s->header));
    return skip_stream(&s->stream, s->header.voxels);
}

Exit slice_nifti(Image* image, float* dst) {
    NiftiState* s = state_of(image);
    const uint64_t slice = s->next++;
    const size_t rows = image->height, columns = image->width, room = kChunk / s->numbers.bytes;
    for (size_t column = 0; column < columns; ++column) {
        for (size_t row = 0; row < rows;) {
            const size_t run = rows - row < room ? rows - row : room;
            TOOL_TRY(read_stream(&s->stream, s->chunk, run * s->numbers.bytes));
            const size_t good =
                to_floats(s->numbers, s->chunk, run, dst + row * columns + column, columns, &image->seen);
            row += good;
            if (good < run) return bad_pixel(*image, slice, row, column);
        }
        if (stopped()) return stop_here();
    }
    return kDone;
}

Exit finish_nifti(Image* image) {
    return finish_stream(&state_of(image)->stream);
}

void close_nifti(Image* image) {
    free(image->state);
}

// The axes behind the first three, and their sizes, as nibabel has them.
void cut_channels(NiftiHeader* h) {
    const bool second = h->bytes == 540;
    uint8_t* dim = h->raw + fields_of(*h).dim;
    for (unsigned a = 0; a < 8; ++a) {
        const uint16_t length = a == 0 ? 3 : 1;
        if (a >= 1 && a <= 3) continue;
        if (second)
            store_64(dim + 8 * a, length, h->big_endian);
        else
            store_16(dim + 2 * a, length, h->big_endian);
        if (a) put_real(h, (second ? 104 : 76) + (second ? 8 : 4) * a, 1.0f);
    }
}

}  // namespace

const Format kNiftiFormat = {open_nifti, start_nifti, slice_nifti, finish_nifti, close_nifti};

const NiftiHeader& nifti_header(const Image& image) {
    return state_of(&image)->header;
}

void make_mask_header(NiftiHeader* header, bool channels, bool extended) {
    const Fields& at = fields_of(*header);
    if (channels) cut_channels(header);
    store_16(header->raw + at.datatype, 2, header->big_endian);
    store_16(header->raw + at.bitpix, 8, header->big_endian);
    memset(header->raw + at.display, 0, at.display_bytes);
    put_real(header, at.slope, 1.0f);
    put_real(header, at.intercept, 0.0f);
    if (extended) return;  // what lies between header and voxels is kept
    header->voxels = header->bytes + 4;
    if (header->bytes == 540)
        store_64(header->raw + at.offset, header->voxels, header->big_endian);
    else
        put_real(header, at.offset, static_cast<float>(header->voxels));
}

}  // namespace tool
