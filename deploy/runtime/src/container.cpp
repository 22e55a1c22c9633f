#include "container.h"

#include <math.h>

#include "common.h"
#include "crc32.h"

namespace uq {
namespace {

constexpr uint32_t kRecordBytes[kSectionCount] = {
    sizeof(FileProgram), sizeof(FileTensor), sizeof(FileOp), 4, sizeof(FileLabel), 1, 1, 1,
};
constexpr const char* kSectionNames[kSectionCount] = {
    "program", "tensors", "ops", "operands", "labels", "strings", "data", "provenance",
};

// Well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
bool is_utf8(const uint8_t* text, size_t bytes) {
    for (size_t i = 0; i < bytes;) {
        const uint8_t lead = text[i];
        const size_t length = lead < 0x80   ? 1
                              : lead < 0xC2 ? 0
                              : lead < 0xE0 ? 2
                              : lead < 0xF0 ? 3
                              : lead < 0xF5 ? 4
                                            : 0;
        if (length == 0 || length > bytes - i) return false;
        for (size_t k = 1; k < length; ++k)
            if ((text[i + k] & 0xC0) != 0x80) return false;
        const uint8_t next = length > 1 ? text[i + 1] : 0;
        if ((lead == 0xE0 && next < 0xA0) || (lead == 0xED && next > 0x9F) || (lead == 0xF0 && next < 0x90) ||
            (lead == 0xF4 && next > 0x8F))
            return false;
        i += length;
    }
    return true;
}

}  // namespace

bool all_zero(const uint8_t* bytes, size_t count) {
    for (size_t i = 0; i < count; ++i)
        if (bytes[i]) return false;
    return true;
}

uq_status Container::check_whole() {
    UQ_CHECK(bytes_ >= sizeof(FileHeader), "%zu bytes: a model file has at least %zu. Copy or export it again.", bytes_,
             sizeof(FileHeader));
    const auto* header = reinterpret_cast<const FileHeader*>(data_);
    UQ_CHECK(memcmp(header->magic, kMagic, sizeof kMagic) == 0,
             "the first 8 bytes are not those of a model file. Name a .uqm file.");
    if (header->version < 1 || header->version > kVersion)
        return fail(UQ_VERSION, "version %u: this library reads 1 to %u. Export the model with a matching unetq.",
                    header->version, kVersion);
    version_ = header->version;
    UQ_CHECK(header->file_bytes == bytes_,
             "%zu bytes: the file says it has %llu; it was cut or extended. Copy it again.", bytes_,
             static_cast<unsigned long long>(header->file_bytes));
    const uint8_t nothing[4] = {0, 0, 0, 0};
    uint32_t found = crc32(crc32(crc32(0, data_, 12), nothing, 4), data_ + 16, bytes_ - 16);
    UQ_CHECK(found == header->checksum,
             "checksum %08x: the file says %08x; at least one bit was changed. Copy it again.", found,
             header->checksum);
    UQ_CHECK(header->section_count == kSectionCount && header->section_record_bytes == sizeof(FileSection) &&
                 all_zero(header->reserved, sizeof header->reserved),
             "the header's section count, record size or reserved bytes are wrong. Export the model again.");
    return UQ_OK;
}

uq_status Container::find_sections() {
    uint64_t expected = padded(sizeof(FileHeader) + kSectionCount * sizeof(FileSection));
    UQ_CHECK(bytes_ >= expected, "%zu bytes: the table of sections does not fit. Copy the file again.", bytes_);
    const auto* table = reinterpret_cast<const FileSection*>(data_ + sizeof(FileHeader));
    for (uint32_t i = 0; i < kSectionCount; ++i) {
        const FileSection& entry = table[i];
        UQ_CHECK(entry.kind == i + 1 && entry.record_bytes == kRecordBytes[i] && entry.reserved == 0 &&
                     entry.bytes == static_cast<uint64_t>(entry.count) * kRecordBytes[i],
                 "section %s: its entry in the table is wrong. Export the model again.", kSectionNames[i]);
        UQ_CHECK(entry.offset == expected && entry.bytes <= bytes_ - expected,
                 "section %s does not lie where it must, or not in the file. Export the model again.",
                 kSectionNames[i]);
        section_[i] = data_ + entry.offset;
        size_[i] = entry.bytes;
        count_[i] = entry.count;
        expected = padded(entry.offset + entry.bytes);
        UQ_CHECK(expected <= bytes_, "section %s is not followed by its padding. Export the model again.",
                 kSectionNames[i]);
    }
    UQ_CHECK(expected == bytes_, "bytes after the last section. Export the model again.");
    return UQ_OK;
}

uq_status Container::name(uint32_t offset, uint32_t bytes, const char** text) {
    uint64_t end = static_cast<uint64_t>(offset) + bytes;
    UQ_CHECK(bytes <= kMaxName && end < size_[kStrings] && section_[kStrings][end] == 0,
             "a name at %u with %u bytes does not fit into the names. Export the model again.", offset, bytes);
    *text = reinterpret_cast<const char*>(section_[kStrings]) + offset;
    UQ_CHECK(is_utf8(section_[kStrings] + offset, bytes), "the name at %u is not UTF-8. Export the model again.",
             offset);
    UQ_CHECK(memchr(*text, 0, bytes) == nullptr, "the name at %u has a NUL inside. Export the model again.", offset);
    return UQ_OK;
}

uq_status Container::blob(const char* where, uint64_t offset, uint64_t bytes, const uint8_t** found) {
    UQ_CHECK(offset % kAlignment == 0 && offset <= size_[kData] && bytes <= size_[kData] - offset,
             "%.80s: its data at %llu do not lie in the data section at a multiple of 64. Export the model again.",
             where, static_cast<unsigned long long>(offset));
    *found = section_[kData] + offset;
    return UQ_OK;
}

uq_status Container::floats(const char* where, uint64_t offset, uint64_t count, const float** found) {
    const uint8_t* bytes = nullptr;
    UQ_TRY(blob(where, offset, product(count, 4), &bytes));
    const auto* values = reinterpret_cast<const float*>(bytes);
    for (uint64_t i = 0; i < count; ++i)
        UQ_CHECK(isfinite(values[i]), "%.80s: a number is NaN or infinite; all must be finite. Export the model again.",
                 where);
    *found = values;
    return UQ_OK;
}

uq_status Container::triple(const char* where, const char* what, const uint32_t value[3], uint32_t low,
                            uint32_t neutral, bool flat) {
    for (int a = 0; a < 3; ++a)
        UQ_CHECK(value[a] >= low && value[a] <= kMaxExtent,
                 "%.80s: %s = %u; allowed are %u to %u. Export the model again.", where, what, value[a], low,
                 kMaxExtent);
    UQ_CHECK(!flat || value[0] == neutral, "%.80s: %s in depth = %u; a 2-D model has %u there. Export the model again.",
             where, what, value[0], neutral);
    return UQ_OK;
}

}  // namespace uq
