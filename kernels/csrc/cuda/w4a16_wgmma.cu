// w4a16 for many tokens on Hopper: INT4 weights, fp16 activations, warp groups' products (sm_90a).
//
// Formula: w4a16_gemv.cu; weights s (c - z) are rounded to fp16 before they are multiplied, as if
//   the matrix had been dequantized.
//
// Arguments: as in w4a16_gemm.cu, but for workspace and counters.
// Macros: EB_GROUP 32 64 128, EB_TOKENS 16 32 64 128 256 (of a block), EB_TILES (rows of tiles of a
//   warp), EB_WARPS (that multiply, a multiple of 4), EB_PRODUCERS (warps that copy and do nothing
//   else; 0: all copy and multiply), EB_BATCH (products that are issued together), EB_BATCHES >= 2
//   (that are under way at most; EB_BATCH EB_BATCHES divides 8 EB_TILES), EB_STAGES >= 3,
//   EB_EPILOGUE (epilogue.cuh). A thread holds EB_TILES EB_TOKENS / 2 sums: at most 128.
// Launch: grid (ceil(m / EB_TOKENS), ceil(n / 16 EB_TILES EB_WARPS), parts of K: 1, 2, 4 or 8),
//   clusters of (1, 1, parts) blocks, 32 (EB_WARPS + EB_PRODUCERS) threads, shared bytes as
//   large_geometry.py's w4a16_wgmma(). Neighbouring blocks share weights: DRAM reads them once.
//
// Picture: a word of layout T16x64 is wgmma's A operand in registers, 16 rows x 16 inputs of each
//   warp; its B operand, the tokens, is read from shared memory by the tensor cores.
//
//     block:    EB_TOKENS tokens x 16 EB_TILES EB_WARPS rows
//     product:  m64 n EB_TOKENS k16: a tile of each of 4 warps x all tokens, one word
//     EB_BATCHES batches of a warp group are under way at most, while the next one is decoded
//     stage:    128 inputs: | tokens x 64 halfs | tokens x 64 halfs | rows of tiles x chunk |
//
//   Without producers chunk c's copies are asked for while chunk c - EB_STAGES + 2 is multiplied,
//   into the slot of the chunk before that: it is done with, as every warp waits for all batches
//   but its last ones. With producers:
//
//     producer: slot empty? -> copy chunk c; chunk c - EB_STAGES + 2 is there -> slot full
//     others:   slot full? -> products; those of the chunk before are done -> its slot empty
//
//   so that nobody who multiplies waits for a barrier of the block, or for his turn to copy.
//
// Roofline: 64 x 16 x EB_TOKENS products take EB_TOKENS / 2 cycles of a multiprocessor's tensor
//   cores (64 at 128 tokens); its four schedulers issue 24 instructions a word meanwhile (sm_90a,
//   G = 128, 256 rows x 128 tokens), all included. The L2 gives a block (2 EB_TOKENS + 0.52 rows) /
//   (rows EB_TOKENS / 2048) bytes a cycle: 24 for 256 rows x 128 tokens, 36 for 128 x 256: so tall
//   blocks. H200: README.md.
//
// Idea: decoded weights never see shared memory; packing has put them where products want them. Two
//   warp groups take turns on the tensor cores by themselves: one decodes while the other's run.
//   Batches of one product, issued as soon as its word is decoded, keep few tokens going; larger
//   ones need fewer fences. Four producers of eight warps hand registers over, for 128 sums a
//   thread. Parts of K are added through the shared memory of a cluster (cluster_sums.cuh).
//   Raced on an H200 (README.md): at 128 tokens two batches of four are 4 to 11 % faster than four
//   of one; at 64 tokens four of one are the fastest, but for gate_up, where producers gain 5 %.
// Lost: producers elsewhere, by 4 to 15 %, though all warps copy at once without them; 256 tokens,
//   by 10 %; 16 tokens, 2 % ahead of the GEMV in the sum of four linears, which takes norms in and
//   saves more; parts of K added through global memory, in a tree: 2 us and more a level (H200).
// Sources: own; weights as the A operand from registers, as in Machete (vLLM, 2024).
#include "cluster_sums.cuh"
#include "w4_reader.cuh"
#include "w4a16_products.cuh"

// Where the block's copies of activations read.
template <class S>
struct HalfReader {
  static constexpr u32 kUnits = 2 * t16x64::kChunkInputs / 16;  // of a row of x
  static constexpr u32 kRowsAtOnce = 32 * S::kCopiers / kUnits;
  static_assert((kRowsAtOnce & (kRowsAtOnce - 1)) == 0, "rows of a turn: bits of their own");
  static_assert(S::kTokens % kRowsAtOnce == 0, "whole turns");

  const u16* x;
  u32 at;      // the thread's place in its first token's row, in 16 bytes
  int tokens;  // that exist, from the thread's first
  int k;

  static EB_DEVICE u32 copier() { return thread_id() - 32 * S::kFirstCopier; }

  // Chunk `chunk` to a stage, if `go`.
  EB_DEVICE void copy(u8* stage, int chunk, bool go) const {
    const u32 row = copier() / kUnits, unit = copier() % kUnits;
    const bool take = (int)(chunk * kUnits + unit) * 8 < k;
    const int count = go ? tokens : 0;
    u8* const to = stage + unit / 8 * S::kHalfBytes + row * 128;
    const u16* from = x + (u64)(at + chunk * kUnits) * 8;
#pragma unroll
    for (int i = 0; i < S::kTokens; i += kRowsAtOnce) {
      copy_async(to + i * 128 + ((unit ^ row ^ i % 8) % 8) * 16, from, take, i < count);
      from += kRowsAtOnce * k;
    }
    copy_commit();
  }
};

template <class S>
EB_DEVICE HalfReader<S> half_reader(const u16* x, int m, int k) {
  using R = HalfReader<S>;
  const u32 row = R::copier() / R::kUnits;
  const int token = block_x() * S::kTokens + row;
  return {x, (u32)token * (k / 8) + R::copier() % R::kUnits, m - token, k};
}

// What a block works on: chunks begin .. end - 1 of its rows of tiles.
struct Work {
  const u16* x;
  const u8* w;
  int k, begin, end, first_tile;
};

// The sums of a block whose warps all copy and multiply.
template <class S>
EB_DEVICE void sum_together(const Work& work, const Output& out, u8* memory,
                            float (&sums)[S::kTiles][S::kEights][4]) {
  const int begin = work.begin, end = work.end;
  const auto weights = weight_reader<S::kGroup, S::kTiles>(work.w, out.n, work.k,
                                                           work.first_tile + warp_id() * S::kTiles);
  const auto halfs = half_reader<S>(work.x, out.m, work.k);

  // Weights do not depend on the kernel before, activations do.
#pragma unroll
  for (int i = 0; i < S::kAhead; ++i)
    weights.copy(memory + i * S::kStageBytes + S::kWeightsAt, begin + i, begin + i < end);
  grid_dependency_wait();
#pragma unroll
  for (int i = 0; i < S::kAhead; ++i)
    halfs.copy(memory + i * S::kStageBytes, begin + i, begin + i < end);
  Fragments<S> fragments;
  int slot = 0, next = S::kAhead;
  for (int chunk = begin; chunk < end; ++chunk) {
    copy_wait<S::kAhead - 1>();
    async_fence();
    barrier();
    multiply<S>(memory + slot * S::kStageBytes, fragments, sums, [&] {
      const int later = chunk + S::kAhead;
      weights.copy(memory + next * S::kStageBytes + S::kWeightsAt, later, later < end);
      halfs.copy(memory + next * S::kStageBytes, later, later < end);
    });
    slot = slot == S::kStages - 1 ? 0 : slot + 1;
    next = next == S::kStages - 1 ? 0 : next + 1;
  }
  end_products<S>(sums);
}

// A producer's part: chunk i's copies, as soon as the slot is free, then word of chunk i - kAhead.
template <class S>
EB_DEVICE void produce(const Work& work, const Output& out, u8* memory, Slots slots) {
  const int begin = work.begin, count = work.end - begin;
  const auto weights = weight_reader<S::kGroup, S::kCopierTiles, S::kFirstCopier>(
      work.w, out.n, work.k, work.first_tile + (warp_id() - S::kFirstCopier) * S::kCopierTiles);
  const auto halfs = half_reader<S>(work.x, out.m, work.k);
#pragma unroll 1
  for (int i = 0; i < S::kStages; ++i)
    weights.copy(memory + i * S::kStageBytes + S::kWeightsAt, begin + i, i < count);
  grid_dependency_wait();
  int slot = 0, landed = 0;
  u32 parity = 1;  // of the round before
#pragma unroll 1
  for (int i = 0; i < count + S::kAhead; ++i) {
    if (i >= S::kStages && i < count) {
      wait_arrivals(slots.empty + slot, parity);
      weights.copy(memory + slot * S::kStageBytes + S::kWeightsAt, begin + i, true);
    }
    halfs.copy(memory + slot * S::kStageBytes, begin + i, i < count);
    slot = slot == S::kStages - 1 ? 0 : slot + 1;
    parity ^= slot == 0;
    if (i < S::kAhead) continue;
    copy_wait<S::kAhead>();
    async_fence();
    warp_barrier();
    if (lane_id() == 0) arrive(slots.full + landed);
    landed = landed == S::kStages - 1 ? 0 : landed + 1;
  }
}

template <class S, int kFlags>
EB_DEVICE void gemm(const u16* x, const u8* w, const Output& out, int k) {
  EB_SHARED(memory);
  grid_dependency_launch();  // the kernel behind waits for this one's end by itself
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  const int begin = chunks * block_z() / blocks_z(), end = chunks * (block_z() + 1) / blocks_z();
  const Work work{x, w, k, begin, end, block_y() * S::kWarps * S::kTiles};
  float sums[S::kTiles][S::kEights][4] = {};
  if constexpr (S::kProducers == 0) {
    sum_together<S>(work, out, memory, sums);
  } else {
    const Slots slots = slots_of<S>(memory);
    if (thread_id() < S::kStages) {
      arrivals_init(slots.full + thread_id(), S::kProducers);
      arrivals_init(slots.empty + thread_id(), S::kWarps);
    }
    barrier();
    if (warp_id() >= S::kWarps) {
      if constexpr (S::kMovesRegisters) registers_down<56>();
      produce<S>(work, out, memory, slots);
      return;
    }
    if constexpr (S::kMovesRegisters) registers_up<224>();
    consume<S>(end - begin, memory, slots, sums, [&](int slot) {
      if (lane_id() == 0) arrive(slots.empty + slot);
    });
  }
  store_cluster<kFlags, S::kWarps, (S::kProducers > 0)>(out, memory, sums, block_x() * S::kTokens,
                                                        work.first_tile * t16x64::kRows);
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * (EB_WARPS + EB_PRODUCERS), 1)
w4a16_wgmma(const u16* __restrict__ x, const u8* __restrict__ w, const u16* __restrict__ bias,
            const u16* residual, void* y, int m, int n, int k) {
  const Output out{y, bias, residual, m, n};
  gemm<
      Shape<EB_GROUP, EB_TOKENS, EB_TILES, EB_WARPS, EB_PRODUCERS, EB_BATCH, EB_BATCHES, EB_STAGES>,
      EB_EPILOGUE>(x, w, out, k);
}
