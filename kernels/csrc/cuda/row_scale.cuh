// Integers summed over all of K become sums, where a row of weights has one scale, and a token too.
//
//     sums = (float)integer * sx[token] * s[row]       an integer is below 2^31: K < 1.1 million
//
// A group that spans K is repeated in layout T16x64: the scale of a row is that of its first group.
#ifndef EDGEBENCH_CUDA_ROW_SCALE_CUH_
#define EDGEBENCH_CUDA_ROW_SCALE_CUH_

#include "w4_tile.cuh"

// What the integers of a warp are scaled with; `tile`, `token`: its first.
struct Scales {
  const u8* w;
  const float* sx;
  int m, n, k, tile, token;
};

// integers[tile][eight], sums: fragments (prim_warp.cuh) of 16 rows and 8 tokens.
template <int kGroup, int kTiles, int kEights>
EB_DEVICE void scale_integers(const s32 (&integers)[kTiles][kEights][4], const Scales& of,
                              float (&sums)[kTiles][kEights][4]) {
  const int tiles = (of.k + t16x64::kInputs - 1) / t16x64::kInputs;
  float scale[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const u8* const first = of.w + (s64)(of.tile + tile) * row_bytes<kGroup>(tiles);
    const bool is_there = (of.tile + tile) * t16x64::kRows < of.n;
    const u32 pair = is_there ? load_word(first + group_at<kGroup>(0) + 4 * (lane_id() / 4)) : 0;
    scale[tile][0] = low_half(pair);
    scale[tile][1] = high_half(pair);
  }
#pragma unroll
  for (int i = 0; i < kEights * 2; ++i) {
    const int eight = i / 2, token = of.token + 8 * eight + lane_id() % 4 * 2 + i % 2;
    const float of_token = token < of.m ? load_float_fresh(of.sx + token) : 0.0f;
#pragma unroll
    for (int c = i % 2; c < kTiles * 4; c += 2) {
      const float exact = (float)integers[c / 4][eight][c % 4];
      sums[c / 4][eight][c % 4] = exact * of_token * scale[c / 4][c % 4 / 2];
    }
  }
}

#endif  // EDGEBENCH_CUDA_ROW_SCALE_CUH_
