// The GEMM kernel of NEON without i8mm: weights in quads, 4 rows x 4 inputs a register.
//
//   tile.weights  [B/4][64 rows][4 inputs]
//   register tile 4 byte rows x kWidth columns: sdot 4 (16 sums), smlal 2 (16 sums of 16 bits);
//                 per 16 inputs 4 loads of activations and 4 * kWidth of weights for 16 * kWidth
//                 quads
#ifndef EDGEBENCH_CPU_QUADS_NEON_H_
#define EDGEBENCH_CPU_QUADS_NEON_H_

#include "dot_neon.h"
#include "gemm_neon.h"

namespace edgebench {
namespace neon {

constexpr int kQuadBytes = kBlockRows * 4;  // the 64 rows' bytes of 4 inputs

template <class Dot>
struct Quads {
  static constexpr int kTileRows = 4;
  static constexpr int kWidth = Dot::kSums / kTileRows;

  EB_INLINE void store(int8x16_t near, int8x16_t far, int j, int8_t* to) {
    vst1q_s8(to + 16 * j, near);
    vst1q_s8(to + kQuadBytes + 16 * j, far);
  }

  // One quad: all columns' weights meet every row's activations.
  template <int kQuarter, int kRows>
  EB_INLINE void add_quad(const int8_t* weights, const int8x16_t (&v)[kRows],
                          typename Dot::Sum (&sums)[kRows][kWidth]) {
#pragma GCC unroll 4
    for (int j = 0; j < kWidth; ++j) {
      const int8x16_t w = vld1q_s8(weights + kQuarter * kQuadBytes + 16 * j);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        sums[r][j] = Dot::template add<kQuarter>(sums[r][j], w, v[r]);
      }
    }
  }

  template <Family kFamily, int kInputs, int kTokens>
  EB_INLINE void multiply(const int8_t* rows, const int8_t* weights, int j0,
                          int32x4_t (&totals)[kTokens][kWidth]) {
    constexpr int kHalves = halves_of(kFamily);
    constexpr int kRows = kTokens * kHalves;
    constexpr int kChunk = chunk_of<Dot>(kInputs);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
      for (int j = 0; j < kWidth; ++j) totals[t][j] = vdupq_n_s32(0);
    }
    for (int first = 0; first < kInputs; first += kChunk) {
      typename Dot::Sum sums[kRows][kWidth];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int j = 0; j < kWidth; ++j) sums[r][j] = Dot::zero();
      }
#pragma GCC unroll 1
      for (int i = first; i < first + kChunk; i += kLoadInputs) {
        int8x16_t v[kRows];
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) v[r] = vld1q_s8(rows + r * kInputs + i);
        const int8_t* const at = weights + i / 4 * kQuadBytes + 16 * j0;
        add_quad<0>(at, v, sums);
        add_quad<1>(at, v, sums);
        add_quad<2>(at, v, sums);
        add_quad<3>(at, v, sums);
      }
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
        for (int j = 0; j < kWidth; ++j) {
          int32x4_t total = Dot::total(sums[t * kHalves][j]);
          if (kHalves == 2) {
            const int32x4_t low = Dot::total(sums[t * kHalves + kHalves - 1][j]);
            total = vaddq_s32(vshlq_n_s32(total, 8), low);
          }
          totals[t][j] = vaddq_s32(totals[t][j], total);
        }
      }
    }
  }
};

}  // namespace neon
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_QUADS_NEON_H_
