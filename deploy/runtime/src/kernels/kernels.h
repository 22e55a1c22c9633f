// The kernel set: a struct of pointers. Scalar fills all of it; an instruction set overwrites what it does better
// (dispatch.cpp is the one place where that is decided).
//
// Names: uq_<op>_w<bits>a<bits>_<tile>__<isa>, or uq_<op>__<isa> where no weights take part. Bits are those of the
// operands in registers; "n" after them says that products are summed in int16 lanes ("narrow") between two flushes,
// "m" in int8 lanes. The tile is pixels x output channels.
//
// Only plain structs here: this header is compiled under the flags of every instruction set, and an inline function
// of one could end up being called on a processor that has only the other.
#ifndef UNETQ_KERNELS_H
#define UNETQ_KERNELS_H

#include <stddef.h>
#include <stdint.h>

namespace uq {

constexpr uint32_t kBlock = 16;       // output channels of one weight block; channel buffers are padded to it
constexpr uint32_t kTilePixels = 24;  // pixel lists are padded to it: every tile height divides it
constexpr uint32_t kMaxGroup = 32;    // input channels of one step, at most

// A run of consecutive steps of a convolution block. A step is one group of input channels at one tap.
struct Segment {
    uint32_t tap;
    uint32_t first_step;  // within the tap
    uint32_t step_count;
    uint32_t flush;  // narrow lanes must be widened after this segment: the next step could leave them
};

// Output pixels against a block of 16 output channels, or a pair of them, and a range of segments.
struct ConvTile {
    const uint8_t* rows;            // unpacked, padded input rows
    const uint32_t* pixel_offsets;  // byte offset in rows of each pixel's first tap origin
    uint32_t pixel_count;           // as they are; pixel_offsets and sums go on to a multiple of kTilePixels
    const int32_t* tap_offsets;     // bytes from a pixel's origin to the tap
    const Segment* segments;
    uint32_t segment_count;
    const void* weights;   // [step][16][group]: the steps of the segments, one after the other
    const int32_t* start;  // [16]: what the sums begin with; null: they are added to
    void* sums;            // [pixel][16]: int32, or float32 for conv_w32a32

    // The pixels' origins lie this many bytes apart, all of them; 0: pixel_offsets says it all.
    uint32_t pixel_stride = 0;

    // The same pixels against one more block, where ByteConv::pairs: its weights, start and sums lie so far behind.
    bool pair = false;
    size_t weight_stride = 0;  // bytes
    size_t start_stride = 0;   // values
    size_t sum_stride = 0;     // values
};

// A convolution of bytes: int8 weights, and codes that enter as uint8 or as int8.
//
// Products are summed in lanes of lane_bits. Lanes narrower than 32 bits are added to the int32 sums after every
// segment that says flush, and after the last one; prepare.cpp proves from the packed weights that no lane can leave
// its width in between.
struct ByteConv {
    const char* name;
    void (*run)(const ConvTile& tile);
    // 16 rows (row_stride bytes apart) of group * steps codes to [step][16][group].
    void (*interleave)(const int8_t* rows, size_t row_stride, uint32_t steps, int8_t* dst);
    uint32_t group;           // input channels a step; the weights of a step are [16][group]
    bool signed_codes;        // codes enter as int8, else as uint8
    uint32_t lane_bits;       // 32: nothing to flush; 16; 8
    uint8_t lane[kMaxGroup];  // the lane (of one output channel) that channel i of a step is summed in
    // Measured once on a processor that has the instruction set: nanoseconds for 1000 multiply-accumulates, and for
    // one flush of one output channel of one pixel. Only their ratios decide.
    float mac_cost;
    float flush_cost;
    bool pairs = false;  // run takes pairs of blocks, with lanes of 32 bits only: flushes differ from block to block
};

// How bit-serial sums are counted from a word of 32 weights and one of 32 bits of codes:
enum BitForm : uint32_t {
    kBitXor,   // popcount(w ^ u): weights -1 and +1
    kBitAnd,   // popcount(w & u)
    kBitSign,  // popcount((u & positive) | (~u & negative)): weights -1, 0 and +1
    kBitForms
};

// Output pixels against one block of 16 output channels and a run of steps. A step is 32 input channels at one tap.
// The bits of codes lie [tile][plane][step][pixel of the tile], the lowest plane first: the pixels of a tile side by
// side, so that there is one address, and nothing of a tap left.
struct BitTile {
    const uint32_t* codes;
    size_t tile_stride;  // words from tile to tile, and from plane to plane
    size_t plane_stride;
    uint32_t planes;
    uint32_t pixel_count;  // codes and sums go on to a multiple of the tile
    uint32_t steps;
    const uint32_t* weights;  // [step][16], kBitSign: [step][positive, negative][16]
    const int32_t* start;     // [16]: what the sums begin with; null: they are added to
    int32_t* sums;            // [pixel][16] += factor * sum over planes of 2^plane * count
    int32_t factor;           // 1, -1 or -2
};

struct BitConv {
    uint32_t tile_pixels;  // divides kTilePixels
    uint32_t capacity;     // steps * (2^planes - 1) of a tile, at most
    // The words at each tap of the pixels of a tile: dst[word][tap][pixel], from rows + pixel offset + tap offset on.
    void (*arrange)(const uint8_t* rows, const uint32_t* pixel_offsets, const int32_t* tap_offsets, uint32_t taps,
                    uint32_t words, uint32_t* dst);
    struct {
        const char* name;
        void (*run)(const BitTile& tile);
        float mac_cost;  // for 1000 products of a bit and a bit, in the unit of ByteConv
    } forms[kBitForms];
    float word_cost;  // for 1000 words of codes put into place
    float sum_cost;   // for 1000 sums of a run
};

// How sums of four codes are found by four bits of weights, in a table of 16 bytes for every four channels of a pixel:
enum LookupForm : uint32_t {
    kLookupSign,    // weights -1 and +1: entry i is the sum of the codes whose bit in i is set, less the others (int8)
    kLookupSubset,  // weights v0 - 2 v1: the sum of those whose bit is set (uint8), looked up for each bit
    kLookupForms
};

// A step is 16 input channels: four tables of 16 bytes for every pixel. A ConvTile's rows are tables; its weights
// are [step][plane][2][2][16] bytes: of channels 8h ... and output channels 8k ..., byte 2j + e is 16 e + the bits of
// channels 8h + 4e ... of output channel 8k + j, the first channel's lowest. One plane of kLookupSign, two of others.
struct LookupConv {
    struct {
        const char* name;
        void (*run)(const ConvTile& tile);  // lanes of 16 bits, flushed as ByteConv's
        void (*expand)(const uint8_t* codes, size_t steps, uint8_t* tables);
        float mac_cost;  // in the unit of ByteConv, as flush_cost
        float flush_cost;
    } forms[kLookupForms];
    float table_cost;  // for 1000 codes
};

// Float parameters of an epilogue for a run of channels; those that are absent are null.
struct EpilogueArrays {
    const float* gain;
    const float* offset;
    const float* slope;
    const float* gain2;
    const float* offset2;
};

// Where real numbers go: float32 as they are, or codes. low and high are those of the grid less its zero-point, which
// is added to what was saturated and rounded; it is 0 but on unsigned grids that round half to even.
struct Target {
    bool is_float;
    bool toward_zero;
    float inverse_scale;
    float low;
    float high;
    uint8_t zero_point;
};

// Rows of codes at rest: channels at storage_bits (1, 2, 4, 8) each, every pixel padded to a byte.
struct PackedRow {
    uint8_t* data;
    size_t pixel_stride;  // bytes
    uint32_t pixels;
    uint32_t channels;
    uint32_t storage_bits;
};

// What an epilogue onto codes of one or two bits comes to: every threshold that a sum is above is one code further.
struct Thresholds {
    const int32_t* above;  // [level][stride]
    size_t stride;
    uint32_t levels;         // 1 or 3
    const uint8_t* first;    // a channel each: its code above no threshold,
    const uint8_t* falling;  // and 0 where codes rise with the sums, 255 where they fall
};

struct Kernels {
    const char* name;

    // Packed codes to bytes: dst[pixel * dst_stride + channel] = (raw ^ flip) + shift, modulo 256, where raw is the
    // stored field. flip = shift = 0 gives unsigned codes; flip = 2^(storage-1), shift = -flip sign-extends; adding
    // 2^(bits-1) to that shift makes signed codes non-negative.
    void (*load_codes)(const PackedRow& row, uint8_t flip, uint8_t shift, uint8_t* dst, size_t dst_stride);
    // Bytes (two's complement or unsigned codes) to packed codes.
    void (*store_codes)(const uint8_t* src, size_t src_stride, const PackedRow& row);

    // Packed weights first … first + count of a row to int8: two's complement, or where levels is not null (bits is
    // then at most 4) levels[code], of which there are 16.
    void (*unpack_weights)(const uint8_t* row, uint64_t first, uint32_t count, uint32_t bits, const int8_t* levels,
                           int8_t* dst);

    // sums[pixel][oc] = start[oc] + input . weights over the segments (see ConvTile). The candidates of the byte
    // scheme, from which prepare.cpp takes the cheapest that holds; the words, for what no candidate can hold (int16
    // codes and weights, groups of 2); and float32 (groups of 1; one product added after the other in the order of
    // the steps, each operation rounded; start is not read, the sums begin with 0 where it is not null).
    const ByteConv* byte_convs;
    uint32_t byte_conv_count;
    // The same for one input channel an output channel (groups of 1): a step is a tap, its weights are [16].
    const ByteConv* depthwise;
    const BitConv* bit_conv;
    const LookupConv* lookup_conv;
    void (*conv_w16a16)(const ConvTile& tile);
    void (*conv_w32a32)(const ConvTile& tile);

    // Winograd F(2x2, 3x3), winograd.inc: bytes in, bytes out, modulo 256.
    // Four input rows to the 16 positions of each tile: tile t covers the pixels 2t ... 2t + 3, channels innermost.
    // dst[position * position_stride + t * channels + c]; offset[p] is added at position p.
    void (*winograd_input)(const uint8_t* const rows[4], uint32_t tiles, uint32_t channels, const uint8_t* offset,
                           uint8_t* dst, size_t position_stride);
    // Nine taps of a block, count bytes each, to 16 positions, count bytes each.
    void (*winograd_weights)(const int8_t* taps, size_t count, int8_t* dst);
    // sums[position][tile][16] (position_stride in values) of tiles to two rows of pixels, divided by 4. Columns are
    // those of the output: an odd one leaves half of the last tile; row1 may be null.
    void (*winograd_output)(const int32_t* sums, size_t position_stride, uint32_t columns, int32_t* row0,
                            int32_t* row1);
    // Measured as mac_cost was: nanoseconds for 1000 transformed codes written, and for 1000 sums read.
    float winograd_input_cost;
    float winograd_output_cost;

    // The epilogue on [pixel][channel] sums; channels is a multiple of 16, and the arrays may be read that far.
    // dst: bytes (codes) or float32, dst_stride in elements.
    void (*epilogue_i32)(const int32_t* sums, size_t stride, uint32_t pixels, uint32_t channels,
                         const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride);
    void (*epilogue_f32)(const float* sums, size_t stride, uint32_t pixels, uint32_t channels,
                         const EpilogueArrays& arrays, const Target& target, void* dst, size_t dst_stride);
    // Sums [pixel][stride] to packed codes; sums and thresholds may be read up to a multiple of 16 channels.
    void (*threshold)(const int32_t* sums, size_t stride, const Thresholds& thresholds, const PackedRow& row);
    // float32 onto a grid: code bytes.
    void (*quantize)(const float* src, size_t count, const Target& target, uint8_t* dst);

    void (*maximum)(const uint8_t* src, size_t count, uint8_t* dst);  // dst = max(dst, src)
    // dst[pixel][channel] = the larger of two neighbouring pixels of src, which has 2 * pixels.
    void (*maximum_pairs)(const uint8_t* src, uint32_t pixels, uint32_t channels, uint8_t* dst);
    // dst = sum of weights[i] * rows[i]
    void (*blend_rows)(const uint8_t* const* rows, const uint16_t* weights, uint32_t row_count, size_t count,
                       uint16_t* dst);
    // Linear x2 along the row: [pixels][channels] to [2 * pixels][channels], less bias.
    void (*double_row)(const uint16_t* src, uint32_t pixels, uint32_t channels, int32_t bias, int32_t* dst);
    // Adds the exact sums of 16 channels over pixels stride apart; squares in two halves of 32 bits.
    void (*norm_sums)(const int32_t* sums, size_t stride, uint64_t pixels, int64_t* total, uint64_t* high,
                      uint64_t* low);
};

void uq_fill__scalar(Kernels* kernels);
#if defined(__x86_64__)
void uq_fill__avx2(Kernels* kernels);
void uq_fill__avxvnni(Kernels* kernels);
void uq_fill__avx512vnni(Kernels* kernels);
void uq_fill__amx(Kernels* kernels);
#elif defined(__aarch64__)
void uq_fill__neon(Kernels* kernels);
void uq_fill__dotprod(Kernels* kernels);
void uq_fill__i8mm(Kernels* kernels);
#elif defined(__arm__)
void uq_fill__neon(Kernels* kernels);
#endif

}  // namespace uq

#endif
