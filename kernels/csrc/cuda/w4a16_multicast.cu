// w4a16 for many tokens on Hopper, whose blocks give each other their tokens (sm_90a).
//
// Formula: w4a16_wgmma.cu.
//
// Arguments: as w4a16_wgmma.cu, but for
//   x         tensor map of fp16 [m, k]: tiles of EB_TOKENS / EB_SHARERS tokens x 64 inputs,
//             128-byte swizzle, zeros outside
//   k         s32                   whose padded inputs are a multiple of 128
// Macros: EB_GROUP 32 64 128, EB_TOKENS 64 128 (of a block), EB_TILES (rows of tiles of a warp),
//   EB_WARPS (that multiply, a multiple of 4; EB_TILES EB_WARPS <= 32), EB_SHARERS 2 4 (blocks of a
//   cluster, with the same tokens and other rows), EB_BATCH, EB_BATCHES (w4a16_wgmma.cu), EB_STAGES
//   >= 3, EB_EPILOGUE (epilogue.cuh).
// Launch: grid (ceil(m / EB_TOKENS), ceil(rows of blocks / EB_SHARERS), EB_SHARERS), clusters of
//   (1, 1, EB_SHARERS) blocks, 32 (EB_WARPS + 4) threads, shared bytes as multicast_geometry.py's
//   w4a16_multicast(). A block has 16 EB_TILES EB_WARPS rows.
//
// Picture: of EB_SHARERS blocks each reads its own weights, and its share of the tokens for all:
//
//     block 0: | tokens 0 .. T/2 | tokens T/2 .. T | weights of its rows |      for 2 sharers and
//     block 1: | tokens 0 .. T/2 | tokens T/2 .. T | weights of its rows |      T tokens
//                block 0 reads       block 1 reads
//
//   One warp of a block asks for copies, and never touches a byte; three more are there because
//   registers are handed over by whole warp groups:
//
//     producer: the slot is empty in all blocks? -> expect bytes; copy weights; copy tokens
//     others:   slot full? -> products; those of the chunk before are done -> its slot is empty, in
//               all blocks
//
// Roofline: as w4a16_wgmma.cu; the L2 gives a block (2 EB_TOKENS / EB_SHARERS + 0.52 rows) / (rows
//   EB_TOKENS / 2048) bytes a cycle: 16 for 256 rows x 128 tokens and 2 sharers, where it is 24
//   without. Of larger blocks, at 36 and 40, w4a16_wgmma got 4.2 to 4.5 TB/s out of an H200's L2,
//   whatever its warps did; nothing issues a copy but one warp. Time: not measured on any GPU yet.
//
// Idea: the L2's way to the multiprocessors bounds large products, and half of it is the same
//   tokens twice.
// Sources: own; multicast between the blocks of a cluster as in CUTLASS 3 (NVIDIA, 2023).
#include "cluster_sums.cuh"
#include "prim_bulk.cuh"
#include "w4a16_products.cuh"

constexpr int kProducers = 4;  // warps, of which one works

template <class S, int kSharers>
struct Sharing {
  static constexpr int kShare = S::kTokens / kSharers;  // tokens that a block reads
  static constexpr int kShareBytes = 128 * kShare;      // of 64 inputs
  static constexpr int kTokenBytes = 2 * S::kHalfBytes;
  static constexpr u16 kAll = (1 << kSharers) - 1;
  static_assert(S::kWarps * S::kTiles <= 32, "a lane of the producer for each row of tiles");
  static_assert(kShareBytes % 1024 == 0, "whole rounds of the swizzle");
};

// What a block's producer reads.
template <class S, int kSharers>
struct Producer {
  using Share = Sharing<S, kSharers>;

  const TensorMap& x;
  const u8* weights;  // of the lane's row of tiles
  u8* memory;
  Slots slots;
  int rows;  // of tiles that exist
  int first_token;

  EB_DEVICE void copy_weights(int chunk, int slot) const {
    u8* const stage = memory + slot * S::kStageBytes;
    if (lane_id() == 0)
      arrive_expecting(slots.full + slot, Share::kTokenBytes + rows * S::kTileBytes);
    if (lane_id() < rows)
      copy_bulk(stage + S::kWeightsAt + lane_id() * S::kTileBytes,
                weights + (s64)chunk * S::kTileBytes, S::kTileBytes, slots.full + slot);
  }

  // This block's share of the tokens, to all blocks.
  EB_DEVICE void copy_tokens(int chunk, int slot) const {
    if (lane_id() >= 2) return;
    const int rank = cluster_rank(), half = lane_id();
    u8* const to =
        memory + slot * S::kStageBytes + half * S::kHalfBytes + rank * Share::kShareBytes;
    copy_tile(to, x, chunk * t16x64::kChunkInputs + 64 * half, first_token + rank * Share::kShare,
              slots.full + slot, Share::kAll);
  }

  EB_DEVICE void run(int chunks) const {
    // Weights do not depend on the kernel before, activations do.
    const int first = chunks < S::kStages ? chunks : S::kStages;
    for (int chunk = 0; chunk < first; ++chunk) copy_weights(chunk, chunk);
    grid_dependency_wait();
    for (int chunk = 0; chunk < first; ++chunk) copy_tokens(chunk, chunk);
    int slot = 0;
    u32 parity = 0;
#pragma unroll 1
    for (int chunk = S::kStages; chunk < chunks; ++chunk) {
      wait_siblings(slots.empty + slot, parity);
      copy_weights(chunk, slot);
      copy_tokens(chunk, slot);
      slot = slot == S::kStages - 1 ? 0 : slot + 1;
      parity ^= slot == 0;
    }
  }
};

template <class S, int kSharers>
EB_DEVICE Producer<S, kSharers> producer_of(const TensorMap& x, const u8* w, const Output& out,
                                            int k, int first_tile, u8* memory, Slots slots) {
  constexpr int kMost = S::kWarps * S::kTiles;
  const int tiles = (k + t16x64::kInputs - 1) / t16x64::kInputs;
  const int left = (out.n + t16x64::kRows - 1) / t16x64::kRows - first_tile;
  const int rows = left < 0 ? 0 : left < kMost ? left : kMost;
  const u8* const weights = w + (s64)(first_tile + lane_id()) * row_bytes<S::kGroup>(tiles);
  return {x, weights, memory, slots, rows, block_x() * S::kTokens};
}

template <class S, int kSharers, int kFlags>
EB_DEVICE void gemm(const TensorMap& x, const u8* w, const Output& out, int k) {
  EB_SHARED(memory);
  grid_dependency_launch();  // the kernel behind waits for this one's end by itself
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  const int first_tile = (block_y() * kSharers + cluster_rank()) * S::kWarps * S::kTiles;
  const Slots slots = slots_of<S>(memory);
  if (thread_id() < S::kStages) {
    arrivals_init(slots.full + thread_id(), 1);
    arrivals_init(slots.empty + thread_id(), S::kWarps * kSharers);
    arrivals_fence();
  }
  cluster_barrier();
  if (warp_id() >= S::kWarps) {
    if constexpr (S::kMovesRegisters) registers_down<56>();
    if (warp_id() == S::kWarps)
      producer_of<S, kSharers>(x, w, out, k, first_tile, memory, slots).run(chunks);
  } else {
    if constexpr (S::kMovesRegisters) registers_up<224>();
    float sums[S::kTiles][S::kEights][4] = {};
    consume<S>(chunks, memory, slots, sums, [&](int slot) {
      if (lane_id() < kSharers) arrive_at(slots.empty + slot, lane_id());
    });
    store_block<kFlags, S::kWarps, true>(out, memory, sums, block_x() * S::kTokens,
                                         first_tile * t16x64::kRows);
  }
  cluster_barrier_relaxed();  // no block ends before all have arrived at it
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * (EB_WARPS + kProducers), 1)
w4a16_multicast(EB_TENSOR_MAP x, const u8* __restrict__ w, const u16* __restrict__ bias,
                const u16* residual, void* y, int m, int n, int k) {
  const Output out{y, bias, residual, m, n};
  gemm<Shape<EB_GROUP, EB_TOKENS, EB_TILES, EB_WARPS, kProducers, EB_BATCH, EB_BATCHES, EB_STAGES>,
       EB_SHARERS, EB_EPILOGUE>(x, w, out, k);
}
