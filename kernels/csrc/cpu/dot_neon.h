// Byte dot products of NEON, two ways: what the kernels are templates over.
//
// Both add to 4 output rows the products of 16 weights (4 rows x 4 inputs, |w| <= 15) with 4
// activations: quarter `kQuarter` of 16 signed bytes.
//
//   weights  | r0: k k+1 k+2 k+3 | r1: k .. k+3 | r2: k .. k+3 | r3: k .. k+3 |   4 rows x 4 bytes
//   v        | quarter 0         | quarter 1    | quarter 2    | quarter 3    |   16 inputs
#ifndef EDGEBENCH_CPU_DOT_NEON_H_
#define EDGEBENCH_CPU_DOT_NEON_H_

#include "neon.h"

namespace edgebench {
namespace neon {

// ARMv8.0: smlal adds products in 16-bit lanes, one of each quad a lane, which must not overflow:
//   |w * v| <= 15 * 128 = 1920, and 64 inputs add 16 of them: 30720 < 32768.
// Then two pairwise additions give the 32-bit sum of each row.
struct WideningDot {
  static constexpr int kChunkInputs = 64;  // inputs until the 16-bit sums must be widened
  static constexpr int kSums = 8;          // that fit in the 32 registers beside their operands
  struct Sum {
    int16x8_t low, high;  // rows 0, 1 and rows 2, 3
  };
  EB_INLINE Sum zero() { return {vdupq_n_s16(0), vdupq_n_s16(0)}; }
  template <int kQuarter>
  EB_INLINE Sum add(Sum sum, int8x16_t weights, int8x16_t v) {
    const int8x16_t quad = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(v), kQuarter));
    return {vmlal_s8(sum.low, vget_low_s8(weights), vget_low_s8(quad)),
            vmlal_high_s8(sum.high, weights, quad)};
  }
  EB_INLINE int32x4_t total(Sum sum) {
    return vpaddq_s32(vpaddlq_s16(sum.low), vpaddlq_s16(sum.high));
  }
};

#if defined(__ARM_FEATURE_DOTPROD)
// sdot: four products of a row and their sum in one instruction, straight into 32 bits.
struct OneStepDot {
  static constexpr int kChunkInputs = kMaxBlockInputs;
  static constexpr int kSums = 16;
  using Sum = int32x4_t;
  EB_INLINE Sum zero() { return vdupq_n_s32(0); }
  template <int kQuarter>
  EB_INLINE Sum add(Sum sum, int8x16_t weights, int8x16_t v) {
    return vdotq_laneq_s32(sum, weights, v, kQuarter);
  }
  EB_INLINE int32x4_t total(Sum sum) { return sum; }
};
#endif

// Inputs over which 16- or 32-bit sums of `Dot` run before they join the total of a block.
template <class Dot>
constexpr int chunk_of(int inputs) {
  return inputs < Dot::kChunkInputs ? inputs : Dot::kChunkInputs;
}

}  // namespace neon
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_DOT_NEON_H_
