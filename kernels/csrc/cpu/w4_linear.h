// y = x W^T for packed INT4 weights: quantize the activations, cut the work, run it on the pool.
#ifndef EDGEBENCH_CPU_W4_LINEAR_H_
#define EDGEBENCH_CPU_W4_LINEAR_H_

#include <cstdint>

#include "ops.h"
#include "pack.h"

namespace edgebench {

// x fp32 [m, k], y fp32 [m, n], both contiguous; m >= 1. Holds the pool for the whole call.
// Throws std::bad_alloc or std::system_error.
void w4_linear(const PackedW4& weights, Family family, int64_t m, const float* x, float* y);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_W4_LINEAR_H_
