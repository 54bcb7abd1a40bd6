// w4a8 and w4a16 for one token, NEON: straight from the nibbles, memory-bound.
//
// Formula, one token, row n (v = quantized activation; a16: v = 256 * high + low):
//   y[n] = sum_g x_scale[g] * scale[n,g] * (sum_k code[n,k] v[k] - zero[n,g] * sum_k v[k])
//
// Arguments
//   weights  BlockRow     64 rows, `groups` blocks of B inputs, one sequential stream
//   x        Activations  signed bytes (flip 0), [group][token][half][B]
//   out      fp32 [64]    16-byte aligned
//
// Picture: one step of a block is 256 bytes = 16 registers; a lane is an output row. A register w:
//   w & 0x0f . x[8s .. 8s+3],   w >> 4 . x[8s+4 .. 8s+7]   -> 4 sums (dot_neon.h)
//   columns of 16 B:  | 0 .. W-1 | W .. 2W-1 | ...   each block is walked 16 / W times, after the
//   first time from L1; W = sums that fit in registers / halves: sdot 16 (a8) and 8 (a16), else 8
//   and 4.
//
// Roofline: B = 128 reads 4288 B and needs 512 sdot (a8) or 1024 (a16; twice that in smlal): 8 or 4
//   B an sdot. At two a cycle and 2.5 GHz 21-42 GB/s a core (smlal: 10-21). Bound expected: read
//   bandwidth with sdot; with smlal, arithmetic for a16. Not measured: no aarch64 machine yet.
//
// The idea: nothing but the weights is read from memory, in address order. Codes stay unsigned and
//   the zero point is one multiplication a group, by the sum that quantization leaves.
// Sources: own design.
#ifndef EDGEBENCH_CPU_GEMV_NEON_H_
#define EDGEBENCH_CPU_GEMV_NEON_H_

#include "dot_neon.h"

namespace edgebench {
namespace neon {

// totals[W] += the products of kInputs inputs from `first` on; a16 combines its halves.
template <class Dot, Family kFamily, int kInputs, int kWidth>
EB_INLINE void add_chunk(const uint8_t* block, const int8_t* v, int first, int j0, int ahead,
                         int32x4_t* totals) {
  constexpr int kHalves = halves_of(kFamily);
  const uint8x16_t mask = vdupq_n_u8(0x0f);
  typename Dot::Sum sums[kHalves][kWidth];
  for (int h = 0; h < kHalves; ++h) {
    for (int j = 0; j < kWidth; ++j) sums[h][j] = Dot::zero();
  }
  for (int i = first; i < first + chunk_of<Dot>(kInputs); i += kLoadInputs) {
    const uint8_t* const step = block + i / kStepInputs * kStepBytes;
    if (j0 == 0) {
      for (int line = 0; line < 2 * kStepBytes; line += 64) __builtin_prefetch(step + line + ahead);
    }
    int8x16_t x[kHalves];
    for (int h = 0; h < kHalves; ++h) x[h] = vld1q_s8(v + h * kInputs + i);
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) {
      const uint8x16_t one = vld1q_u8(step + 16 * (j0 + j));
      const uint8x16_t two = vld1q_u8(step + kStepBytes + 16 * (j0 + j));
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; ++h) {
        typename Dot::Sum& sum = sums[h][j];
        sum = Dot::template add<0>(sum, vreinterpretq_s8_u8(vandq_u8(one, mask)), x[h]);
        sum = Dot::template add<1>(sum, vreinterpretq_s8_u8(vshrq_n_u8(one, 4)), x[h]);
        sum = Dot::template add<2>(sum, vreinterpretq_s8_u8(vandq_u8(two, mask)), x[h]);
        sum = Dot::template add<3>(sum, vreinterpretq_s8_u8(vshrq_n_u8(two, 4)), x[h]);
      }
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < kWidth; ++j) {
    int32x4_t total = Dot::total(sums[0][j]);
    if (kHalves == 2) {
      total = vaddq_s32(vshlq_n_s32(total, 8), Dot::total(sums[kHalves - 1][j]));
    }
    totals[j] = vaddq_s32(totals[j], total);
  }
}

template <class Dot, Family kFamily, int kInputs>
EB_INLINE void gemv_block(const BlockRow& weights, const Activations& x, int token, float* out) {
  constexpr int kHalves = halves_of(kFamily);
  constexpr int kWidth = Dot::kSums / kHalves;
  const uint8_t* block = weights.blocks;
  for (int j = 0; j < kColumns; ++j) vst1q_f32(out + kLanes * j, vdupq_n_f32(0.0f));
  for (int g = 0; g < weights.groups; ++g, block += block_bytes(kInputs)) {
    const size_t slot = (size_t)g * x.tokens + token;
    const int8_t* const v = (const int8_t*)x.bytes + slot * kHalves * kInputs;
    const uint8_t* const tail = block + code_bytes(kInputs);
    for (int j0 = 0; j0 < kColumns; j0 += kWidth) {
      int32x4_t totals[kWidth];
      for (int32x4_t& total : totals) total = vdupq_n_s32(0);
      for (int first = 0; first < kInputs; first += chunk_of<Dot>(kInputs)) {
        add_chunk<Dot, kFamily, kInputs, kWidth>(block, v, first, j0, weights.prefetch, totals);
      }
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j) {
        const int32x4_t zero = vreinterpretq_s32_u32(zeros_of(tail, j0 + j));
        const int32x4_t total = vmlsq_n_s32(totals[j], zero, x.sum[slot]);
        float* const y = out + kLanes * (j0 + j);
        vst1q_f32(y, add_scaled(vld1q_f32(y), total, scales_of(tail, j0 + j), x.scale[slot]));
      }
    }
  }
}

// The block size as a constant: sums stay in registers only where trip counts are known.
template <class Dot, Family kFamily>
EB_INLINE void gemv(const BlockRow& weights, const Activations& x, int token, float* out) {
  switch (weights.inputs) {
    case 128:
      return gemv_block<Dot, kFamily, 128>(weights, x, token, out);
    case 64:
      return gemv_block<Dot, kFamily, 64>(weights, x, token, out);
    default:
      return gemv_block<Dot, kFamily, 32>(weights, x, token, out);
  }
}

}  // namespace neon
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_GEMV_NEON_H_
