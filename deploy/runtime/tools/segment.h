// One model file, one image, one mask.
#ifndef UNETQ_TOOLS_SEGMENT_H
#define UNETQ_TOOLS_SEGMENT_H

#include "options.h"

namespace tool {

// The command's whole work; prints its summary, or leaves a sentence.
Exit segment(const Options& options);

}  // namespace tool

#endif
