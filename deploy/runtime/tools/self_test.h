// Golden vectors: what this program computes on this processor is what was shipped.
#ifndef UNETQ_TOOLS_SELF_TEST_H
#define UNETQ_TOOLS_SELF_TEST_H

#include "options.h"

namespace tool {

// Runs model.uqm on input.npy in the folder on every instruction set and compares with logits.npy, bit for bit.
Exit self_test(const Options& options);

}  // namespace tool

#endif
