// w4a8 for many tokens on Hopper: INT4 weights, int8 activations, warp groups' products (sm_90a).
//
// Formula, arguments: w4a8_gemm.cu, but for workspace and counters.
// Macros: EB_GROUP 32 64 128, EB_TOKEN_SCALE 0 1, EB_ROW_SCALE 0 1 (w4a8_gemm.cu), EB_TOKENS 64 128
//   (of a block), EB_TILES (rows of tiles of a warp), EB_WARPS (a multiple of 4), EB_STAGES >= 4,
//   EB_EPILOGUE (epilogue.cuh).
// Launch: grid (ceil(m / EB_TOKENS), ceil(n / 16 EB_TILES EB_WARPS), parts of K: 1, 2, 4 or 8),
//   clusters of (1, 1, parts) blocks, 32 EB_WARPS threads, shared bytes as large_geometry.py's
//   w4a8_wgmma().
//
// Picture: as w4a16_wgmma.cu, 32 inputs a product. A group of a tile of each warp is a job:
//
//     part = A B               EB_GROUP / 32 products, EB_TOKENS / 2 integers a thread
//     sums += s (sx part)      when they are done
//
//   Two warp groups take turns: one multiplies while the other one folds. A barrier would bring
//   them into step at every chunk, so arriving and waiting are two things (prim_wgmma.cuh):
//
//     at chunk c a warp   waits for its own copies of chunk c + 1, and arrives there
//                         waits for all arrivals at c: all have copied c, and are done with c - 2
//                         asks for chunk c + EB_STAGES - 2, into the slot of c - 2
//
//   With EB_ROW_SCALE nothing is folded: products add to the sums themselves, and those of a batch
//   are under way while the next one is decoded, so that a warp is done with a chunk, and arrives,
//   when the first batch of the next one is under way.
//
// Roofline: the tensor cores take 256 cycles for a job of 128 tokens and inputs; a scheduler issues
//   348 instructions meanwhile for each of two warp groups' (G = 128; 264 with EB_TOKEN_SCALE), so
//   issue bounds it at 74 % of the int8 peak (97 %). G = 32: 1020, 25 %. The L2 gives a block of
//   256 rows x 128 tokens 33 bytes a cycle at that peak. H200: README.md. With EB_ROW_SCALE
//   decoding is all that is left beside products, and the L2 bounds it; not timed yet.
//
// Idea: no decoded weight and no integer sum sees shared memory; tokens' scales are multiplied once
//   at the end where each token has one. Parts of K are added through the shared memory of a
//   cluster (cluster_sums.cuh).
// Sources: own.
#include "a8_reader.cuh"
#include "cluster_sums.cuh"
#include "prim_wgmma.cuh"
#include "row_scale.cuh"
#include "w4_bytes.cuh"
#include "w4_reader.cuh"

template <int kGroupInputs, bool kIsTokenScale, bool kIsRowScale, int kTokenCount, int kTileCount,
          int kWarpCount, int kStageCount>
struct Shape {
  static constexpr int kGroup = kGroupInputs;
  static constexpr bool kTokenScale = kIsTokenScale;
  static constexpr bool kRowScale = kIsRowScale;
  static constexpr int kTokens = kTokenCount;  // of a block
  static constexpr int kTiles = kTileCount;    // rows of tiles of a warp
  static constexpr int kWarps = kWarpCount;
  static constexpr int kStages = kStageCount;
  static constexpr int kAhead = kStages - 2;  // chunks that are asked for before they are needed

  static constexpr int kEights = kTokens / 8;
  static constexpr int kSteps = kGroup / 32;              // products of a job
  static constexpr int kBatch = kTiles % 2 == 0 ? 4 : 2;  // with kRowScale: issued together
  static constexpr int kBatches = 4 * kTiles / kBatch;    // of a chunk
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kGroups = t16x64::kChunkInputs / kGroup;
  static constexpr int kCodeBytes = kTokens * t16x64::kChunkInputs;
  static constexpr int kWeightBytes = kWarps * kTiles * kTileBytes;
  static constexpr int kScales = kRowScale ? 0 : kGroups * kTokens;  // of tokens
  static constexpr int kBytes = kCodeBytes + kWeightBytes + 4 * kScales;
  static constexpr int kStageBytes = (kBytes + 1023) / 1024 * 1024;
  static_assert(kWarps % 4 == 0 && kAhead >= 2, "whole warp groups; a chunk to arrive ahead");
  static_assert(kTokenScale || !kRowScale, "integers of all groups have one scale");
  static_assert(kBatches % 2 == 0, "a chunk begins with the same fragments");
};

// sums += s (sx part); `sx`: the lane's first token in the group's scales.
template <class S>
EB_DEVICE void fold(const s32 (&part)[S::kEights * 4], u32 scales, const float* sx,
                    float (&sums)[S::kEights][4]) {
  const float scale[2] = {low_half(scales), high_half(scales)};
#pragma unroll
  for (int eight = 0; eight < S::kEights; ++eight) {
    const u64 pair = S::kTokenScale ? 0 : *(const u64*)(sx + 8 * eight);
    const float of_token[2] = {bits_float((u32)pair), bits_float((u32)(pair >> 32))};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float exact = (float)part[4 * eight + i];
      const float value = S::kTokenScale ? exact : exact * of_token[i % 2];
      sums[eight][i] = multiply_add(value, scale[i / 2], sums[eight][i]);
    }
  }
}

// sums *= the tokens' scales.
template <class S>
EB_DEVICE void scale_tokens(const float* sx, int m, float (&sums)[S::kTiles][S::kEights][4]) {
#pragma unroll
  for (int i = 0; i < S::kEights * 2; ++i) {
    const int token = block_x() * S::kTokens + i / 2 * 8 + lane_id() % 4 * 2 + i % 2;
    const float of_token = token < m ? load_float_fresh(sx + token) : 0.0f;
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      sums[tile][i / 2][i % 2] *= of_token;
      sums[tile][i / 2][2 + i % 2] *= of_token;
    }
  }
}

// Where groups of a row have scales: the sums, and the integers of one job.
template <class S>
struct Scaled {
  float sums[S::kTiles][S::kEights][4];
  u32 a[S::kSteps][4];
  s32 part[S::kEights * 4];

  // `between` is called when the first products are under way, and none of an earlier chunk.
  template <class Between>
  EB_DEVICE void multiply(const u8* stage, const Between& between) {
    const u8* const weights = stage + S::kCodeBytes + warp_id() * S::kTiles * S::kTileBytes;
    const float* const sx =
        (const float*)(stage + S::kCodeBytes + S::kWeightBytes) + lane_id() % 4 * 2;
    const u64 rows = matrix_descriptor(stage);
#pragma unroll
    for (int job = 0; job < S::kGroups * S::kTiles; ++job) {
      const int group = job / S::kTiles, tile = job % S::kTiles;
      const u8* const at = weights + tile * S::kTileBytes;
      decode_group<S::kGroup>(at, group, a);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < S::kSteps; ++step)
        wgmma_s8<S::kTokens>(part, a[step], rows + (group * S::kSteps + step) * 2, step > 0);
      wgmma_commit();
      if (job == 0) between();
      const u32 scales = scales_at(at + group_at<S::kGroup>(group), lane_id() / 4);
      wgmma_wait<0>();
      settle<S::kEights * 4>(part);
      fold<S>(part, scales, sx + group * S::kTokens, sums[tile]);
    }
  }
};

// Where a row has one scale: integers of all of K. The last batch of a chunk is left under way.
template <class S>
struct Exact {
  s32 sums[S::kTiles][S::kEights][4];
  u32 a[2][S::kBatch][4];

  template <class Between>
  EB_DEVICE void multiply(const u8* stage, const Between& between) {
    const u8* const weights = stage + S::kCodeBytes + warp_id() * S::kTiles * S::kTileBytes;
    const u64 rows = matrix_descriptor(stage);
#pragma unroll
    for (int batch = 0; batch < S::kBatches; ++batch) {
      const int tile = batch % S::kTiles, first = batch / S::kTiles * S::kBatch;
      u32(&mine)[S::kBatch][4] = a[batch % 2];
      decode_steps<S::kGroup, S::kBatch>(weights + tile * S::kTileBytes, first, mine);
      wgmma_fence();
#pragma unroll
      for (int step = 0; step < S::kBatch; ++step)
        wgmma_s8<S::kTokens>(&sums[tile][0][0], mine[step], rows + (first + step) * 2, true);
      wgmma_commit();
      wgmma_wait<1>();
      if (batch == 0) between();
    }
  }
};

// This warp has what it copied of the chunk whose arrivals these are.
template <int kPending>
EB_DEVICE void arrive_copied(u64* arrivals) {
  copy_wait<kPending>();
  async_fence();
  warp_barrier();
  if (lane_id() == 0) arrive(arrivals);
}

// Stages, their arrivals, and the chunks that go through them.
struct Ring {
  u8* memory;
  u64* arrivals;
  int begin, end;
};

// All of them, while later ones are on their way.
template <class S, class Weights, class Codes, class Sums>
EB_DEVICE void multiply_all(const Ring& ring, const Weights& weights, const Codes& codes,
                            Sums& sums) {
  int slot = 0, ahead = S::kAhead;
  u32 parity = 0;
  for (int chunk = ring.begin; chunk < ring.end; ++chunk) {
    const int next = slot == S::kStages - 1 ? 0 : slot + 1, later = chunk + S::kAhead;
    if constexpr (!S::kRowScale) arrive_copied<S::kAhead - 2>(ring.arrivals + next);
    wait_arrivals(ring.arrivals + slot, parity);
    sums.multiply(ring.memory + slot * S::kStageBytes, [&] {
      if constexpr (S::kRowScale) arrive_copied<S::kAhead - 2>(ring.arrivals + next);
      u8* const to = ring.memory + ahead * S::kStageBytes;
      weights.copy(to + S::kCodeBytes, later, later < ring.end);
      codes.copy(to, later, later < ring.end);
    });
    parity ^= next == 0;
    slot = next;
    ahead = ahead == S::kStages - 1 ? 0 : ahead + 1;
  }
}

template <class S, int kFlags>
EB_DEVICE void gemm(const s8* q, const float* sx, const u8* w, const Output& out, int k) {
  EB_SHARED(memory);
  grid_dependency_launch();  // the kernel behind waits for this one's end by itself
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  const int begin = chunks * block_z() / blocks_z(), end = chunks * (block_z() + 1) / blocks_z();
  const int first_tile = block_y() * S::kWarps * S::kTiles;
  const auto weights =
      weight_reader<S::kGroup, S::kTiles>(w, out.n, k, first_tile + warp_id() * S::kTiles);
  const auto codes = code_reader<S>(q, sx, out.m, k);
  u64* const arrivals = (u64*)(memory + S::kStages * S::kStageBytes);  // of each slot
  if (thread_id() < S::kStages) arrivals_init(arrivals + thread_id(), S::kWarps);

  // Weights do not depend on the kernel before, codes do.
#pragma unroll
  for (int i = 0; i < S::kAhead; ++i)
    weights.copy(memory + i * S::kStageBytes + S::kCodeBytes, begin + i, begin + i < end);
  grid_dependency_wait();
#pragma unroll
  for (int i = 0; i < S::kAhead; ++i)
    codes.copy(memory + i * S::kStageBytes, begin + i, begin + i < end);
  barrier();
  arrive_copied<S::kAhead - 1>(arrivals);

  const Ring ring{memory, arrivals, begin, end};
  const int token = block_x() * S::kTokens, row = first_tile * t16x64::kRows;
  if constexpr (S::kRowScale) {
    Exact<S> exact = {};
    multiply_all<S>(ring, weights, codes, exact);
    wgmma_wait<0>();
    settle<S::kTiles * S::kEights * 4>(&exact.sums[0][0][0]);
    const int tile = first_tile + warp_id() * S::kTiles;
    float sums[S::kTiles][S::kEights][4];
    scale_integers<S::kGroup>(exact.sums, {w, sx, out.m, out.n, k, tile, token}, sums);
    store_cluster<kFlags, S::kWarps>(out, memory, sums, token, row);
  } else {
    Scaled<S> scaled = {};
    multiply_all<S>(ring, weights, codes, scaled);
    if (S::kTokenScale) scale_tokens<S>(sx, out.m, scaled.sums);
    store_cluster<kFlags, S::kWarps>(out, memory, scaled.sums, token, row);
  }
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * EB_WARPS, 1)
w4a8_wgmma(const s8* __restrict__ q, const float* __restrict__ sx, const u8* __restrict__ w,
           const u16* __restrict__ bias, const u16* residual, void* y, int m, int n, int k) {
  const Output out{y, bias, residual, m, n};
  gemm<Shape<EB_GROUP, EB_TOKEN_SCALE != 0, EB_ROW_SCALE != 0, EB_TOKENS, EB_TILES, EB_WARPS,
             EB_STAGES>,
       EB_EPILOGUE>(q, sx, w, out, k);
}
