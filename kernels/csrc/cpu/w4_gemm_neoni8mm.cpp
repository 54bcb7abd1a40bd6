// w4a8 and w4a16 for more than one token, NEON with i8mm: gemm_neon.h over 2 x 8 byte matrices.
//
// Formula: gemm_neon.h. smmla multiplies 2 byte rows x 8 inputs by 8 inputs x 2 outputs, 32
// products an instruction, twice those of sdot.
//
// Picture: unpacking gives 4 rows x inputs 8s..8s+3 (near) and 8s+4..8s+7 (far); zipping their
// lanes
//   gives | r0: 8 inputs | r1: 8 inputs | and | r2 | r3 |, in tile.weights [B/8][64 rows][8
//   inputs]; zipping 16 bytes of two activation rows gives | a: 8 | b: 8 | twice. The sums are |
//   a r0 | a r1 | b r0 | b r1 |; with those of r2, r3 they zip back to 4 outputs of a and of b.
//   For a16, a and b are the high and the low half of one token.
//   register tile: 8 byte rows x 2 columns = 16 sums; per 16 inputs 8 + 8 loads and 8 zips for 32
//   smmla.
// Roofline, arguments: gemm_neon.h. A last odd row meets itself; that half is thrown away.
// Sources: own design.
#include "gemm_neon.h"
#include "w4_neon.h"

namespace edgebench {
namespace neon {
namespace {

EB_INLINE int8x16_t zip_low(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
EB_INLINE int8x16_t zip_high(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

struct Matrices {
  static constexpr int kTileRows = 8;
  static constexpr int kWidth = 2;

  EB_INLINE void store(int8x16_t near, int8x16_t far, int j, int8_t* to) {
    const int32x4_t first = vreinterpretq_s32_s8(near);
    const int32x4_t second = vreinterpretq_s32_s8(far);
    vst1q_s8(to + 32 * j, vreinterpretq_s8_s32(vzip1q_s32(first, second)));
    vst1q_s8(to + 32 * j + 16, vreinterpretq_s8_s32(vzip2q_s32(first, second)));
  }

  // One step: all columns' weights meet every pair's activations.
  template <int kPairs>
  EB_INLINE void add_step(const int8_t* weights, const int8x16_t (&v)[kPairs],
                          int32x4_t (&sums)[kPairs][2 * kWidth]) {
#pragma GCC unroll 4
    for (int c = 0; c < 2 * kWidth; ++c) {
      const int8x16_t w = vld1q_s8(weights + 16 * c);
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) sums[p][c] = vmmlaq_s32(sums[p][c], v[p], w);
    }
  }

  template <Family kFamily, int kInputs, int kTokens>
  EB_INLINE void multiply(const int8_t* rows, const int8_t* weights, int j0,
                          int32x4_t (&totals)[kTokens][kWidth]) {
    constexpr int kRows = kTokens * halves_of(kFamily);
    constexpr int kPairs = (kRows + 1) / 2;
    int32x4_t sums[kPairs][2 * kWidth];
#pragma GCC unroll 4
    for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 4
      for (int c = 0; c < 2 * kWidth; ++c) sums[p][c] = vdupq_n_s32(0);
    }
#pragma GCC unroll 1
    for (int i = 0; i < kInputs; i += kLoadInputs) {
      int8x16_t near[kPairs], far[kPairs];
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) {
        const int8_t* const at = rows + 2 * p * kInputs + i;
        const int8x16_t a = vld1q_s8(at);
        const int8x16_t b = kRows == 1 ? a : vld1q_s8(at + kInputs);
        near[p] = zip_low(a, b);
        far[p] = zip_high(a, b);
      }
      const int8_t* const at = weights + i / kStepInputs * kTileStep + 32 * j0;
      add_step(at, near, sums);
      add_step(at + kTileStep, far, sums);
    }
#pragma GCC unroll 4
    for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 2
      for (int j = 0; j < kWidth; ++j) {
        const int64x2_t left = vreinterpretq_s64_s32(sums[p][2 * j]);
        const int64x2_t right = vreinterpretq_s64_s32(sums[p][2 * j + 1]);
        const int32x4_t a = vreinterpretq_s32_s64(vzip1q_s64(left, right));
        const int32x4_t b = vreinterpretq_s32_s64(vzip2q_s64(left, right));
        if constexpr (kFamily == kA16) {
          totals[p][j] = vaddq_s32(vshlq_n_s32(a, 8), b);
        } else {
          totals[2 * p][j] = a;
          if constexpr (kRows > 1) totals[2 * p + 1][j] = b;
        }
      }
    }
  }
};

}  // namespace

void matrix_gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                    uint8_t* scratch) {
  gemm<Matrices, kA8>(weights, x, first, last, out, scratch);
}

void matrix_gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                     uint8_t* scratch) {
  gemm<Matrices, kA16>(weights, x, first, last, out, scratch);
}

}  // namespace neon
}  // namespace edgebench
