// A failing call leaves one sentence behind, a thread its own.
#ifndef UNETQ_STATUS_H
#define UNETQ_STATUS_H

#include "../include/unetq.h"

namespace uq {

// Stores the sentence (printf style) and gives status back.
uq_status fail(uq_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace uq

#endif
