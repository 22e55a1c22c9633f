// A .uqm file taken apart and put together, beside the library's reader: records, names, blobs, sections, checksum.
#ifndef UNETQ_FUZZ_MODEL_WRITER_H
#define UNETQ_FUZZ_MODEL_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include <array>
#include <string>
#include <vector>

#include "../src/format.h"

namespace fuzz {

using Bytes = std::vector<uint8_t>;
using Sections = std::array<Bytes, uq::kSectionCount>;

extern const uint32_t kRecordBytes[uq::kSectionCount];

// Header, table and sections where FORMAT.md wants them, with the right checksum.
Bytes assemble(const Sections& sections, uint32_t version);

// The sections of a whole file and its version; false where its table does not say where they lie.
bool take_apart(const uint8_t* data, size_t bytes, Sections* sections, uint32_t* version);

// Makes the checksum right whatever the file holds; nothing for a file too short to have one.
void repair_checksum(uint8_t* data, size_t bytes);

// A whole file or none of it; false where it cannot be written.
bool write_file(const std::string& path, const Bytes& bytes);

// Collects the records of a model; names and blobs give back where they landed.
struct ModelWriter {
    uint32_t version = 1;  // raised by what needs a later one
    uq::FileProgram program = {};
    std::vector<uq::FileTensor> tensors;
    std::vector<uq::FileOp> ops;
    std::vector<uint32_t> operands;
    std::vector<uq::FileLabel> labels;
    Bytes strings;
    Bytes data;
    std::string provenance;

    void name(const std::string& text, uint32_t* offset, uint32_t* bytes);
    uint64_t blob(const void* bytes, size_t count);
    uint64_t floats(const std::vector<float>& values) { return blob(values.data(), values.size() * sizeof(float)); }
    Bytes file() const;
};

}  // namespace fuzz

#endif
