#include "mutate.h"

namespace fuzz {

using namespace uq;

namespace {

// Around every limit of FORMAT.md, and floats that are not finite or have no inverse.
const uint32_t kTelling[] = {
    0,          1,          2,          3,          4,          7,          8,          9,          16,
    31,         32,         33,         63,         64,         65,         127,        128,        255,
    256,        511,        512,        513,        4095,       4096,       4097,       65535,      65536,
    65537,      1u << 20,   1u << 30,   0x40000001, 0x7fffffff, 0x80000000, 0x80000001, 0xffff0000, 0xffffffff,
    0x7f800000, 0xff800000, 0x7fc00000, 0x00000100, 0x7f7fffff, 0x00800000, 0x3f800000,
};

void change_field(uint8_t* at, size_t width, Random* random) {
    uint32_t value = 0;
    memcpy(&value, at, width);
    switch (random->below(6)) {
        case 0:
            value += 1;
            break;
        case 1:
            value -= 1;
            break;
        case 2:
            value ^= 1u << random->below(static_cast<uint32_t>(8 * width));
            break;
        case 3:
            value = static_cast<uint32_t>(random->next());
            break;
        default:
            value = kTelling[random->below(sizeof kTelling / sizeof *kTelling)];
    }
    memcpy(at, &value, width);
}

// One field of one record, or one record's field taken from another.
void change_record(Bytes* section, uint32_t record_bytes, Random* random) {
    if (section->empty()) return;
    const uint32_t width = record_bytes == 1 || section->size() < record_bytes || random->chance(15) ? 1 : 4;
    const auto fields = static_cast<uint32_t>(section->size() / width);
    const uint32_t field = random->below(fields);
    const uint32_t stride = record_bytes / width;
    if (stride > 1 && fields > stride && random->chance(15)) {
        const uint32_t other = random->below(fields / stride) * stride + field % stride;
        memcpy(section->data() + field * width, section->data() + other * width, width);
        return;
    }
    change_field(section->data() + field * width, width, random);
}

void change_count(Bytes* section, uint32_t record_bytes, Random* random) {
    const size_t records = section->size() / record_bytes;  // its last one may be cut
    if (records == 0 || random->chance(30)) {
        section->resize(section->size() + record_bytes);
    } else if (random->chance(50)) {
        const size_t from = random->below(static_cast<uint32_t>(records)) * record_bytes;
        const Bytes record(section->begin() + from, section->begin() + from + record_bytes);
        section->insert(section->begin() + from, record.begin(), record.end());
    } else {
        const uint32_t most = record_bytes == 1 ? 128 : 2;
        const size_t cut = (1 + random->below(most)) * record_bytes;
        section->resize(cut < section->size() ? section->size() - cut : 0);
    }
}

}  // namespace

Bytes mutate_model(const Bytes& file, Random* random) {
    // Where it hurts: program, tensors, ops, operands, labels, strings, data, provenance.
    static const uint32_t kWeights[kSectionCount] = {12, 14, 45, 8, 4, 4, 10, 3};
    Bytes result = file;
    Sections sections;
    uint32_t version = 0;
    if (take_apart(file.data(), file.size(), &sections, &version)) {
        if (random->chance(5)) version = 1 + random->below(kVersion);
        for (uint32_t left = 1 + random->below(3); left; --left) {
            uint32_t draw = random->below(100), i = 0;
            for (; i + 1 < kSectionCount && draw >= kWeights[i]; ++i) draw -= kWeights[i];
            if (random->chance(8))
                change_count(&sections[i], kRecordBytes[i], random);
            else
                change_record(&sections[i], kRecordBytes[i], random);
        }
        result = assemble(sections, version);
    }
    const uint32_t head = sizeof(FileHeader) + kSectionCount * sizeof(FileSection);
    if (result.size() >= head && random->chance(10))
        change_field(result.data() + random->below(head / 4) * 4, 4, random);
    if (random->chance(3)) result.resize(random->below(static_cast<uint32_t>(result.size()) + 1));
    if (random->chance(97)) repair_checksum(result.data(), result.size());
    return result;
}

}  // namespace fuzz
