// The records of a model file as C structs; FORMAT.md describes every field. Little-endian hosts only.
#ifndef UNETQ_FORMAT_H
#define UNETQ_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model files are mapped as they are: a little-endian processor is needed"
#endif

namespace uq {

constexpr uint8_t kMagic[8] = {0x89, 'U', 'Q', 'M', '\r', '\n', 0x1a, '\n'};
constexpr uint32_t kVersion = 4;          // the newest that is read; older ones are read too
constexpr uint32_t kCodebookVersion = 2;  // the first that has codebooks
constexpr uint32_t kMethodsVersion = 3;   // and zero-points, narrow and dynamic grids, table, mul, norm groups, shifts
constexpr uint32_t kGeometryVersion = 4;  // and orientation, context, spacing, window, over, overlap
constexpr uint32_t kMaxChannels = 1u << 16;
constexpr uint32_t kMaxExtent = 1u << 16;
constexpr uint32_t kMaxCount = 1u << 12;
constexpr uint32_t kMaxName = 1u << 12;
constexpr uint32_t kMaxPhases = 512;
constexpr uint64_t kMaxReach = 1u << 30;
constexpr uint32_t kLevels = 16;       // int8 places of a codebook
constexpr uint32_t kTableBytes = 256;  // a code each
constexpr uint32_t kMaxShift = 7;      // of a group of weights
constexpr double kMaxSpacing = 1000;   // mm
constexpr double kMaxOverlap = 0.9;    // of a window
constexpr double kDefaultOverlap = 0.25;

enum Section : uint32_t {
    kProgram = 0,
    kTensors,
    kOps,
    kOperands,
    kLabels,
    kStrings,
    kData,
    kProvenance,
    kSectionCount
};

enum OpKind : uint32_t {
    kQuantize = 1,
    kConv,
    kUpsample,
    kMaxPool,
    kAdd,
    kPointwise,
    kConcat,
    kPad,
    kTable,
    kMul,
    kOpKindEnd
};

enum WeightKind : uint32_t { kTwosComplement = 1, kBinary = 2, kFloat32 = 3, kCodebook = 4, kShifted = 5 };

enum EpilogueFlags : uint32_t { kEpilogue = 1, kSlope = 2, kSecond = 4, kInstanceNorm = 8 };

struct FileHeader {
    uint8_t magic[8];
    uint32_t version;
    uint32_t checksum;
    uint64_t file_bytes;
    uint32_t section_count;
    uint32_t section_record_bytes;
    uint8_t reserved[32];
};

struct FileSection {
    uint32_t kind;
    uint32_t record_bytes;
    uint64_t offset;
    uint64_t bytes;
    uint32_t count;
    uint32_t reserved;
};

struct FileProgram {
    uint32_t spatial_rank;
    uint32_t input;
    uint32_t output;
    uint32_t has_fixed_size;
    uint32_t input_multiple[3];
    uint32_t fixed_size[3];
    uint32_t normalize;
    uint32_t reserved_a;
    double low;
    double high;
    uint32_t name_offset;
    uint32_t name_bytes;
    char orientation[4];
    uint32_t context;
    double spacing[3];
    uint32_t window[3];
    uint32_t over;
    double overlap;
};

struct FileTensor {
    uint32_t name_offset;
    uint32_t name_bytes;
    uint32_t channels;
    uint8_t type;
    uint8_t bits;
    uint8_t is_signed;
    uint8_t rounding;
    float scale;
    int32_t zero_point;
    uint8_t narrow;
    uint8_t dynamic;
    uint8_t reserved[6];
};

struct FileOp {
    uint32_t kind;
    uint32_t name_offset;
    uint32_t name_bytes;
    uint32_t first_operand;
    uint32_t operand_count;
    uint32_t output;
    uint32_t kernel[3];
    uint32_t stride[3];
    uint32_t before[3];
    int32_t after[3];
    uint32_t dilation[3];
    uint32_t output_padding[3];
    uint32_t groups;
    uint32_t mode;
    uint32_t weight_bits;
    uint32_t weight_kind;
    uint32_t row_bytes;
    uint32_t weight_scale_count;
    uint64_t weight;
    uint64_t weight_scale;
    uint32_t flags;
    uint32_t norm_groups;
    float input_gain[2];
    double eps;
    uint64_t gain;
    uint64_t offset;
    uint64_t slope;
    uint64_t gain2;
    uint64_t offset2;
    uint64_t norm_weight;
    uint64_t norm_bias;
    uint64_t codebook;  // or shifts, or a table
    uint32_t group_size;
    uint8_t reserved[28];
};

struct FileLabel {
    uint32_t name_offset;
    uint32_t name_bytes;
    int32_t value;
    uint32_t reserved;
};

static_assert(sizeof(FileHeader) == 64, "FORMAT.md");
static_assert(sizeof(FileSection) == 32, "FORMAT.md");
static_assert(sizeof(FileProgram) == 128 && offsetof(FileProgram, orientation) == 72, "FORMAT.md");
static_assert(sizeof(FileTensor) == 32, "FORMAT.md");
static_assert(sizeof(FileOp) == 256, "FORMAT.md");
static_assert(sizeof(FileLabel) == 16, "FORMAT.md");

}  // namespace uq

#endif
