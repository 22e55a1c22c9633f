// The outer layer of a model file: it is whole, its sections lie where they must, names and blobs lie inside them.
#ifndef UNETQ_CONTAINER_H
#define UNETQ_CONTAINER_H

#include "format.h"
#include "status.h"

#define UQ_CHECK(condition, ...)                                \
    do {                                                        \
        if (!(condition)) return fail(UQ_DAMAGED, __VA_ARGS__); \
    } while (0)

#define UQ_TRY(call)                          \
    do {                                      \
        uq_status status_ = (call);           \
        if (status_ != UQ_OK) return status_; \
    } while (0)

namespace uq {

bool all_zero(const uint8_t* bytes, size_t count);

class Container {
  public:
    Container(const uint8_t* data, size_t bytes) : data_(data), bytes_(bytes) {}

    // Magic, version, size, checksum, then the table of sections.
    uq_status check_whole();
    uq_status find_sections();

  protected:
    // A name of the strings section: in bounds, terminated, without a NUL inside.
    uq_status name(uint32_t offset, uint32_t bytes, const char** text);
    // A blob of the data section. What follows it up to the alignment is in the file too: whole vectors can be read.
    uq_status blob(const char* where, uint64_t offset, uint64_t bytes, const uint8_t** found);
    uq_status floats(const char* where, uint64_t offset, uint64_t count, const float** found);
    // Three extents from low on; flat: a 2-D model, whose depth must be neutral.
    uq_status triple(const char* where, const char* what, const uint32_t value[3], uint32_t low, uint32_t neutral,
                     bool flat);

    const uint8_t* section_[kSectionCount] = {};
    uint64_t size_[kSectionCount] = {};
    uint32_t count_[kSectionCount] = {};
    uint32_t version_ = 0;  // of the file

  private:
    const uint8_t* data_;
    size_t bytes_;
};

}  // namespace uq

#endif
