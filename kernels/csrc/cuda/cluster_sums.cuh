// Outputs of the blocks of a cluster (1, 2, 4 or 8), each of which has summed its part of K.
//
//     1. a block lays its sums into its own shared memory, a token a row
//     2. block r of b takes the tokens r, r + b, r + 2 b, ..: it reads what every block has of
//     them,
//        adds in the order of the ranks, the same bits in every run, and stores
//     3. no block ends before all have read
//
//     memory: fp32 [tokens][packed rows of the block + 4]
//
// A block alone needs neither siblings nor barriers of a cluster.
#ifndef EDGEBENCH_CUDA_CLUSTER_SUMS_CUH_
#define EDGEBENCH_CUDA_CLUSTER_SUMS_CUH_

#include "epilogue.cuh"
#include "prim_cluster.cuh"

template <int kWarpCount, int kTiles, int kEights>
struct SumsOf {
  static constexpr int kThreads = 32 * kWarpCount;
  static constexpr int kTokens = 8 * kEights;
  static constexpr int kRows = 16 * kTiles * kWarpCount;  // packed, of the block
  static constexpr int kStride = kRows + 4;
};

template <class S, bool kHasOthers>
EB_DEVICE void block_barrier() {
  if constexpr (kHasOthers) {
    barrier_named(1, S::kThreads);
  } else {
    barrier();
  }
}

// sums[tile][eight]: the fragment (prim_warp.cuh) of 16 rows of the warp and 8 tokens.
template <class S, int kTiles, int kEights>
EB_DEVICE void lay_down(const float (&sums)[kTiles][kEights][4], u8* memory) {
  const int column = warp_id() * 16 * kTiles + lane_id() / 4;
  float* const mine = (float*)memory + lane_id() % 4 * 2 * S::kStride + column;
#pragma unroll
  for (int i = 0; i < kEights * kTiles * 4; ++i) {
    const int eight = i / (4 * kTiles), tile = i / 4 % kTiles, c = i % 4;
    mine[(8 * eight + c % 2) * S::kStride + 16 * tile + c / 2 * 8] = sums[tile][eight][c];
  }
}

// The same over stages, when all threads are done with them.
template <class S, bool kHasOthers, int kTiles, int kEights>
EB_DEVICE void lay_over(const float (&sums)[kTiles][kEights][4], u8* memory) {
  block_barrier<S, kHasOthers>();
  lay_down<S>(sums, memory);
}

// The outputs of this block of kBlocks: eight quads of sums are under way at a time.
template <class S, int kFlags, int kBlocks>
EB_DEVICE void store_share(const Output& out, const u8* memory, int first_token, int first_row) {
  using U = Unit<kFlags>;
  constexpr int kUnits = S::kRows / U::kColumns, kShare = S::kTokens / kBlocks * kUnits;
  constexpr int kQuads = kBlocks * U::kQuads, kMost = kQuads < 8 ? 8 / kQuads : 1;
  constexpr int kAtOnce = kShare % (kMost * S::kThreads) == 0 ? kMost : 1;  // whole turns
  const int rank = kBlocks == 1 ? 0 : cluster_rank();
#pragma unroll 1
  for (int i = thread_id(); i < kShare; i += kAtOnce * S::kThreads) {
    U units[kAtOnce];
    Quad parts[kAtOnce][U::kQuads][kBlocks];
#pragma unroll
    for (int at = 0; at < kAtOnce; ++at) {
      const int place = i + at * S::kThreads, unit = place % kUnits;
      const int token = place / kUnits * kBlocks + rank;
      units[at].place(out, first_token + token, first_row, unit);
      units[at].load_residual(out);
#pragma unroll
      for (int quad = 0; quad < U::kQuads; ++quad) {
        const u8* const from = memory + (token * S::kStride + U::column(unit, quad)) * 4;
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          parts[at][quad][block] =
              kBlocks == 1 ? *(const Quad*)from : load_sibling(sibling_address(from, block));
        }
      }
    }
#pragma unroll
    for (int at = 0; at < kAtOnce; ++at) {
#pragma unroll
      for (int quad = 0; quad < U::kQuads; ++quad) {
        float* const sums = units[at].sums[quad];
        widen_quad(parts[at][quad][0], sums);
#pragma unroll
        for (int block = 1; block < kBlocks; ++block) {
          float more[kUnit];
          widen_quad(parts[at][quad][block], more);
#pragma unroll
          for (int k = 0; k < kUnit; ++k) sums[k] += more[k];
        }
      }
      units[at].end(out);
    }
  }
}

// The first kWarps warps of a block that has summed over all of K; its other warps, if kHasOthers,
// have ended. `memory`: shared, which nothing else uses any more.
template <int kFlags, int kWarps, bool kHasOthers = false, int kTiles, int kEights>
EB_DEVICE void store_block(const Output& out, u8* memory, const float (&sums)[kTiles][kEights][4],
                           int first_token, int first_row) {
  using S = SumsOf<kWarps, kTiles, kEights>;
  lay_over<S, kHasOthers>(sums, memory);
  block_barrier<S, kHasOthers>();
  store_share<S, kFlags, 1>(out, memory, first_token, first_row);
}

// The first kWarps warps of each block of a cluster; its other warps, if kHasOthers, have ended.
// `memory`: shared, which nothing else uses any more.
template <int kFlags, int kWarps, bool kHasOthers = false, int kTiles, int kEights>
EB_DEVICE void store_cluster(const Output& out, u8* memory, const float (&sums)[kTiles][kEights][4],
                             int first_token, int first_row) {
  using S = SumsOf<kWarps, kTiles, kEights>;
  const int blocks = cluster_blocks();
  lay_over<S, kHasOthers>(sums, memory);
  if (blocks == 1) {
    block_barrier<S, kHasOthers>();
    store_share<S, kFlags, 1>(out, memory, first_token, first_row);
    return;
  }
  cluster_barrier();
  if (blocks == 2) {
    store_share<S, kFlags, 2>(out, memory, first_token, first_row);
  } else if (blocks == 4) {
    store_share<S, kFlags, 4>(out, memory, first_token, first_row);
  } else {
    store_share<S, kFlags, 8>(out, memory, first_token, first_row);
  }
  cluster_barrier_relaxed();
}

#endif  // EDGEBENCH_CUDA_CLUSTER_SUMS_CUH_
