// Codes enter as u = code + offset >= 0, a sum of planes: u = sum_j 2^j u_j with u_j in {0, 1}. With P(x) the number of
// ones in x, summed over all taps and channels of an output:
//
//     w in {-1, +1}, bits v with w = 2 v - 1:    sum w u = sum_j 2^j (P(v) - P(v ^ u_j))
//     w in {-1, 0}, w = -v:                      sum w u = sum_j 2^j (-P(v & u_j))
//     w in {-2 ... 1}, w = v0 - 2 v1:            sum w u = sum_j 2^j (P(v0 & u_j) - 2 P(v1 & u_j))
//     w in {-1, 0, 1}, bits p where w = 1 and n where w = -1:
//                                                sum w u = sum_j 2^j (P((u_j & p) | (~u_j & n)) - P(n))
//
// (where w = -1, ~u - 1 = -u). The first and the last have a constant that the start value takes, beside
// -offset * sum(w), the surplus of the offset; the padding holds zero-point + offset, which is the value 0. Channels
// that fill up a word of 32 are 0 in weights and codes and count nothing.
//
// Where there are so few output channels that all bits of their weights fit into the 16 of a block, of whatever width
// (a network's last layer), every bit of the weights counts as an output channel of its own, and the sums of an output
// channel are put together at the end: sum_i 2^i s_i, less 2^b for the sign.
#include "bits.h"

#include "fields.h"

namespace uq {
namespace {

constexpr uint32_t kMostPlanes = 4;
constexpr uint32_t kWord = 32;

uint32_t words(uint32_t channels) {
    return (channels + kWord - 1) / kWord;
}

uint64_t row_weights(const Op& op) {
    return static_cast<uint64_t>(op.kernel[0]) * op.kernel[1] * op.kernel[2] * op.conv.group_inputs;
}

// No two's complement weight of 2 bits is -2.
bool all_ternary(const Op& op) {
    const uint64_t count = row_weights(op);
    for (uint32_t oc = 0; oc < op.output_channels; ++oc) {
        const uint8_t* row = op.weights + static_cast<uint64_t>(oc) * op.row_bytes;
        for (uint64_t i = 0; i < count; i += kWord) {
            const uint32_t n = count - i < kWord ? static_cast<uint32_t>(count - i) : kWord;
            const Fields fields = read_fields(row, op.row_bytes, i, n, 2);
            if (fields.high & ~fields.low) return false;
        }
    }
    return true;
}

bool spreads(const Op& op) {
    return op.weight_kind == kTwosComplement && op.weight_bits > 1 && op.groups == 1 &&
           op.output_channels * op.weight_bits <= kBlock;
}

BitForm choose_form(const Op& op) {
    if (op.conv.spread) return kBitAnd;
    if (op.weight_bits == 2) return all_ternary(op) ? kBitSign : kBitAnd;
    if (op.weight_kind != kBinary) return kBitAnd;
    // Channels that a block reads for other outputs are 0 in these weights: not of {-1, +1}.
    return op.groups == 1 || op.conv.group_outputs % kBlock == 0 ? kBitXor : kBitSign;
}

int32_t ones(uint32_t word) {
    return __builtin_popcount(word);
}

void unpack_spread(const Op& op, const Phase& phase, uint32_t* dst) {
    const Conv& conv = op.conv;
    const size_t taps = phase.taps.size();
    memset(dst, 0, conv.part_bytes(phase));
    for (uint32_t o = 0; o < op.output_channels; ++o) {
        const uint8_t* row = op.weights + static_cast<uint64_t>(o) * op.row_bytes;
        for (size_t t = 0; t < taps; ++t) {
            const uint64_t first = static_cast<uint64_t>(phase.taps[t].index) * conv.group_inputs;
            for (uint32_t c = 0; c < conv.group_inputs; ++c) {
                const uint64_t weight = read_bits(row, op.row_bytes, (first + c) * op.weight_bits, op.weight_bits);
                uint32_t* out = dst + (c / kWord * taps + t) * kBlock + o * op.weight_bits;
                for (uint32_t i = 0; i < op.weight_bits; ++i)
                    out[i] |= static_cast<uint32_t>(weight >> i & 1) << c % kWord;
            }
        }
    }
}

// All of it where it counts once, in the lowest bit.
void spread_start(const Op& op, const Phase& phase, const uint32_t* weights, int32_t start[kBlock]) {
    const size_t steps = static_cast<size_t>(op.conv.part_bytes(phase)) / sizeof(uint32_t) / kBlock;
    memset(start, 0, kBlock * sizeof(int32_t));
    for (uint32_t o = 0; o < op.output_channels; ++o) {
        int64_t sum = 0;
        for (uint32_t i = 0; i < op.weight_bits; ++i) {
            int64_t count = 0;
            for (size_t s = 0; s < steps; ++s) count += ones(weights[s * kBlock + o * op.weight_bits + i]);
            sum += (i + 1 < op.weight_bits ? count : -count) * (int64_t{1} << i);
        }
        start[o * op.weight_bits] = static_cast<int32_t>(static_cast<uint32_t>(-sum * op.conv.entry_offset));
    }
}

}  // namespace

const char* no_bits(const Op& op, const Tensor& input) {
    if (op.weight_kind != kTwosComplement && op.weight_kind != kBinary) return "weights without bits";
    if (op.weight_bits > 2 && !spreads(op)) return "weights of more than 2 bits";
    if (op.weight_kind == kCodebook) return "weights of a codebook";
    if (input.is_float || input.bits > kMostPlanes) return "codes of more than 4 bits";
    return op.groups > 1 && op.conv.group_inputs % kWord ? "groups that do not fill words of 32 channels" : nullptr;
}

void choose_bit_shape(const uq_model& model, Op* op) {
    Conv& conv = op->conv;
    const Tensor& input = model.tensors[op->inputs[0]];
    conv.spread = spreads(*op);
    conv.form = choose_form(*op);
    conv.planes = input.bits;
    conv.words = words(conv.input_channels);
    conv.runs = conv.form == kBitAnd && !conv.spread ? op->weight_bits : 1;
    conv.patches = false;
    conv.window_channels = conv.padded_channels = conv.planes * conv.words;
    uint32_t widest = 0;
    for (uint32_t b = 0; b < conv.blocks; ++b) {
        const uint32_t width = conv.block_inputs(b, op->output_channels);
        if (width > widest) widest = width;
    }
    conv.steps_a_tap = words(widest) * conv.runs * conv.step_words();
}

double bit_cost(const BitConv& kernel, const Conv& conv) {
    double taps = 0;
    for (size_t p = 0; p < conv.phases.size(); ++p) taps += static_cast<double>(conv.phases[p].taps.size());
    taps /= static_cast<double>(conv.phases.size());
    const double outputs = static_cast<double>(conv.blocks) * kBlock;
    const double block_words = taps * conv.steps_a_tap / conv.step_words();  // of all runs
    return conv.planes * (kWord * block_words * outputs * static_cast<double>(kernel.forms[conv.form].mac_cost) +
                          taps * conv.words * static_cast<double>(kernel.word_cost)) +
           conv.runs * outputs * static_cast<double>(kernel.sum_cost);
}

void unpack_bit_block(const Op& op, const Phase& phase, uint32_t block, uint32_t* dst) {
    const Conv& conv = op.conv;
    const size_t taps = phase.taps.size(), step = static_cast<size_t>(conv.step_words()) * kBlock;
    const size_t run = static_cast<size_t>(conv.part_bytes(phase)) / sizeof(uint32_t) / conv.runs;
    if (taps == 0) return;  // a transposed one whose kernel is smaller than its stride: no memory either
    if (conv.spread) return unpack_spread(op, phase, dst);
    memset(dst, 0, conv.part_bytes(phase));
    const uint32_t left = op.output_channels - block * kBlock, outputs = left < kBlock ? left : kBlock;
    for (uint32_t o = 0; o < outputs; ++o) {
        const uint32_t oc = block * kBlock + o;
        const uint8_t* row = op.weights + static_cast<uint64_t>(oc) * op.row_bytes;
        const uint32_t shift = (oc / conv.group_outputs * conv.group_inputs - conv.first_channel(block)) / kWord;
        for (size_t t = 0; t < taps; ++t) {
            const uint64_t first = static_cast<uint64_t>(phase.taps[t].index) * conv.group_inputs;
            uint32_t* out = dst + (shift * taps + t) * step + o;
            if (conv.form != kBitSign && op.weight_bits == 1 && conv.group_inputs % kWord == 0 && first % 8 == 0) {
                for (const uint8_t* from = row + first / 8; from < row + (first + conv.group_inputs) / 8; from += 4) {
                    memcpy(out, from, sizeof *out);
                    out += taps * step;
                }
                continue;
            }
            for (uint32_t c = 0; c < conv.group_inputs; c += kWord, out += taps * step) {
                const uint32_t rest = conv.group_inputs - c, n = rest < kWord ? rest : kWord;
                const Fields fields = read_fields(row, op.row_bytes, first + c, n, op.weight_bits);
                if (conv.form != kBitSign) {
                    out[0] = fields.low;
                    if (conv.runs == 2) out[run] = fields.high;
                } else if (op.weight_bits == 2) {
                    out[0] = fields.low & ~fields.high;
                    out[kBlock] = fields.high;
                } else {
                    out[0] = fields.low;
                    out[kBlock] = ~fields.low & (n < kWord ? (1u << n) - 1 : UINT32_MAX);
                }
            }
        }
    }
}

void join_spread(const Op& op, uint64_t pixels, int32_t* sums) {
    const uint32_t bits = op.weight_bits;
    for (uint64_t p = 0; p < pixels; ++p, sums += kBlock) {
        for (uint32_t o = 0; o < op.output_channels; ++o) {
            const int32_t* each = sums + o * bits;
            auto sum = static_cast<uint32_t>(-each[bits - 1]);
            for (uint32_t i = bits - 1; i-- > 0;) sum = 2 * sum + static_cast<uint32_t>(each[i]);
            sums[o] = static_cast<int32_t>(sum);  // before what is read next
        }
    }
}

int32_t bit_factor(const Conv& conv, uint32_t run) {
    if (conv.form == kBitSign || conv.spread) return 1;
    if (conv.runs == 1) return -1;
    return run == 0 ? 1 : -2;
}

void bit_start(const Op& op, const Phase& phase, const uint32_t* weights, int32_t start[kBlock]) {
    const Conv& conv = op.conv;
    if (conv.spread) return spread_start(op, phase, weights, start);
    const size_t steps = static_cast<size_t>(conv.part_bytes(phase)) / sizeof(uint32_t) / kBlock / conv.runs;
    const int64_t all_planes = (1 << conv.planes) - 1;
    for (uint32_t o = 0; o < kBlock; ++o) {
        int64_t counts[2] = {};  // ones in the first and in the second words
        for (size_t s = 0; s < steps * conv.runs; ++s)
            counts[conv.form == kBitSign ? s % 2 : s / steps] += ones(weights[s * kBlock + o]);
        int64_t sum = 0, constant = 0;
        if (conv.form == kBitXor) {
            // All channels of all taps: the weights that are not +1 are -1.
            sum = 2 * counts[0] - static_cast<int64_t>(phase.taps.size()) * conv.group_inputs;
            constant = all_planes * counts[0];
        } else if (conv.form == kBitSign) {
            sum = counts[0] - counts[1];
            constant = -all_planes * counts[1];
        } else {
            sum = conv.runs == 2 ? counts[0] - 2 * counts[1] : -counts[0];
        }
        start[o] = static_cast<int32_t>(static_cast<uint32_t>(constant - sum * conv.entry_offset));
    }
}

}  // namespace uq
