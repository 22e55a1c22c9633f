// Where things with lifetimes lie in one arena.
#ifndef UNETQ_PLACEMENT_H
#define UNETQ_PLACEMENT_H

#include "common.h"

namespace uq {

constexpr uint32_t kNoItem = UINT32_MAX;

struct Item {
    uint64_t bytes;
    uint64_t offset;
    uint32_t first;  // operations that it is alive at, both included
    uint32_t last;
    // An operation may write this item over another that it reads for the last time, if the other begins at least
    // `shift` bytes behind this one: it has then been read wherever it is written. kNoItem: none.
    uint32_t over;
    uint64_t shift;
};

// Sets every offset; returns the arena's size, kTooLarge without memory.
uint64_t place_items(Array<Item>* items);

}  // namespace uq

#endif
