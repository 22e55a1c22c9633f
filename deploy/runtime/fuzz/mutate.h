// Wrong model files behind a right checksum: one or a few fields of a good file changed, records doubled or dropped,
// sections cut, so that each check of the reader is met, not the first one only.
#ifndef UNETQ_FUZZ_MUTATE_H
#define UNETQ_FUZZ_MUTATE_H

#include "model_writer.h"
#include "source.h"

namespace fuzz {

Bytes mutate_model(const Bytes& file, Random* random);

}  // namespace fuzz

#endif
