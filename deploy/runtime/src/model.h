// A checked model: pointers into the mapped file, and what each convolution needs prepared once.
#ifndef UNETQ_MODEL_H
#define UNETQ_MODEL_H

#include "common.h"
#include "format.h"
#include "kernels/kernels.h"
#include "status.h"

namespace uq {

struct Tensor {
    const char* name;
    uint32_t channels;
    bool is_float;
    bool is_signed;
    bool toward_zero;
    uint8_t bits;          // 32 for float32
    uint8_t storage_bits;  // 1, 2, 4, 8 or 32
    bool narrow;           // symmetric: without the lowest code
    bool dynamic;          // the scale is found for each image, as it is made
    int32_t zero_point;    // the code of the value 0
    float scale;

    // The first three are about codes only.
    // A grid that rounds toward zero is sign and magnitude: it has no lowest code either.
    int32_t low() const { return is_signed ? -(1 << (bits - 1)) + (toward_zero || narrow ? 1 : 0) : 0; }
    int32_t high() const { return is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1; }
    // Added to a code to make it non-negative.
    int32_t code_offset() const { return is_signed ? 1 << (bits - 1) : 0; }
    uint64_t pixel_bytes() const { return (static_cast<uint64_t>(channels) * storage_bits + 7) / 8; }
    // 1 / scale rounded once to float32, as fixedpoint.py has it.
    Target target() const {
        if (is_float) return Target{true, false, 0.0f, 0.0f, 0.0f, 0};
        return Target{false,
                      toward_zero,
                      static_cast<float>(1.0 / static_cast<double>(scale)),
                      static_cast<float>(low() - zero_point),
                      static_cast<float>(high() - zero_point),
                      static_cast<uint8_t>(zero_point)};
    }
};

struct Epilogue {
    EpilogueArrays arrays;
    const float* norm_weight;  // null without instance norm
    const float* norm_bias;
    double eps;
    uint32_t group_channels;  // that are normalised together; 0: each by itself, without the offset
};

// How a convolution is computed. kBytes: the chosen ByteConv, tap by tap. kWinograd: the chosen ByteConv on transformed
// tiles. kWords: conv_w16a16. kFloat: conv_w32a32. kBits: the BitConv on planes of bits.
// kLookup: the LookupConv on tables of sums.
enum class Scheme : uint8_t { kBytes, kWinograd, kWords, kFloat, kBits, kLookup };

constexpr uint32_t kMaxPatchTaps = 256;
constexpr uint32_t kPositions = 16;  // of a Winograd tile

struct Tap {
    int32_t offset[3];  // input position relative to q * input_step
    uint32_t index;     // in the canonical (kd, kh, kw) order
};

// One sub-pixel phase of a transposed convolution (an ordinary convolution has one): output o = q * output_step +
// origin, input i = q * input_step + tap offset.
struct Phase {
    uint32_t origin[3];
    int32_t least[3];  // smallest and largest tap offset an axis
    int32_t most[3];
    Array<Tap> taps;
    // Of every block and part (a Winograd convolution has 16 parts, others one):
    Array<Segment> segments;
    Array<uint32_t> first_segment;  // blocks * parts + 1 entries
    Array<int32_t> start;           // what the sums begin with, [block][part][16]
};

struct Conv {
    Scheme scheme;
    bool depthwise;            // the kernel is that for groups of one channel
    bool patches;              // few input channels: the window becomes one tap of taps * channels
    const ByteConv* kernel;    // of kBytes and kWinograd
    const char* reason;        // why this scheme
    uint32_t element_bytes;    // of an unpacked input channel: 1, 2, 4; of kBits: of a word of 32 channels
    uint32_t group;            // input channels a step
    uint32_t steps_a_tap;      // groups that cover the widest block's input channels
    uint32_t padded_channels;  // of the unpacked input rows
    uint32_t window_channels;  // the same before patches are made of them
    uint32_t input_channels;   // all inputs together
    uint32_t group_inputs;     // input channels of one convolution group
    uint32_t group_outputs;
    uint32_t blocks;
    uint32_t together;  // blocks that hold whole groups of a group norm, where more than one is needed; else 0
    uint32_t output_step[3];
    uint32_t input_step[3];
    BitForm form;                         // of kBits
    LookupForm lookup;                    // of kLookup
    uint32_t planes;                      // bits of an entering code
    uint32_t words;                       // of a plane of a pixel
    bool spread;                          // the bits of a few wide weights, each an output of its own
    uint32_t runs;                        // over the codes: 2 where both bits of a weight are counted
    int32_t entry_offset;                 // a code enters as code + entry_offset
    uint8_t position_offset[kPositions];  // and a transformed one as that + position_offset, modulo 256
    Array<Phase> phases;

    // Words of weights that a step has for an output channel.
    uint32_t step_words() const { return form == kBitSign ? 2 : 1; }
    uint32_t parts() const { return scheme == Scheme::kWinograd ? kPositions : 1; }
    // The input channels [first, first + steps * group) that block b reads.
    uint32_t first_channel(uint32_t b) const { return b * kBlock / group_outputs * group_inputs; }
    // The channels that the outputs of block b have, from there to the last.
    uint32_t block_inputs(uint32_t b, uint32_t outputs) const {
        const uint32_t end = (b + 1) * kBlock < outputs ? (b + 1) * kBlock : outputs;
        return ((end - 1) / group_outputs + 1) * group_inputs - first_channel(b);
    }
    // Taps as the kernels see them, of one part.
    uint32_t kernel_taps(const Phase& phase) const {
        if (patches) return phase.taps.size() ? 1 : 0;
        return static_cast<uint32_t>(scheme == Scheme::kWinograd ? phase.taps.size() / 9 : phase.taps.size());
    }
    uint64_t step_bytes() const {
        if (scheme == Scheme::kLookup) return kBlock * (lookup == kLookupSign ? 4 : 8);
        return static_cast<uint64_t>(kBlock) * group * element_bytes;
    }
    // Unpacked weights of one part of a block, and of all its parts.
    uint64_t part_bytes(const Phase& phase) const { return kernel_taps(phase) * steps_a_tap * step_bytes(); }
    uint64_t block_bytes(const Phase& phase) const { return part_bytes(phase) * parts(); }
};

// Thresholds of an epilogue onto few levels; none where the epilogue is computed.
struct ThresholdTable {
    uint32_t count;
    bool uniform;  // all channels have the same
    size_t stride;
    Array<int32_t> above;  // [level][stride]
    Array<uint8_t> first;
    Array<uint8_t> falling;

    Thresholds from(uint32_t channel) const {
        return {&above[channel], stride, count, &first[channel], &falling[channel]};
    }
};

struct Op {
    OpKind kind;
    const char* name;
    const uint32_t* inputs;
    uint32_t input_count;
    uint32_t output;
    uint32_t output_channels;
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
    const uint8_t* weights;
    const int8_t* levels;     // 16, by weight code, of weights that are not two's complement; else null
    Array<uint8_t> expanded;  // weights that the file holds in another form
    const uint8_t* table;     // of a table: 256 codes, by the low byte of the code that enters
    float input_gain[2];
    bool has_epilogue;
    bool saturates_at_zero;  // a ReLU that its codes' lower end stands for
    Epilogue epilogue;
    ThresholdTable thresholds;
    Conv conv;
};

struct Mapping {
    const uint8_t* data;
    size_t bytes;
    bool owned;
};

}  // namespace uq

struct uq_model {
    uq::Mapping mapping;
    const char* forced_scheme;  // UNETQ_SCHEME: direct, winograd, bits, lookup, wherever it holds; null: the cheapest
    uq::Kernels kernels;
    const uq::FileProgram* program;
    double overlap;  // of windows; program's own from version 4 on
    const uq::FileLabel* labels;
    uint32_t label_count;
    const char* strings;
    const uint8_t* provenance;
    uint64_t provenance_bytes;
    uint64_t weight_bytes;
    uq::Array<uq::Tensor> tensors;
    uq::Array<uq::Op> ops;
};

namespace uq {

// Checks every rule of FORMAT.md and fills *model from its mapping; the kernels must be chosen.
uq_status read_model(uq_model* model);

// Phases of one convolution, then the cheapest scheme that its packed weights prove to be exact, with its start values
// and flush points.
uq_status prepare_conv(const uq_model& model, Op* op);

// Unpacks the 16 output channels of a block at the taps of a phase to [part][tap][step][16][group] in the scheme's
// element type. scratch: weight_scratch_bytes.
void unpack_block(const Kernels& kernels, const Op& op, const Phase& phase, uint32_t block, void* dst, int8_t* scratch);
uint64_t weight_scratch_bytes(const Op& op);

// Fills *kernels for isa (NULL: UNETQ_ISA, or else the best there is).
uq_status choose_kernels(const char* isa, Kernels* kernels);

}  // namespace uq

#endif
