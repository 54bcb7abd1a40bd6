// From packed weights back to numbers, for products that other libraries compute.
#ifndef EDGEBENCH_CPU_UNPACK_H_
#define EDGEBENCH_CPU_UNPACK_H_

#include "ops.h"
#include "pack.h"

namespace edgebench {

// y[n][k] of the given numbers, contiguous, on the calling thread. Throws std::bad_alloc.
void unpack_w4(const PackedW4& weights, Number number, void* y);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_UNPACK_H_
