// A model, opened and planned for one size, with the buffers of its runs.
#ifndef UNETQ_TOOLS_NETWORK_H
#define UNETQ_TOOLS_NETWORK_H

#include "../include/unetq.h"
#include "failure.h"

namespace tool {

struct Network {
    void* file;  // the mapped model
    size_t file_bytes;
    uint32_t progress;  // sixteenths of a run that are done
    uq_model* model;
    uq_layout* layout;
    uq_model_info info;
    uq_layout_info sizes;
    uq_pool* pool;
    void* arena;
    float* input;
    float* output;
};

// network must be zero. On failure, close_network still.
Exit open_network(const char* path, const char* isa, Network* network);

// Plans for depth x height x width.
Exit plan_network(const uint32_t size[3], uint32_t threads, Network* network);

// Allocates arena, input and output, if there is memory for them and for more bytes beside.
Exit allocate_network(uint64_t more, Network* network);
Exit no_memory(const Network& network, uint64_t more);

// Runs the input to the output; SIGINT and its like stop it.
Exit run_network(Network* network);
void close_network(Network* network);

// The exit code and sentence for what the runtime said about path.
Exit refused(uq_status status, const char* path);

// Bytes of memory: the most this process has had, and what the system can still give (0: unknown).
uint64_t peak_memory();
uint64_t available_memory();

}  // namespace tool

#endif
