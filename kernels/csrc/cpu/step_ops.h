// What one instruction set offers for a decode step beside the linears: a table of plain functions
// on one row, or on one sequence's key-value head. See step_lanes.h for the algorithms.
#ifndef EDGEBENCH_CPU_STEP_OPS_H_
#define EDGEBENCH_CPU_STEP_OPS_H_

#include <stddef.h>
#include <stdint.h>

namespace edgebench {

// What the cache holds: fp32, fp16, or int8 with one fp32 scale per column and head.
enum Cell { kCellF32 = 0, kCellF16 = 1, kCellI8 = 2 };
constexpr int kCells = 3;
constexpr float kI8Levels = 127.0f;
constexpr int kHeadDimMultiple = 8;

// The newest token of one sequence in one key-value head, and the cache it attends to.
//   query   [queries][dim]   rotated in place
//   key     [dim]            rotated in place, then stored in column `last`
//   value   [dim]            stored in column `last`
//   cos, sin [dim / 2]       of the token's position
//   keys, values [columns][dim] cells; key_scales, value_scales [columns], null unless int8
//   out     [queries][dim]   softmax(scale * query keys^T) values over columns first..last
//   scores  [queries][score_stride(last - first + 1)], private scratch
struct HeadGroup {
  float* query;
  float* key;
  const float* value;
  const float* cos;
  const float* sin;
  void* keys;
  void* values;
  float* key_scales;
  float* value_scales;
  float* scores;
  float* out;
  int64_t first;
  int64_t last;
  int queries;
  int dim;  // a multiple of kHeadDimMultiple
  float scale;
};
constexpr int64_t kScorePadding = 16;  // the widest register, in floats
constexpr int64_t score_stride(int64_t columns) {
  return (columns + kScorePadding - 1) / kScorePadding * kScorePadding;
}

struct StepOps {
  // fp16 to fp32, [n].
  void (*widen)(const uint16_t* x, int64_t n, float* y);
  // x += delta (unless null); y = x * weight / sqrt(mean(x^2) + eps), all [n].
  // A sum of squares that is not finite makes y NaN.
  void (*add_norm)(float* x, const float* delta, const float* weight, float eps, int64_t n,
                   float* y);
  // y[n] = silu(gate) * up for gate_up = gate[n], up[n].
  void (*swiglu)(const float* gate_up, int64_t n, float* y);
  // Rotates query and key, stores key and value; indexed by Cell.
  void (*append[kCells])(const HeadGroup& group);
  void (*attend[kCells])(const HeadGroup& group);
  // The first index of the largest x[n], which goes to *best; NaN anywhere makes *best NaN.
  int64_t (*argmax)(const float* x, int64_t n, float* best);
};

extern const StepOps kScalarStepOps;
#if defined(__x86_64__)
extern const StepOps kAvx2StepOps;
extern const StepOps kAvx512StepOps;
#elif defined(__aarch64__)
extern const StepOps kNeonStepOps;
#endif

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_STEP_OPS_H_
