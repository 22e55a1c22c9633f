// The buffers of a plan, and the way of one part to the network: read and turned, resampled, normalised, in windows.
#ifndef UNETQ_TOOLS_PASSAGE_H
#define UNETQ_TOOLS_PASSAGE_H

#include "network.h"
#include "plan.h"

namespace tool {

struct Passage {
    const Plan* plan;
    float* input;               // of the network
    float* slice;               // one as stored, where parts are turned
    float *even, *odd;          // the part, resampled from one to the other; the first may be the input itself
    float* seen;                // one of them: what the network sees of it
    float *out_even, *out_odd;  // a channel of a unit's logits, resampled back; in 3-D the two above
    float* best;                // the largest of the channels so far
    float *sum, *share;         // of windows
    uint8_t* winners;           // classes of a unit, where parts are turned
    uint8_t* classes;           // of the part as stored: values in a mask
};

// Bytes of all buffers; saturates.
uint64_t passage_bytes(const Plan& plan, uint32_t channels);

// passage must be zero, network allocated. False where there is not enough memory; close_passage still.
bool open_passage(const Plan& plan, const Network& network, Passage* passage);
void close_passage(Passage* passage);

// The next part of an image that was started.
Exit read_part(Image* image, Passage* passage);

// Resamples and normalises it.
Exit prepare_part(const Image& image, const uq_model_info& info, Passage* passage);

// A window of a unit to the network's input.
void fill_input(const Passage& passage, const uq_model_info& info, uint32_t unit, uint64_t window);

}  // namespace tool

#endif
