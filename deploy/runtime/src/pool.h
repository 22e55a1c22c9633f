// A few threads that run one function together.
#ifndef UNETQ_POOL_H
#define UNETQ_POOL_H

#include <stdint.h>

#include "../include/unetq.h"

namespace uq {

// Runs function(context, part) for every part in [0, threads), part 0 on the calling thread, and returns when all are
// done. A null pool has one thread.
void run_parts(uq_pool* pool, uint32_t threads, void (*function)(void* context, uint32_t part), void* context);
uint32_t pool_threads(const uq_pool* pool);

}  // namespace uq

#endif
