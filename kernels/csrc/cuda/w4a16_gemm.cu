// w4a16 for more than 8 tokens: INT4 weights, fp16 activations, tensor cores.
//
// Formula: w4a16_gemv.cu. With 64 or more tokens a block, weights s (c - z) are rounded to fp16
//   before they are multiplied, as if the matrix had been dequantized; below that the sums of a
//   group are scaled.
//
// Arguments: as in w4a16_gemv.cu, for any m >= 1 (weights are read once for each EB_TOKENS), and
//   workspace  u8                   4 bytes * blocks of the grid * tokens * rows of a block
//   counters   u32 [blocks of the grid]   zero before and after
//   both are not touched (may be null) where blocks z is 1
// Macros: EB_GROUP 32 64 128, EB_TOKENS 16 32 64 128 (of a block), EB_TILES (rows of tiles of a
//   warp), EB_WARPS, EB_STAGES >= 2, EB_EPILOGUE, EB_DEPENDENT (see w4a16_gemv.cu).
// Launch: grid (ceil(n / 16 EB_TILES EB_WARPS), ceil(m / EB_TOKENS), parts of K), 32 EB_WARPS
//   threads; shared bytes, workspace and counters as geometry.py's gemm().
//
// Picture: stages of 128 inputs; each warp copies and decodes its own rows, all share the tokens:
//
//                 16 EB_TILES EB_WARPS rows (outputs)
//               +---------+---------+---------+---------+
//     EB_TOKENS | warp 0  | warp 1  | warp 2  | warp 3  |     a warp: EB_TILES x EB_TOKENS / 8
//               |         |         |         |         |     C fragments of 16 rows x 8 tokens
//               +---------+---------+---------+---------+
//     stage:    | EB_WARPS x EB_TILES x (codes, scales, zeros) | EB_TOKENS x (128 halves + 16 B) |
//
//   For every 32 inputs a warp decodes 2 words a tile, then loads each 8 tokens once (ldmatrix) for
//   all its tiles. Outputs leave through shared memory, 16 tokens at a time, in whole rows.
//
// Roofline: 2 m FLOP against 0.523 bytes a weight, read once: on an H200 (4300 GB/s copy, 780
//   TFLOP/s dense 16-bit, both measured with torch) memory bounds below m = 48, tensor cores above.
//   Instructions for a warp's word of 256 weights (sm_90a, G = 128): 18.2 at 16 tokens (2 mma),
//   29.6 at 64 (8 mma, EB_TILES 4), 47.3 at 128 (16 mma). H200: README.md.
//
// Idea: the weights' operand is in registers and decoded once for all tokens of a block; K is split
//   over blocks where outputs alone do not fill the GPU, added in a fixed tree (split_k.cuh).
//   Large blocks roll the loop over inputs up, for registers; two rows of tiles more for a warp
//   halve what it reads from shared memory for the same products (EB_TILES 4 at 64 tokens).
//   Lost: the addresses of each token's row kept in registers (spills at 128 tokens).
// Sources: own; packing in fragment order as Marlin does (Frantar et al., arXiv 2408.11743).
#include "epilogue.cuh"
#include "split_k.cuh"
#include "w4_tile.cuh"

template <int kGroupInputs, int kTokenCount, int kTileCount, int kWarpCount, int kStageCount>
struct Shape {
  static constexpr int kGroup = kGroupInputs;
  static constexpr int kTokens = kTokenCount;  // of a block
  static constexpr int kTiles = kTileCount;    // rows of tiles of a warp
  static constexpr int kWarps = kWarpCount;
  static constexpr int kStages = kStageCount;

  static constexpr int kColumns = 16 * kTiles * kWarps;  // packed rows of a block
  static constexpr int kEights = kTokens / 8;            // tensor core tiles along tokens
  static constexpr int kRowBytes = 2 * t16x64::kChunkInputs + 16;
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kWeightBytes = kWarps * kTiles * kTileBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokens * kRowBytes;
  // Few tokens: scale the sums of a group. Many: scale the weights, which are fewer.
  static constexpr bool kScaleWeights = kTokens >= 64;
  // Many sums: roll the loop over inputs up, or registers run out.
  static constexpr int kUnroll = kEights * kTiles >= 32 ? 1 : 4;
};

// Where the block's copies read, chunk after chunk: each warp its own rows of tiles, all of them x.
template <class S>
struct Reader {
  static constexpr int kQuads = 2 * t16x64::kChunkInputs / 16;  // of a row of x
  static constexpr int kRowsAtOnce = 32 * S::kWarps / kQuads;

  const u8* w;               // the lane's place in the next chunk of the warp's first row of tiles
  int stride;                // bytes of a row of tiles
  int rows;                  // rows of tiles that exist, from the warp's first
  int bytes_left;            // from the next chunk to the end of the row of tiles
  const u16* x;              // the thread's place in the next chunk of its first token's row
  int tokens;                // that exist, from the thread's first
  int inputs_left;           // from the thread's place to the end of the row
  int weights_left, x_left;  // chunks of this block's part of K, not yet asked for
  int k;

  EB_DEVICE void copy_weights(u8* stage) {
    u8* const to = stage + warp_id() * S::kTiles * S::kTileBytes + 16 * lane_id();
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      copy_chunk<S::kGroup>(to + tile * S::kTileBytes, w + tile * stride, bytes_left,
                            weights_left > 0 && tile < rows);
    }
    w += S::kTileBytes;
    bytes_left -= S::kTileBytes;
    weights_left -= 1;
  }

  EB_DEVICE void copy_x(u8* stage) {
    const int row = thread_id() / kQuads;
    u8* const row_to = stage + S::kWeightBytes + row * S::kRowBytes + thread_id() % kQuads * 16;
    const u16* from = x;
#pragma unroll
    for (int i = 0; i < S::kTokens; i += kRowsAtOnce) {
      copy_async(row_to + i * S::kRowBytes, from, inputs_left > 0, x_left > 0 && i < tokens);
      from += kRowsAtOnce * k;
    }
    copy_commit();
    x += t16x64::kChunkInputs;
    inputs_left -= t16x64::kChunkInputs;
    x_left -= 1;
  }
};

template <class S>
EB_DEVICE Reader<S> reader_of(const u16* x, const u8* w, int m, int n, int k, int begin, int end) {
  const int tiles = (k + t16x64::kInputs - 1) / t16x64::kInputs;
  const int stride = row_bytes<S::kGroup>(tiles), at = begin * S::kTileBytes;
  const int first = (block_x() * S::kWarps + warp_id()) * S::kTiles;
  const int row = thread_id() / Reader<S>::kQuads, token = block_y() * S::kTokens + row;
  const int input = begin * t16x64::kChunkInputs + thread_id() % Reader<S>::kQuads * 8;
  const int tokens = S::kTokens - row;
  return {w + (s64)first * stride + at + 16 * lane_id(),
          stride,
          (n + t16x64::kRows - 1) / t16x64::kRows - first,
          stride - at,
          x + (s64)token * k + input,
          m - token < tokens ? m - token : tokens,
          k - input,
          end - begin,
          end - begin,
          k};
}

// sums += weights x tokens over 32 inputs; sums[eight][tile] is a C fragment.
template <class S>
EB_DEVICE void multiply_pair(const u8* rows, const u32 (*a)[2][4], float (*sums)[S::kTiles][4]) {
#pragma unroll
  for (int eight = 0; eight < S::kEights; ++eight) {
    u32 x[4];
    load_matrix_x4(x, rows + eight * 8 * S::kRowBytes);
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      mma_f16(sums[eight][tile], a[tile][0], x[0], x[1]);
      mma_f16(sums[eight][tile], a[tile][1], x[2], x[3]);
    }
  }
}

template <class S>
EB_DEVICE void multiply(const u8* stage, float (*sums)[S::kTiles][4]) {
  constexpr int kGroups = t16x64::kChunkInputs / S::kGroup, kPairs = S::kGroup / 32;
  const int lane = lane_id(), g = lane / 4;
  const u8* const weights = stage + warp_id() * S::kTiles * S::kTileBytes;
  const u8* const rows = stage + S::kWeightBytes + lane % 8 * S::kRowBytes + lane / 8 * 16;
#pragma unroll S::kUnroll
  for (int group = 0; group < kGroups; ++group) {
    float parts[S::kEights][S::kTiles][4] = {};
    u32 scales[S::kTiles];
    Zeros zeros[S::kTiles];
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      const u8* const tail = weights + tile * S::kTileBytes + group_at<S::kGroup>(group);
      scales[tile] = scales_at(tail, g);
      zeros[tile] = zeros_of(zeros_at(tail, g));
    }
#pragma unroll S::kUnroll
    for (int pair = group * kPairs; pair < (group + 1) * kPairs; ++pair) {
      u32 a[S::kTiles][2][4];
#pragma unroll
      for (int tile = 0; tile < S::kTiles; ++tile) {
        const u32* const words = (const u32*)(weights + tile * S::kTileBytes +
                                              codes_at<S::kGroup>(pair / 2) + 16 * lane) +
                                 pair % 2 * 2;
#pragma unroll
        for (int step = 0; step < 2; ++step) {
          decode(words[step], zeros[tile], a[tile][step]);
          if (S::kScaleWeights) scale_fragment(scales[tile], a[tile][step]);
        }
      }
      multiply_pair<S>(rows + 64 * pair, a, S::kScaleWeights ? sums : parts);
    }
    if (S::kScaleWeights) continue;
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      const float low = low_half(scales[tile]), high = high_half(scales[tile]);
#pragma unroll
      for (int eight = 0; eight < S::kEights; ++eight) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          sums[eight][tile][i] += (i < 2 ? low : high) * parts[eight][tile][i];
      }
    }
  }
}

// Outputs of the block, 16 tokens at a time through shared memory, so that rows are written whole.
template <class S, int kFlags>
EB_DEVICE void store_block(const Output& out, u8* memory, const float (*sums)[S::kTiles][4]) {
  constexpr int kSlabTokens = 16, kStride = S::kColumns + 4;
  const int g = lane_id() / 4, q = lane_id() % 4, column = warp_id() * S::kTiles * 16 + g;
  float* const slab = (float*)memory;
#pragma unroll
  for (int first = 0; first < S::kTokens; first += kSlabTokens) {
    barrier();
#pragma unroll
    for (int i = 0; i < 2 * S::kTiles * 4; ++i) {
      const int eight = i / (4 * S::kTiles), tile = i / 4 % S::kTiles, c = i % 4;
      slab[(8 * eight + 2 * q + c % 2) * kStride + column + 16 * tile + c / 2 * 8] =
          sums[first / 8 + eight][tile][c];
    }
    barrier();
    store_sums<kFlags>(out, slab, kStride, kSlabTokens, S::kColumns, block_y() * S::kTokens + first,
                       block_x() * S::kColumns);
  }
}

template <class S, int kFlags, bool kDependent>
EB_DEVICE void gemm(const u16* x, const u8* w, const Output& out, int k, u8* workspace,
                    u32* counters) {
  EB_SHARED(memory);
  grid_dependency_launch();
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  const int begin = (int)((s64)chunks * block_z() / blocks_z());
  const int end = (int)((s64)chunks * (block_z() + 1) / blocks_z());
  auto reader = reader_of<S>(x, w, out.m, out.n, k, begin, end);

  // Weights do not depend on the kernel before, activations do.
#pragma unroll
  for (int stage = 0; stage < S::kStages - 1; ++stage) {
    reader.copy_weights(memory + stage * S::kStageBytes);
    if (!kDependent) reader.copy_x(memory + stage * S::kStageBytes);
  }
  if (kDependent) {
    grid_dependency_wait();
#pragma unroll
    for (int stage = 0; stage < S::kStages - 1; ++stage)
      reader.copy_x(memory + stage * S::kStageBytes);
  }
  float sums[S::kEights][S::kTiles][4] = {};
  int slot = 0;
  for (int chunk = begin; chunk < end; ++chunk) {
    copy_wait<S::kStages - 2>();
    barrier();
    u8* const next = memory + (slot == 0 ? S::kStages - 1 : slot - 1) * S::kStageBytes;
    reader.copy_weights(next);
    reader.copy_x(next);
    multiply<S>(memory + slot * S::kStageBytes, sums);
    slot = slot == S::kStages - 1 ? 0 : slot + 1;
  }
  if (!sum_splits<S::kEights * S::kTiles>(&sums[0][0], memory, workspace, counters)) return;
  store_block<S, kFlags>(out, memory, sums);
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * EB_WARPS, 1)
w4a16_gemm(const u16* __restrict__ x, const u8* __restrict__ w, const u16* __restrict__ bias,
           const u16* residual, void* y, int m, int n, int k, u8* __restrict__ workspace,
           u32* __restrict__ counters) {
  const Output out{y, bias, residual, m, n};
  gemm<Shape<EB_GROUP, EB_TOKENS, EB_TILES, EB_WARPS, EB_STAGES>, EB_EPILOGUE, EB_DEPENDENT != 0>(
      x, w, out, k, workspace, counters);
}
