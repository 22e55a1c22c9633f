// Functions of one code, as tables: sigmoid, tanh, ELU, SiLU, GELU inside networks. Where codes go in and come out at
// the same width, packed bytes are looked up as they lie; else codes pass through bytes.
#include "ops.h"

namespace uq {
namespace {

struct Work {
    uint8_t* packed;  // the table by packed bytes
    uint8_t* codes;   // one row
};

bool keeps_width(const uq_model& model, const Op& op) {
    return model.tensors[op.inputs[0]].storage_bits == model.tensors[op.output].storage_bits;
}

Work carve(const uq_model& model, const Op& op, const uint32_t output[3], Carver* carver) {
    const bool packed = keeps_width(model, op);
    Work work;
    work.packed = carver->take<uint8_t>(packed ? kTableBytes : 0);
    work.codes = carver->take<uint8_t>(packed ? 0 : product(output[2], op.output_channels));
    return work;
}

// What becomes of all the codes of a byte.
void pack_table(const Op& op, const Tensor& input, uint8_t* packed) {
    const uint32_t bits = input.storage_bits, mask = (1u << bits) - 1;
    const uint32_t sign = input.is_signed ? 1u << (bits - 1) : 0;
    for (uint32_t byte = 0; byte < kTableBytes; ++byte) {
        uint32_t out = 0;
        for (uint32_t at = 0; at < 8; at += bits) {
            const uint32_t code = ((byte >> at & mask) ^ sign) - sign;
            out |= (op.table[code & 0xff] & mask) << at;
        }
        packed[byte] = static_cast<uint8_t>(out);
    }
}

void look_up(const uint8_t* table, const uint8_t* src, size_t count, uint8_t* dst) {
    for (size_t i = 0; i < count; ++i) dst[i] = table[src[i]];
}

// What is behind a pixel's last code in its last byte stays 0.
void clear_tails(const PackedRow& row) {
    const uint32_t used = row.channels * row.storage_bits % 8;
    for (uint32_t p = 0; used && p < row.pixels; ++p)
        row.data[(p + 1) * row.pixel_stride - 1] &= static_cast<uint8_t>((1u << used) - 1);
}

}  // namespace

uint64_t table_work_bytes(const uq_model& model, const Op& op, const uint32_t output[3]) {
    Carver carver(nullptr);
    carve(model, op, output, &carver);
    return carver.used();
}

bool run_table(Run* run, const Op& op, uint8_t* memory, Share share) {
    const Kernels& kernels = run->model->kernels;
    const Tensor& input = run->model->tensors[op.inputs[0]];
    const uint32_t* size = run->layout->places[op.output].size;
    Carver carver(memory);
    const Work work = carve(*run->model, op, size, &carver);
    const bool packed = keeps_width(*run->model, op);
    if (packed) pack_table(op, input, work.packed);
    const uint64_t rows = static_cast<uint64_t>(size[0]) * size[1];
    for (uint32_t r = share.begin(rows); r < share.end(rows); ++r) {
        const uint64_t pixel = static_cast<uint64_t>(r) * size[2];
        const PackedRow from = run->row(op.inputs[0], pixel, size[2]), to = run->row(op.output, pixel, size[2]);
        const size_t values = static_cast<size_t>(size[2]) * op.output_channels;
        if (packed) {
            look_up(work.packed, from.data, from.pixel_stride * size[2], to.data);
            clear_tails(to);
        } else {
            load_bytes(kernels, input, from, 0, work.codes, op.output_channels);
            look_up(op.table, work.codes, values, work.codes);
            kernels.store_codes(work.codes, op.output_channels, to);
        }
        if (!run->advance(values, share)) return false;
    }
    return true;
}

}  // namespace uq
