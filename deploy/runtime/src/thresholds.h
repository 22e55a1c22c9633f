// Results of one or two bits: thresholds on sums, in place of an epilogue.
#ifndef UNETQ_THRESHOLDS_H
#define UNETQ_THRESHOLDS_H

#include "model.h"

namespace uq {

// Fills op->thresholds where its epilogue is worth it and allows it.
uq_status prepare_thresholds(const uq_model& model, Op* op);

}  // namespace uq

#endif
