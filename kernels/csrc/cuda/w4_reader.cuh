// The weights' way into shared memory: each warp copies its own rows of tiles, chunk by chunk.
#ifndef EDGEBENCH_CUDA_W4_READER_CUH_
#define EDGEBENCH_CUDA_W4_READER_CUH_

#include "w4_tile.cuh"

// kFirstWarp: of the warps that copy.
template <int kGroup, int kTiles, int kFirstWarp>
struct WeightReader {
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kWarpBytes = kTiles * kTileBytes;  // of a stage

  const u8* w;
  u32 at;      // the lane's place in the warp's first row of tiles, in 16 bytes: a register less
  int stride;  // bytes of a row of tiles
  int rows;    // rows of tiles that exist, from the warp's first

  // Chunk `chunk` to the stage's weights (of all warps), if `go`.
  EB_DEVICE void copy(u8* weights, int chunk, bool go) const {
    const u8* const from = w + (u64)(at + chunk * (kTileBytes / 16)) * 16;
    u8* const to = weights + (warp_id() - kFirstWarp) * kWarpBytes + 16 * lane_id();
    const int bytes_left = stride - chunk * kTileBytes;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      copy_chunk<kGroup>(to + tile * kTileBytes, from + tile * stride, bytes_left,
                         go && tile < rows);
    }
  }
};

// `first`: the warp's first row of tiles.
template <int kGroup, int kTiles, int kFirstWarp = 0>
EB_DEVICE WeightReader<kGroup, kTiles, kFirstWarp> weight_reader(const u8* w, int n, int k,
                                                                 int first) {
  const int tiles = (k + t16x64::kInputs - 1) / t16x64::kInputs, stride = row_bytes<kGroup>(tiles);
  return {w, (u32)first * (stride / 16) + lane_id(), stride,
          (n + t16x64::kRows - 1) / t16x64::kRows - first};
}

#endif  // EDGEBENCH_CUDA_W4_READER_CUH_
