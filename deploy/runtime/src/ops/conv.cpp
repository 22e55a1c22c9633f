// Convolution and transposed convolution, integer and float, in two and three dimensions: one core.
//
// A transposed convolution is its sub-pixel phases, each an ordinary tap list whose outputs lie output_step apart; an
// ordinary convolution has one phase. A phase is cut into strips of whole output rows. The input window of a strip is
// unpacked once into rows padded with the value 0, gathering the channels of all inputs (a concat costs nothing, and
// an input that only this convolution reads is upsampled on the way); then each block of 16 output channels meets
// every pixel of a chunk of the strip. Instance norm needs all sums of a channel before the first output: there the
// blocks are the outer loop, and the sums of one block are kept for the whole image.
//
// Threads take strips of their own, or blocks of their own where there are too few strips; either way nothing that one
// writes is read by another.
#include "bits.h"
#include "dynamic.h"
#include "winograd.h"

namespace uq {
namespace {

constexpr uint64_t kRangeBytes = 18 * 1024;  // of unpacked weights, beside the input pixels in a 32 KiB cache

struct Span {
    uint32_t begin;
    uint32_t end;
};

Span share(uint64_t count, Share which) {
    return Span{which.begin(count), which.end(count)};
}

class ConvRun {
  public:
    ConvRun(Run* run, const Op& op, const Pass& pass, const uint8_t* weights, const ConvWork& work, Share which)
        : run_(run),
          kernels_(run->model->kernels),
          op_(op),
          conv_(op.conv),
          output_(run->layout->places[op.output].size),
          pass_(pass),
          weights_(weights),
          work_(work),
          which_(which),
          window_(run, op, work),
          target_(run_target(*run, op)),
          epilogue_(scaled_epilogue(*run, op, work.scaled_gain)) {
        if (op.saturates_at_zero) target_.low = 0.0f;
    }

    // Where sums are kept, the first of two runs leaves them in `shared`, and the second one only finishes them.
    bool plain(const SharedSums& shared) {
        const bool kept = run_->layout->keeps_sums(op_), made = kept && !run_->looking;
        uint64_t kept_end = 0;
        for (size_t p = 0; p < conv_.phases.size(); ++p) {
            if (!start_phase(p)) continue;
            uint64_t place = kept_end;
            kept_end += kept ? kept_pixels(g_) : 0;
            const bool by_blocks = strips() < 2 * which_.parts;
            const Span mine = by_blocks ? Span{0, strips()} : share(strips(), which_);
            const Span blocks = by_blocks ? my_blocks() : Span{pass_.first_block, pass_.end_block};
            if (blocks.begin == blocks.end) continue;
            place += kept ? kept_pixels(g_) / strips() * mine.begin : 0;
            for (uint32_t s = mine.begin; s < mine.end; ++s) {
                made ? place_strip(s) : start_strip(s);
                for (column_ = 0; column_ < g_.count[2]; column_ += g_.chunk, place += padded_pixels(g_.chunk_pixels)) {
                    made ? place_chunk() : start_chunk();
                    for (uint32_t b = blocks.begin; b < blocks.end;) {
                        const uint32_t count = takes_pairs(op_) && b + 1 < blocks.end ? 2 : 1;
                        const uint64_t apart = kept ? shared.pixels : padded_pixels(chunk_pixels());
                        const uint64_t base = kept ? b * shared.pixels + place : 0;
                        if (!made) sum_blocks(b, count, base, apart);
                        for (uint32_t i = 0; i < count; ++i, ++b) {
                            finish_block(b, base + i * apart, arrays_from(epilogue_.arrays, b * kBlock));
                            if (!run_->advance(chunk_units(b), which_)) return false;
                        }
                    }
                }
                if (!pool_rows()) return false;
            }
        }
        return true;
    }

    bool normalised() {
        const Span blocks = my_blocks();
        for (uint32_t b = blocks.begin; b < blocks.end; ++b) {
            NormSums sums;
            uint64_t count = 0;
            if (!sum_image(b, 0, &sums, &count)) return false;
            norm_affine(epilogue_, &sums, b * kBlock, used(b), count, is_float(), work_.gain, work_.offset);
            finish_image(b, 0, work_.gain, work_.offset);
        }
        return true;
    }

    // Group norm whose groups reach over blocks: the sums of all, then the results.
    bool sum_groups(const SharedSums& shared) {
        const Span blocks = my_blocks();
        uint64_t count = 0;
        for (uint32_t b = blocks.begin; b < blocks.end; ++b) {
            const uint32_t number = b - pass_.first_block;
            if (!sum_image(b, number * shared.pixels, &shared.norm[number], &count)) return false;
        }
        return true;
    }

    bool finish_groups(const SharedSums& shared) {
        const Span blocks = my_blocks();
        const uint32_t first = pass_.first_block * kBlock, left = op_.output_channels - first;
        const uint32_t most = (pass_.end_block - pass_.first_block) * kBlock;
        norm_affine(epilogue_, shared.norm, first, left < most ? left : most, pixels(output_), is_float(), work_.gain,
                    work_.offset);
        for (uint32_t b = blocks.begin; b < blocks.end; ++b) {
            const uint32_t number = b - pass_.first_block;
            finish_image(b, number * shared.pixels, work_.gain + number * kBlock, work_.offset + number * kBlock);
        }
        return true;
    }

  private:
    // The rows of the max-pool behind, as far as the rows above are finished.
    bool pool_rows() {
        const uint32_t index = run_->layout->pool[&op_ - run_->model->ops.data()];
        if (index == kNoOp || run_->looking) return true;
        const Op& pool = run_->model->ops[index];
        const uint32_t* size = run_->layout->places[pool.output].size;
        const uint64_t finished = strip_.first[1] + strip_.count[1];
        for (; pooled_ < size[1]; ++pooled_) {
            const uint64_t end = static_cast<uint64_t>(pooled_) * pool.stride[1] + pool.kernel[1];
            if (end > finished + pool.before[1] && finished < output_[1]) break;
            pool_row(run_, pool, run_->arena + run_->layout->work_offset[index], 0, pooled_);
            if (!run_->advance(static_cast<uint64_t>(size[2]) * pool.output_channels, which_)) return false;
        }
        return true;
    }

    bool is_float() const { return conv_.scheme == Scheme::kFloat; }

    // The sums of a block for the whole image, from pixel number base of the sums on, and what they add up to.
    bool sum_image(uint32_t block, uint64_t base, NormSums* norm, uint64_t* count) {
        const uint64_t first = base;
        for (size_t p = 0; p < conv_.phases.size(); ++p) {
            if (!start_phase(p)) continue;
            for (uint32_t s = 0; s < strips(); ++s) {
                start_strip(s);
                for (column_ = 0; column_ < g_.count[2]; column_ += g_.chunk) {
                    start_chunk();
                    sum_blocks(block, 1, base, 0);
                    base += chunk_pixels();
                    if (!run_->advance(chunk_units(block), which_)) return false;
                }
            }
        }
        *count = base - first;
        norm->clear();
        const void* sums = static_cast<const int32_t*>(work_.sums) + first * kBlock;
        if (is_float())
            norm->add_float(static_cast<const float*>(sums), kBlock, *count);
        else
            kernels_.norm_sums(static_cast<const int32_t*>(sums), kBlock, *count, norm->total, norm->high, norm->low);
        return true;
    }

    void finish_image(uint32_t block, uint64_t base, const float* gain, const float* offset) {
        EpilogueArrays arrays = arrays_from(epilogue_.arrays, block * kBlock);
        arrays.gain = gain;
        arrays.offset = offset;
        for (size_t p = 0; p < conv_.phases.size(); ++p) {
            if (!start_phase(p)) continue;
            for (uint32_t s = 0; s < strips(); ++s) {
                place_strip(s);
                for (column_ = 0; column_ < g_.count[2]; column_ += g_.chunk) {
                    place_chunk();
                    finish_block(block, base, arrays);
                    base += chunk_pixels();
                }
            }
        }
    }

    Span my_blocks() const {
        const Span mine = share(pass_.end_block - pass_.first_block, which_);
        return Span{pass_.first_block + mine.begin, pass_.first_block + mine.end};
    }

    uint32_t used(uint32_t block) const {
        uint32_t left = op_.output_channels - block * kBlock;
        return left < kBlock ? left : kBlock;
    }

    uint32_t strips() const { return g_.strips[0] * g_.strips[1]; }
    uint64_t chunk_pixels() const { return static_cast<uint64_t>(strip_.count[0]) * strip_.count[1] * columns_; }
    uint64_t chunk_units(uint32_t block) const {
        return chunk_pixels() * used(block) * phase_->taps.size() * conv_.group_inputs;
    }

    // False when the phase has no output. Tap offsets are relative to the first tap position of a pixel.
    bool start_phase(size_t index) {
        phase_ = &conv_.phases[index];
        phase_index_ = index;
        g_ = conv_geometry(conv_, *phase_, output_);
        if (g_.all_pixels == 0) return false;
        window_.start_phase(*phase_, g_);
        for (size_t t = 0; t < phase_->taps.size(); ++t) {
            const Tap& tap = phase_->taps[t];
            uint64_t at[3];
            for (int a = 0; a < 3; ++a)
                at[a] = static_cast<uint64_t>(tap.offset[a] - static_cast<int64_t>(phase_->least[a]));
            work_.tap_offsets[t] = static_cast<int32_t>(window_.at(at[0], at[1], at[2]) * window_.pixel_bytes());
        }
        return true;
    }

    void place_strip(uint32_t index) {
        strip_.first[0] = index / g_.strips[1] * g_.strip[0];
        strip_.first[1] = index % g_.strips[1] * g_.strip[1];
        for (int a = 0; a < 2; ++a) {
            const uint32_t left = g_.count[a] - strip_.first[a];
            strip_.count[a] = left < g_.strip[a] ? left : g_.strip[a];
        }
        strip_.count[2] = g_.count[2];
    }

    void start_strip(uint32_t index) {
        place_strip(index);
        window_.load(strip_);
        if (conv_.scheme == Scheme::kWinograd) return;
        const uint64_t pixel_bytes = window_.pixel_bytes();
        uint32_t* offset = work_.pixel_offsets;
        const uint64_t step = conv_.input_step[2] * pixel_bytes;
        for (uint64_t d = 0; d < strip_.count[0]; ++d)
            for (uint64_t h = 0; h < strip_.count[1]; ++h) {
                // In locals: for all that the compiler knows, the store of an offset could change what it is made of.
                uint64_t bytes = window_.at(d * conv_.input_step[0], h * conv_.input_step[1], 0) * pixel_bytes;
                uint32_t* const end = offset + strip_.count[2];
                for (; offset < end; bytes += step) *offset++ = static_cast<uint32_t>(bytes);
            }
        if (conv_.patches) make_patches(conv_, *phase_, window_, work_, strip_.pixels());
        const uint64_t count = strip_.pixels(), end = padded_pixels(count);
        for (uint64_t p = count; p < end; ++p) work_.pixel_offsets[p] = 0;  // surplus repeats the first pixel
        if (conv_.scheme == Scheme::kBits && phase_->taps.size() > 0)
            make_bit_patches(*kernels_.bit_conv, conv_, *phase_, window_, work_, count);
    }

    void place_chunk() { columns_ = g_.count[2] - column_ < g_.chunk ? g_.count[2] - column_ : g_.chunk; }

    void start_chunk() {
        place_chunk();
        if (conv_.scheme == Scheme::kWinograd) {
            chunk_ = {strip_.count[0], strip_.count[1], column_, columns_};
            transform_chunk(kernels_, conv_, window_, g_, chunk_, work_);
        }
    }

    // Sums of the current chunk for one block or two, at pixel number base of the sums and `apart` pixels behind.
    void sum_blocks(uint32_t block, uint32_t count, uint64_t base, uint64_t apart) {
        auto* sums = static_cast<int32_t*>(work_.sums) + base * kBlock;
        const size_t sum_stride = count == 2 ? apart * kBlock : 0;
        if (phase_->taps.size() == 0) {
            for (uint32_t i = 0; i < count; ++i)
                memset(sums + i * sum_stride, 0, chunk_pixels() * kBlock * sizeof(int32_t));
            return;
        }
        const uint8_t* weights = weights_ + block_offset(conv_, pass_, phase_index_, block);
        if (conv_.scheme == Scheme::kWinograd) {
            sum_winograd(kernels_, conv_, *phase_, block, weights, chunk_, work_, sums, sum_stride);
            return;
        }
        if (conv_.scheme == Scheme::kBits) {
            sum_bits(*kernels_.bit_conv, op_, *phase_, block, weights, work_, chunk_pixels(), sums);
            return;
        }
        int32_t single_tap = 0;
        ConvTile tile = {};
        tile.rows = conv_.patches ? work_.patches : window_.data();
        tile.rows += static_cast<uint64_t>(conv_.first_channel(block)) * conv_.element_bytes;
        tile.pixel_offsets = work_.pixel_offsets;
        tile.pixel_count = static_cast<uint32_t>(chunk_pixels());
        tile.tap_offsets = conv_.patches ? &single_tap : work_.tap_offsets;
        tile.weights = weights;
        tile.start = &phase_->start[block * kBlock];
        tile.sums = sums;
        tile.pair = count == 2;
        tile.weight_stride = conv_.block_bytes(*phase_);
        tile.start_stride = kBlock;
        tile.sum_stride = sum_stride;
        uint32_t at = phase_->first_segment[block], end = phase_->first_segment[block + 1];
        while (at < end) {
            uint64_t steps = 0;
            tile.segments = &phase_->segments[at];
            tile.segment_count = 0;
            while (at < end && (steps == 0 || (steps + phase_->segments[at].step_count) * conv_.step_bytes() * count <=
                                                  kRangeBytes)) {
                steps += phase_->segments[at++].step_count;
                ++tile.segment_count;
            }
            if (conv_.scheme == Scheme::kBytes)
                conv_.kernel->run(tile);
            else if (conv_.scheme == Scheme::kLookup)
                kernels_.lookup_conv->forms[conv_.lookup].run(tile);
            else if (conv_.scheme == Scheme::kWords)
                kernels_.conv_w16a16(tile);
            else
                kernels_.conv_w32a32(tile);
            tile.weights = static_cast<const uint8_t*>(tile.weights) + steps * conv_.step_bytes();
            tile.start = nullptr;
        }
    }

    // Epilogue and store of the current chunk for one block.
    void finish_block(uint32_t block, uint64_t base, const EpilogueArrays& arrays) {
        uint64_t source = base * kBlock;
        const uint64_t row_values = static_cast<uint64_t>(columns_) * kBlock;
        if (run_->looking) {
            run_epilogue(source, static_cast<uint32_t>(chunk_pixels()), arrays, work_.codes, kBlock);
            look(run_, which_, static_cast<const float*>(work_.codes), kBlock, chunk_pixels(), used(block));
            return;
        }
        if (op_.thresholds.count > 0) {
            const auto* sums = static_cast<const int32_t*>(work_.sums) + source;
            for (uint32_t d = 0; d < strip_.count[0]; ++d)
                for (uint32_t h = 0; h < strip_.count[1]; ++h, sums += row_values)
                    kernels_.threshold(sums, kBlock, op_.thresholds.from(block * kBlock), output_row(block, d, h));
            return;
        }
        const bool in_place = used(block) == kBlock && (target_.is_float || output_row(block, 0, 0).storage_bits == 8);
        if (!in_place) run_epilogue(source, static_cast<uint32_t>(chunk_pixels()), arrays, work_.codes, kBlock);
        for (uint32_t d = 0; d < strip_.count[0]; ++d) {
            for (uint32_t h = 0; h < strip_.count[1]; ++h, source += row_values) {
                const PackedRow row = output_row(block, d, h);
                if (in_place)
                    run_epilogue(source, columns_, arrays, row.data, row.pixel_stride / (target_.is_float ? 4 : 1));
                else
                    store_row(row, source - base * kBlock);
            }
        }
    }

    void run_epilogue(uint64_t source, uint32_t count, const EpilogueArrays& arrays, void* dst, size_t dst_stride) {
        if (conv_.scheme == Scheme::kFloat)
            kernels_.epilogue_f32(static_cast<const float*>(work_.sums) + source, kBlock, count, kBlock, arrays,
                                  target_, dst, dst_stride);
        else
            kernels_.epilogue_i32(static_cast<const int32_t*>(work_.sums) + source, kBlock, count, kBlock, arrays,
                                  target_, dst, dst_stride);
    }

    // The channels of a block in one output row of the chunk.
    PackedRow output_row(uint32_t block, uint32_t d, uint32_t h) const {
        uint64_t at[3] = {strip_.first[0] + d, strip_.first[1] + h, column_};
        for (int a = 0; a < 3; ++a) at[a] = at[a] * conv_.output_step[a] + phase_->origin[a];
        PackedRow row = run_->row(op_.output, (at[0] * output_[1] + at[1]) * output_[2] + at[2], columns_);
        row.data += static_cast<uint64_t>(block) * kBlock * row.storage_bits / 8;
        row.pixel_stride *= conv_.output_step[2];
        row.channels = used(block);
        return row;
    }

    void store_row(const PackedRow& row, uint64_t source) {
        if (!target_.is_float) {
            kernels_.store_codes(static_cast<const uint8_t*>(work_.codes) + source, kBlock, row);
            return;
        }
        const float* values = static_cast<const float*>(work_.codes) + source;
        for (uint32_t p = 0; p < row.pixels; ++p)
            memcpy(row.data + p * row.pixel_stride, values + p * kBlock, row.channels * sizeof(float));
    }

    Run* run_;
    const Kernels& kernels_;
    const Op& op_;
    const Conv& conv_;
    const uint32_t* output_;
    Pass pass_;
    const uint8_t* weights_;
    const ConvWork& work_;
    Share which_;
    Window window_;
    Target target_;
    Epilogue epilogue_;
    const Phase* phase_ = nullptr;
    size_t phase_index_ = 0;
    Geometry g_ = {};
    Strip strip_ = {};
    Chunk chunk_ = {};
    uint32_t pooled_ = 0;  // rows of the max-pool behind
    uint32_t column_ = 0;  // first column of the chunk
    uint32_t columns_ = 0;
};

}  // namespace

uint64_t conv_shared_bytes(const uq_layout& layout, const Op& op) {
    Carver carver(nullptr);
    carve_weights(op.conv, &carver);
    carve_sums(layout, op, &carver);
    return carver.used();
}

uint64_t conv_work_bytes(const uq_layout& layout, const Op& op) {
    Carver carver(nullptr);
    carve_conv(layout, op, &carver);
    return carver.used();
}

void prepare_conv_weights(Run* run, const Op& op, uint32_t pass_index, uint8_t* shared, uint8_t* memory, Share which) {
    Carver shared_carver(shared), carver(memory);
    uint8_t* weights = carve_weights(op.conv, &shared_carver);
    const ConvWork work = carve_conv(*run->layout, op, &carver);
    const Pass pass = conv_pass(op.conv, pass_index);
    const Span mine = share(pass.end_block - pass.first_block, which);
    for (size_t p = 0; p < op.conv.phases.size(); ++p) {
        const Phase& phase = op.conv.phases[p];
        if (phase.taps.size() == 0) continue;
        for (uint32_t b = pass.first_block + mine.begin; b < pass.first_block + mine.end; ++b)
            unpack_block(run->model->kernels, op, phase, b, weights + block_offset(op.conv, pass, p, b), work.scratch);
    }
}

uint32_t conv_stages(const Op& op) {
    return op.kind == kConv && op.conv.together ? 2 : 1;
}

bool run_conv(Run* run, const Op& op, Turn turn, uint8_t* shared, uint8_t* memory, Share which) {
    Carver shared_carver(shared), carver(memory);
    const uint8_t* weights = carve_weights(op.conv, &shared_carver);
    const SharedSums sums = carve_sums(*run->layout, op, &shared_carver);
    ConvWork work = carve_conv(*run->layout, op, &carver);
    if (op.conv.together || run->layout->keeps_sums(op)) work.sums = sums.sums;
    ConvRun conv(run, op, conv_pass(op.conv, turn.pass), weights, work, which);
    if (op.conv.together) return turn.stage == 0 ? conv.sum_groups(sums) : conv.finish_groups(sums);
    return op.epilogue.norm_weight ? conv.normalised() : conv.plain(sums);
}

}  // namespace uq
