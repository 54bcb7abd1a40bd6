// One warp's share of attention: 16 columns of the cache against up to 8 queries, online softmax.
//
// Keys are the A operand and queries the B operand of mma.m16n8k16, so that the few queries that
// share a key head fill the narrow side:
//
//     S[16 columns x 8 queries]  = K[16 columns x kHead] Q'[kHead x 8 queries]
//     O[kHead x 8 queries]      += V'[kHead x 16 columns] P[16 columns x 8 queries]
//
// With g = lane / 4, q = lane % 4: s[0], s[1] = (column g, queries 2q, 2q+1), s[2], s[3] = (column
// g + 8, ..). P needs columns where S has queries: one movmatrix for each eight columns.
//
// s8 cells are widened on their way from shared memory: ldmatrix moves pairs of bytes, so a lane
// gets four bytes c0 .. c3 that become the two halfs pairs (c0, c2) and (c1, c3), exactly. What
// that does to the order:
//
//     keys    c0 .. c3 = elements 4q .. 4q+3 of a column: k slots (2q, 2q+1) are elements (4q,
//     4q+2)
//             and slots (2q+8, 2q+9) elements (4q+1, 4q+3); queries are put in the same order
//     values  (transposed) c0, c1 = elements 2g, 2g+1 of column 2q; c2, c3 of column 2q+1: row g of
//             the A operand is element 2g and row g + 8 is element 2g + 1 of the sixteen
//
// Scales of keys go on the scores. Those of values go on the weights, times 127, which is the
// column's peak: so a weight is as large in fp16 as an fp16 value would have been.
#ifndef EDGEBENCH_CUDA_ATTENTION_TILE_CUH_
#define EDGEBENCH_CUDA_ATTENTION_TILE_CUH_

#include "kv_cache.cuh"

constexpr int kColumns = 16;  // of a tile
constexpr int kQueries = 8;   // that share a block's keys and values
constexpr float kLog2E = 1.4426950408889634f;
constexpr u32 kMinusInfinityBits = 0xff800000u;

// Shared memory of a tile: keys, values, and with s8 cells 16 scales of each. 16 bytes more a
// column, so that 8 columns lie in different banks.
template <int kHead, bool kBytes>
struct Tile {
  static constexpr int kRowBytes = Cells<kHead, kBytes>::kRowBytes;
  static constexpr int kStride = kRowBytes + 16;
  static constexpr int kValuesAt = kColumns * kStride;
  static constexpr int kScalesAt = 2 * kValuesAt;
  static constexpr int kSize = kScalesAt + (kBytes ? 2 * kColumns * 4 : 0);
};

// Four bytes to halfs: (c0, c2) and (c1, c3). 1024 + (c + 128) is 0x6400 | (c ^ 0x80).
EB_DEVICE void widen_bytes(u32 word, u32* even, u32* odd) {
  const u32 flipped = word ^ 0x80808080u, offset = 0x64806480u;  // 1152
  *even = half2_sub(lop3<kAndOr>(flipped, 0x00ff00ffu, 0x64006400u), offset);
  *odd = half2_sub(permute_bytes(flipped, 0x64646464u, 0x4341), offset);
}

// A fragment of step `step` (16 elements) of a tile's keys.
template <int kHead, bool kBytes>
EB_DEVICE void load_keys(const u8* tile, int step, u32* a) {
  const u8* const row = tile + lane_id() % 16 * Tile<kHead, kBytes>::kStride;
  if constexpr (kBytes) {
    u32 words[2];
    load_matrix_x2(words, row + 16 * step);
    widen_bytes(words[0], a, a + 2);
    widen_bytes(words[1], a + 1, a + 3);
  } else {
    load_matrix_x4(a, row + 32 * step + lane_id() / 16 * 16);
  }
}

// A fragment of elements 16 step .. of a tile's values, transposed.
template <int kHead, bool kBytes>
EB_DEVICE void load_values(const u8* tile, int step, u32* a) {
  using T = Tile<kHead, kBytes>;
  const int lane = lane_id();
  if constexpr (kBytes) {
    u32 words[2];
    load_matrix_x2_transposed(words, tile + T::kValuesAt + lane % 16 * T::kStride + 16 * step);
    widen_bytes(words[0], a, a + 1);
    widen_bytes(words[1], a + 2, a + 3);
  } else {
    const int row = lane / 16 * 8 + lane % 8;
    load_matrix_x4_transposed(
        a, tile + T::kValuesAt + row * T::kStride + 32 * step + lane / 8 % 2 * 16);
  }
}

// Queries as B fragments, from fp16 rows in shared memory.
template <int kHead, bool kBytes>
EB_DEVICE void load_queries(const u8* rows, int stride, u32* fragments) {
  const u8* const row = rows + lane_id() / 4 * stride;
  const int q = lane_id() % 4;
#pragma unroll
  for (int step = 0; step < kHead / 16; ++step) {
    if constexpr (kBytes) {
      const u32* const words = (const u32*)(row + 32 * step + 8 * q);
      fragments[2 * step] = permute_bytes(words[0], words[1], 0x5410);
      fragments[2 * step + 1] = permute_bytes(words[0], words[1], 0x7632);
    } else {
      fragments[2 * step] = *(const u32*)(row + 32 * step + 4 * q);
      fragments[2 * step + 1] = *(const u32*)(row + 32 * step + 16 + 4 * q);
    }
  }
}

// What a lane knows of queries 2q and 2q + 1 so far; peaks are scores times log2(e).
template <int kHead, bool kBytes>
struct Attention {
  using T = Tile<kHead, kBytes>;
  static constexpr int kSteps = kHead / 16;

  u32 queries[2 * kSteps];
  float peak[2], sum[2];
  float out[kSteps][4];

  EB_DEVICE void begin() {
    peak[0] = peak[1] = bits_float(kMinusInfinityBits);
    sum[0] = sum[1] = 0;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0;
  }

  // Takes in a tile of which the first `count` columns exist. `scale`: of scores, with log2(e).
  EB_DEVICE void take(const u8* tile, int count, float scale) {
    float s[4];
    score(tile, s);
    const float* const scales = (const float*)(tile + T::kScalesAt);
    const int g = lane_id() / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[i] *= kBytes ? scale * scales[g + i / 2 * 8] : scale;
      if (g + i / 2 * 8 >= count) s[i] = bits_float(kMinusInfinityBits);
    }
    raise_peaks(s);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[i] = exp2_fast(s[i] - peak[i % 2]);
      sum[i % 2] += s[i];
      if (kBytes) s[i] *= kCellLevels * scales[kColumns + g + i / 2 * 8];
    }
    const u32 low = transpose_matrix(floats_to_half2(s[0], s[1]));
    const u32 high = transpose_matrix(floats_to_half2(s[2], s[3]));
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      u32 a[4];
      load_values<kHead, kBytes>(tile, step, a);
      mma_f16(out[step], a, low, high);
    }
  }

  // s = the tile's scores; two chains, as each product waits for the one before it in its chain.
  EB_DEVICE void score(const u8* tile, float* s) const {
    float chains[2][4] = {};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      u32 a[4];
      load_keys<kHead, kBytes>(tile, step, a);
      mma_f16(chains[step % 2], a, queries[2 * step], queries[2 * step + 1]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] = chains[0][i] + chains[1][i];
  }

  // Peaks over what was and what comes; what was is rescaled where one has risen.
  EB_DEVICE void raise_peaks(const float* s) {
    float risen[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      risen[i] = larger(peak[i], larger(s[i], s[i + 2]));
#pragma unroll
      for (int mask = 4; mask <= 16; mask *= 2)
        risen[i] = larger(risen[i], shuffle_xor(risen[i], mask));
    }
    if (ballot(risen[0] > peak[0] || risen[1] > peak[1]) == 0) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float factor = risen[i] > peak[i] ? exp2_fast(peak[i] - risen[i]) : 1.0f;
      peak[i] = risen[i];
      sum[i] *= factor;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        out[step][i] *= factor;
        out[step][i + 2] *= factor;
      }
    }
  }

  // Rows of kHead + 4 floats for each query: outputs (not divided by the sum), peak, sum, -, -.
  EB_DEVICE void share(float* rows) {
    const int g = lane_id() / 4, q = lane_id() % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int mask = 4; mask <= 16; mask *= 2) sum[i] += shuffle_xor(sum[i], mask);
      float* const row = rows + (2 * q + i) * (kHead + 4);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        row[16 * step + (kBytes ? 2 * g : g)] = out[step][i];
        row[16 * step + (kBytes ? 2 * g + 1 : g + 8)] = out[step][i + 2];
      }
      if (g == 0) {
        row[kHead] = peak[i];
        row[kHead + 1] = sum[i];
      }
    }
  }
};

#endif  // EDGEBENCH_CUDA_ATTENTION_TILE_CUH_
