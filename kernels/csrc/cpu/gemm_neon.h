// w4a8 and w4a16 for more than one token, NEON: the loop over groups and tokens, compute-bound.
//
// Formula, with w = code - zero as a signed byte (NEON multiplies signed by signed bytes):
//   y[t,n] += x_scale[t,g] * scale[n,g] * sum_k w[n,k] v[t,k];   a16: v = 256 * high + low
//
// Arguments: as in gemv_neon.h; `scratch` is used (kScratchBytes).
//
// Picture: all tokens of a chunk pass over one group before the next is unpacked.
//   scratch (L1):  | weights s8, B * 64, in the kernel's order | scale fp32 [64] |
//   tokens in tiles of kTileRows byte rows (a16: two a token), the rest in halves of it, down to
//   one.
//
// A Kernel says in which order it wants the weights and multiplies a tile:
//   kTileRows, kWidth    byte rows and columns (of 4 outputs) of a register tile
//   store(near, far, to) 4 rows x inputs 8s..8s+3 and 8s+4..8s+7 of one column to its place
//   multiply             totals[token][column] of one group, both halves combined
// The zero point costs nothing in the loop: it is in w.
// Roofline: 2 * 64 * B operations for each token and block; unpacking, 10 instructions for 32
//   weights, is shared by up to 240 tokens. Bound: the multiply peak. Not measured: no aarch64
//   machine yet.
// Sources: own design.
#ifndef EDGEBENCH_CPU_GEMM_NEON_H_
#define EDGEBENCH_CPU_GEMM_NEON_H_

#include "neon.h"

namespace edgebench {
namespace neon {

struct Tile {
  alignas(64) int8_t weights[kMaxBlockInputs * kBlockRows];
  alignas(64) float scale[kBlockRows];
};
static_assert(sizeof(Tile) <= kScratchBytes, "the tile lives in the thread's scratch");
constexpr int kTileStep = kBlockRows * kStepInputs;  // bytes of the 64 rows' 8 inputs: 512

template <class Kernel, int kInputs>
EB_INLINE void unpack(const uint8_t* block, Tile* tile) {
  const uint8x16_t mask = vdupq_n_u8(0x0f);
  const uint8_t* const tail = block + code_bytes(kInputs);
  for (int j = 0; j < kColumns; ++j) {
    // The row's zero point in all four bytes of its lane: codes - zero fits a signed byte.
    const uint8x16_t zero = vreinterpretq_u8_u32(vmulq_n_u32(zeros_of(tail, j), 0x01010101));
    for (int s = 0; s < kInputs / kStepInputs; ++s) {
      const uint8_t* const at = block + s * kStepBytes + 16 * j;
      if (j % 4 == 0) __builtin_prefetch(at + block_bytes(kInputs));  // computing hides its way
      const uint8x16_t word = vld1q_u8(at);
      const uint8x16_t near = vsubq_u8(vandq_u8(word, mask), zero);
      const uint8x16_t far = vsubq_u8(vshrq_n_u8(word, 4), zero);
      Kernel::store(vreinterpretq_s8_u8(near), vreinterpretq_s8_u8(far), j,
                    tile->weights + s * kTileStep);
    }
    vst1q_f32(tile->scale + kLanes * j, scales_of(tail, j));
  }
}

// kTokens tokens times 64 outputs over one group.
template <class Kernel, Family kFamily, int kInputs, int kTokens>
EB_INLINE void tokens_of(const int8_t* rows, const Tile& tile, const float* x_scale, bool is_first,
                         float* out) {
  constexpr int kWidth = Kernel::kWidth;
  for (int j0 = 0; j0 < kColumns; j0 += kWidth) {
    int32x4_t totals[kTokens][kWidth];
    Kernel::template multiply<kFamily, kInputs, kTokens>(rows, tile.weights, j0, totals);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
      for (int j = 0; j < kWidth; ++j) {
        float* const y = out + t * kBlockRows + kLanes * (j0 + j);
        const float32x4_t before = is_first ? vdupq_n_f32(0.0f) : vld1q_f32(y);
        const float32x4_t scale = vld1q_f32(tile.scale + kLanes * (j0 + j));
        vst1q_f32(y, add_scaled(before, totals[t][j], scale, x_scale[t]));
      }
    }
  }
}

// Tokens first <= t < last over group g, kTokens at a time, the rest in smaller tiles.
template <class Kernel, Family kFamily, int kInputs, int kTokens>
EB_INLINE void pass(const Tile& tile, const Activations& x, int g, int first, int t, int last,
                    float* out) {
  for (; last - t >= kTokens; t += kTokens) {
    const size_t slot = (size_t)g * x.tokens + t;
    const int8_t* const rows = (const int8_t*)x.bytes + slot * halves_of(kFamily) * kInputs;
    tokens_of<Kernel, kFamily, kInputs, kTokens>(rows, tile, x.scale + slot, g == 0,
                                                 out + (t - first) * kBlockRows);
  }
  if constexpr (kTokens > 1) {
    pass<Kernel, kFamily, kInputs, kTokens / 2>(tile, x, g, first, t, last, out);
  }
}

template <class Kernel, Family kFamily, int kInputs>
EB_INLINE void gemm_block(const BlockRow& weights, const Activations& x, int first, int last,
                          float* out, uint8_t* scratch) {
  Tile* const tile = (Tile*)scratch;
  const uint8_t* block = weights.blocks;
  for (int g = 0; g < weights.groups; ++g, block += block_bytes(kInputs)) {
    unpack<Kernel, kInputs>(block, tile);
    pass<Kernel, kFamily, kInputs, Kernel::kTileRows / halves_of(kFamily)>(*tile, x, g, first,
                                                                           first, last, out);
  }
}

template <class Kernel, Family kFamily>
EB_INLINE void gemm(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                    uint8_t* scratch) {
  switch (weights.inputs) {
    case 128:
      return gemm_block<Kernel, kFamily, 128>(weights, x, first, last, out, scratch);
    case 64:
      return gemm_block<Kernel, kFamily, 64>(weights, x, first, last, out, scratch);
    default:
      return gemm_block<Kernel, kFamily, 32>(weights, x, first, last, out, scratch);
  }
}

}  // namespace neon
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_GEMM_NEON_H_
