#include "model_writer.h"

#include <stdio.h>
#include <string.h>

#include "../src/crc32.h"

namespace fuzz {

using namespace uq;

const uint32_t kRecordBytes[kSectionCount] = {
    sizeof(FileProgram), sizeof(FileTensor), sizeof(FileOp), sizeof(uint32_t), sizeof(FileLabel), 1, 1, 1,
};

namespace {

constexpr size_t kAlignment = 64;

void fill_up(Bytes* bytes) {
    bytes->resize((bytes->size() + kAlignment - 1) / kAlignment * kAlignment);
}

template <typename T>
Bytes raw(const std::vector<T>& records) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(records.data());
    return Bytes(bytes, bytes + records.size() * sizeof(T));
}

}  // namespace

void repair_checksum(uint8_t* data, size_t bytes) {
    if (bytes < sizeof(FileHeader)) return;
    memset(data + offsetof(FileHeader, checksum), 0, sizeof(uint32_t));
    const uint32_t found = uq::crc32(0, data, bytes);
    memcpy(data + offsetof(FileHeader, checksum), &found, sizeof found);
}

Bytes assemble(const Sections& sections, uint32_t version) {
    Bytes file(sizeof(FileHeader) + kSectionCount * sizeof(FileSection));
    fill_up(&file);
    for (uint32_t i = 0; i < kSectionCount; ++i) {
        FileSection entry = {};
        entry.kind = i + 1;
        entry.record_bytes = kRecordBytes[i];
        entry.offset = file.size();
        entry.bytes = sections[i].size();
        entry.count = static_cast<uint32_t>(sections[i].size() / kRecordBytes[i]);
        memcpy(&file[sizeof(FileHeader) + i * sizeof entry], &entry, sizeof entry);
        file.insert(file.end(), sections[i].begin(), sections[i].end());
        fill_up(&file);
    }
    FileHeader header = {};
    memcpy(header.magic, kMagic, sizeof kMagic);
    header.version = version;
    header.file_bytes = file.size();
    header.section_count = kSectionCount;
    header.section_record_bytes = sizeof(FileSection);
    memcpy(file.data(), &header, sizeof header);
    file.shrink_to_fit();  // the end of the block is the end of the file: AddressSanitizer watches it
    repair_checksum(file.data(), file.size());
    return file;
}

bool take_apart(const uint8_t* data, size_t bytes, Sections* sections, uint32_t* version) {
    if (bytes < sizeof(FileHeader) + kSectionCount * sizeof(FileSection)) return false;
    for (uint32_t i = 0; i < kSectionCount; ++i) {
        FileSection entry;
        memcpy(&entry, data + sizeof(FileHeader) + i * sizeof entry, sizeof entry);
        if (entry.offset > bytes || entry.bytes > bytes - entry.offset) return false;
        (*sections)[i].assign(data + entry.offset, data + entry.offset + entry.bytes);
    }
    memcpy(version, data + offsetof(FileHeader, version), sizeof *version);
    return true;
}

bool write_file(const std::string& path, const Bytes& bytes) {
    const std::string part = path + ".part";
    FILE* file = fopen(part.c_str(), "wb");
    if (!file) return false;
    bool whole = fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
    whole = fclose(file) == 0 && whole && rename(part.c_str(), path.c_str()) == 0;
    if (!whole) remove(part.c_str());
    return whole;
}

void ModelWriter::name(const std::string& text, uint32_t* offset, uint32_t* bytes) {
    *offset = static_cast<uint32_t>(strings.size());
    *bytes = static_cast<uint32_t>(text.size());
    strings.insert(strings.end(), text.begin(), text.end());
    strings.push_back(0);
}

uint64_t ModelWriter::blob(const void* bytes, size_t count) {
    const uint64_t at = data.size();
    const auto* from = static_cast<const uint8_t*>(bytes);
    data.insert(data.end(), from, from + count);
    fill_up(&data);
    return at;
}

Bytes ModelWriter::file() const {
    Sections sections;
    sections[kProgram] = raw(std::vector<FileProgram>{program});
    sections[kTensors] = raw(tensors);
    sections[kOps] = raw(ops);
    sections[kOperands] = raw(operands);
    sections[kLabels] = raw(labels);
    sections[kStrings] = strings;
    sections[kData] = data;
    sections[kProvenance].assign(provenance.begin(), provenance.end());
    return assemble(sections, version);
}

}  // namespace fuzz
