// The static KV cache of one layer, and one head's rotation on its way into it.
//
//     cells   fp16 or s8 [2][max_batch][kv_heads][length][kHead]     keys, then values
//     scales  fp32       [2][max_batch][kv_heads][length]            of s8 cells: x = code * scale
//
// Row b's tokens lie in columns starts[b] .. columns[b]; a token's position, which RoPE turns by,
// is its column less starts[b]. (edgebench_kernels/engine/cache.py aligns rows at their right;
// columns may as well differ.) An s8 cell row has code = rint(x 127 / peak), scale = peak / 127,
// and the scale NaN where x is not finite, so that what attends to it is NaN too.
//
// RoPE, halves split as in Hugging Face's Llama: with a = x[i], b = x[i + kHead / 2] and the angle
// of (position, i): x'[i] = a cos - b sin, x'[i + kHead / 2] = b cos + a sin.
//
//     rotations  fp32 [length][2][kHead / 2]     cos, then sin
//
// A warp holds a head: with w = lane + 32 turn, a lane has elements 2w and 2w + 1 of both halves.
#ifndef EDGEBENCH_CUDA_KV_CACHE_CUH_
#define EDGEBENCH_CUDA_KV_CACHE_CUH_

#include "prim.cuh"

constexpr float kCellLevels = 127.0f;
constexpr float kSmallestCellPeak = 1e-30f;

struct Cache {
  u8* cells;
  float* scales;
  int max_batch, kv_heads, length;

  // The cell row of a column, counted from the layer's first; `kind`: 0 keys, 1 values.
  EB_DEVICE s64 place(int kind, int row, int head, int column) const {
    return (((s64)kind * max_batch + row) * kv_heads + head) * length + column;
  }
  // Whether a row that starts at `start` can have a token in `column`.
  EB_DEVICE bool has(int start, int column) const {
    return start >= 0 && column >= start && column < length;
  }
};

template <int kHead>
struct Head {
  static_assert(kHead % 16 == 0, "a head is a multiple of 16");
  static constexpr int kWords = kHead / 4;  // of two elements, in a half
  static constexpr int kTurns = (kWords + 31) / 32;

  float low[kTurns][2], high[kTurns][2];  // 0 where the lane has nothing

  EB_DEVICE void load(const u16* from) {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int w = lane_id() + 32 * turn;
      u32 a = 0, b = 0;
      if (w < kWords) {
        a = *(const u32*)(from + 2 * w);
        b = *(const u32*)(from + kHead / 2 + 2 * w);
      }
      low[turn][0] = low_half(a);
      low[turn][1] = high_half(a);
      high[turn][0] = low_half(b);
      high[turn][1] = high_half(b);
    }
  }

  EB_DEVICE void rotate(const float* rotations, int position) {
    const float* const cos = rotations + (s64)position * kHead;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int at = 2 * (lane_id() + 32 * turn) + i;
        if (at >= kHead / 2) continue;
        const float c = cos[at], s = cos[kHead / 2 + at];
        const float a = low[turn][i], b = high[turn][i];
        low[turn][i] = a * c - b * s;
        high[turn][i] = b * c + a * s;
      }
    }
  }

  EB_DEVICE void store(u16* to) const {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int w = lane_id() + 32 * turn;
      if (w >= kWords) continue;
      *(u32*)(to + 2 * w) = floats_to_half2(low[turn][0], low[turn][1]);
      *(u32*)(to + kHead / 2 + 2 * w) = floats_to_half2(high[turn][0], high[turn][1]);
    }
  }

  // Bits of the largest magnitude of the head, in every lane; NaN is the largest of all.
  EB_DEVICE u32 peak_bits() const {
    u32 peak = 0;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const u32 a = float_bits(magnitude(low[turn][i]));
        const u32 b = float_bits(magnitude(high[turn][i]));
        peak = a > peak ? a : peak;
        peak = b > peak ? b : peak;
      }
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) {
      const u32 other = shuffle_xor(peak, mask);
      peak = other > peak ? other : peak;
    }
    return peak;
  }
};

EB_DEVICE u32 two_codes(const float* v, float inverse) {
  return ((u32)float_to_s8(v[0] * inverse) & 0xff) | ((u32)float_to_s8(v[1] * inverse) & 0xff) << 8;
}

// A head as the cells of one column: words of two cells, and the scale of s8 cells.
template <int kHead, bool kBytes>
struct Cells {
  using H = Head<kHead>;
  static constexpr int kRowBytes = kBytes ? kHead : 2 * kHead;

  u32 low[H::kTurns], high[H::kTurns];
  float scale;

  // All lanes of the warp.
  EB_DEVICE explicit Cells(const H& head) {
    float inverse = 0;
    scale = 0;
    if constexpr (kBytes) {
      const u32 bits = head.peak_bits();
      const bool is_finite = bits < 0x7f800000u;
      const float peak = larger(bits_float(bits), kSmallestCellPeak);
      inverse = is_finite ? kCellLevels / peak : 0.0f;
      scale = is_finite ? peak / kCellLevels : bits_float(0x7fc00000u);
    }
#pragma unroll
    for (int turn = 0; turn < H::kTurns; ++turn) {
      if constexpr (kBytes) {
        low[turn] = inverse == 0 ? 0 : two_codes(head.low[turn], inverse);
        high[turn] = inverse == 0 ? 0 : two_codes(head.high[turn], inverse);
      } else {
        low[turn] = floats_to_half2(head.low[turn][0], head.low[turn][1]);
        high[turn] = floats_to_half2(head.high[turn][0], head.high[turn][1]);
      }
    }
  }

  // To shared or global memory; `scale_to` is not read for fp16 cells.
  EB_DEVICE void store(u8* to, float* scale_to) const {
#pragma unroll
    for (int turn = 0; turn < H::kTurns; ++turn) {
      const int w = lane_id() + 32 * turn;
      if (w >= H::kWords) continue;
      if constexpr (kBytes) {
        *(u16*)(to + 2 * w) = (u16)low[turn];
        *(u16*)(to + kHead / 2 + 2 * w) = (u16)high[turn];
      } else {
        *(u32*)(to + 4 * w) = low[turn];
        *(u32*)(to + kHead + 4 * w) = high[turn];
      }
    }
    if (kBytes && lane_id() == 0) *scale_to = scale;
  }

  // To a column of the cache.
  EB_DEVICE void append(const Cache& cache, s64 place) const {
    store(cache.cells + place * kRowBytes, cache.scales + (kBytes ? place : 0));
  }
};

#endif  // EDGEBENCH_CUDA_KV_CACHE_CUH_
