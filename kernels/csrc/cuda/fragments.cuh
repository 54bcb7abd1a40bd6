// C fragments of a block become outputs: through shared memory, so that rows are written whole.
#ifndef EDGEBENCH_CUDA_FRAGMENTS_CUH_
#define EDGEBENCH_CUDA_FRAGMENTS_CUH_

#include "epilogue.cuh"

// All threads of the block, whose warps are kTokenWarps wide along tokens: warp w has packed rows
// 16 kTiles (w / kTokenWarps) .. and tokens 8 kEights (w % kTokenWarps) .. of the block's;
// sums[tile][eight] is the fragment (prim_warp.cuh) of 16 of these rows and 8 of these tokens.
// `memory`: 64 kTokenWarps (rows of the block + 4) bytes.
template <int kFlags, int kTokenWarps, int kTiles, int kEights>
EB_DEVICE void store_fragments(const Output& out, u8* memory,
                               const float (&sums)[kTiles][kEights][4], int first_token,
                               int first_row) {
  constexpr int kSlab = 16;  // tokens of each warp that go at a time
  const int columns = threads() / 32 / kTokenWarps * 16 * kTiles, stride = columns + 4;
  const int g = lane_id() / 4, q = lane_id() % 4;
  const int column = warp_id() / kTokenWarps * 16 * kTiles + g;
  float* const slab = (float*)memory;
  float* const mine = slab + (warp_id() % kTokenWarps * kSlab + 2 * q) * stride + column;
#pragma unroll
  for (int first = 0; first < kEights; first += kSlab / 8) {
    barrier();
#pragma unroll
    for (int i = 0; i < kSlab / 8 * kTiles * 4; ++i) {
      const int eight = i / (4 * kTiles), tile = i / 4 % kTiles, c = i % 4;
      mine[(8 * eight + c % 2) * stride + 16 * tile + c / 2 * 8] = sums[tile][first + eight][c];
    }
    barrier();
#pragma unroll
    for (int i = 0; i < kTokenWarps; ++i) {
      store_sums<kFlags>(out, slab + i * kSlab * stride, stride, kSlab, columns,
                         first_token + 8 * (i * kEights + first), first_row);
    }
  }
}

#endif  // EDGEBENCH_CUDA_FRAGMENTS_CUH_
