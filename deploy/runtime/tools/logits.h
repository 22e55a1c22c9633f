// The way back: logits of windows blended, resampled, decided, and turned to where the pixels are stored.
#ifndef UNETQ_TOOLS_LOGITS_H
#define UNETQ_TOOLS_LOGITS_H

#include "network.h"
#include "passage.h"

namespace tool {

// After each run: what the network says about a window of a unit. Windows come in their order.
void take_logits(const Passage& passage, const Network& network, uint64_t window);

// After the last one: the unit's classes, as the values that they have in a mask, to the passage's classes.
void finish_unit(const Passage& passage, const Network& network, uint32_t unit, const uint8_t values[256]);

}  // namespace tool

#endif
