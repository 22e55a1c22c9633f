// Sizes of tensors and the working memory of operations: what the planner and the operations share.
#ifndef UNETQ_SHAPES_H
#define UNETQ_SHAPES_H

#include "model.h"

namespace uq {

struct Place {
    uint32_t size[3];
    uint64_t bytes;
    uint64_t offset;  // in the arena
    bool made;
    bool in_arena;  // else the caller's input or output buffer, whose order is the same for one channel
};

constexpr uint32_t kNoOp = UINT32_MAX;

inline uint64_t pixels(const uint32_t size[3]) {
    return static_cast<uint64_t>(size[0]) * size[1] * size[2];
}

// The spatial size an operation gives for an input of size; false when an axis would vanish or exceed the limit.
bool output_size(const Op& op, const uint32_t size[3], uint32_t out[3]);

// Bytes of working memory an operation asks for, shared by its threads and for each of them; kTooLarge where it cannot
// be addressed.
uint64_t shared_bytes(const uq_layout& layout, const Op& op);
uint64_t work_bytes(const uq_layout& layout, const Op& op);

// The unit of progress: multiply-accumulates of a convolution, values otherwise.
uint64_t work_units(const Op& op, const Place* places);

}  // namespace uq

struct uq_layout {
    const uq_model* model;
    uq::Array<uq::Place> places;
    uq::Array<uint64_t> work_offset;  // an operation each
    uint32_t threads;
    uq::Array<uint8_t> fused;    // an operation each: its only reader makes its rows as it needs them
    uq::Array<uint32_t> maker;   // a tensor each: the operation that makes it, or kNoOp
    uq::Array<uint32_t> reader;  // a tensor each: the operation that reads it, if one does so once, or kNoOp
    uint64_t scales_offset;      // of what dynamic grids need in the arena
    uq::Array<uint8_t> kept;     // an operation each: it runs twice, and has room to keep its sums in between
    uq::Array<uint32_t> pool;    // a convolution each: the max-pool that takes its rows as they are finished, or kNoOp
    uq_layout_info info;

    bool keeps_sums(const uq::Op& op) const { return kept[static_cast<size_t>(&op - model->ops.data())] != 0; }

    // The fused operation that makes a tensor; null where the tensor lies in memory.
    const uq::Op* fused_maker(uint32_t tensor) const {
        const uint32_t op = maker[tensor];
        return op != uq::kNoOp && fused[op] ? &model->ops[op] : nullptr;
    }
};

#endif
