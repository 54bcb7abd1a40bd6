// y = x W^T for packed INT4 weights: quantize the activations, cut the work, run it on the pool.
#ifndef EDGEBENCH_CPU_W4_LINEAR_H_
#define EDGEBENCH_CPU_W4_LINEAR_H_

#include <cstdint>

#include "ops.h"
#include "pack.h"
#include "pool.h"

namespace edgebench {

// What becomes of sums on their way out: y = min(max(sum + bias[output], low), high), NaN stays
// NaN.
struct Epilogue {
  const float* bias;  // [n]; null: none
  float low, high;
};

// How a linear differs from the plain one.
struct Options {
  QuantizeFn quantize = nullptr;       // instead of the instruction set's own; null: that one
  const Epilogue* epilogue = nullptr;  // null: y is the sums
  bool alone = false;                  // on the calling thread, and the pool stays asleep
};

// x fp32 [m, k], y fp32 [m, n], both contiguous; m >= 1. Holds the pool for the whole call.
// Throws std::bad_alloc or std::system_error.
void w4_linear(const PackedW4& weights, Family family, int64_t m, const float* x, float* y,
               const Options& options = {});

// What makes row `token` of x just before the row is quantized, on the same thread; run may be
// null.
struct Prologue {
  void (*run)(void* context, int64_t token) = nullptr;
  void* context = nullptr;
};

// The same with the pool's mutex held by the caller, and with x made row by row.
void w4_linear_held(Pool& threads, const PackedW4& weights, Family family, int64_t m,
                    const float* x, float* y, Prologue prologue, const Options& options = {});

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_W4_LINEAR_H_
