// w4a16 for 1 to 8 tokens: INT4 weights, fp16 activations, one pass over the weights.
//
// Formula: y[m, n] = epilogue( sum over groups G of  s[n, G] * sum over k in G of (c - z) x[m, k] )
//   c = code[n, k], z = zero[n, G]; inner sums in fp32 on exact integers, outer sum in fp32, one
//   rounding at the end.
//
// Arguments:
//   x         fp16 [m, k]           16-byte aligned, k a multiple of 8
//   w         u8, layout T16x64     int4_format_cuda.h, of n rows and k inputs, padded to tiles
//   bias      fp16 [n]              read with kBias; in the order of the weight matrix's rows
//   residual  fp16 [m, outputs]     read with kResidual; may be y itself
//   y         fp16 [m, outputs]     outputs = n, with kSwiGlu n / 2; with kFloatOut fp32
//   m, n, k   s32                   1 <= m <= EB_TOKENS; n counts gate and up
// Macros: EB_GROUP 32 64 128, EB_TOKENS 1 2 4 8, EB_TILES (rows of tiles of a block), EB_WARPS,
//   EB_STAGES >= 2, EB_EPILOGUE (flags of epilogue.cuh), EB_DEPENDENT 1: launched with programmatic
//   stream serialization.
// Launch: grid (ceil(n / 16 EB_TILES)), 32 EB_WARPS threads, shared bytes as geometry.py's gemv().
//
// Picture: a block owns 16 EB_TILES rows and all of K; chunks of 128 inputs go round the warps, so
// that together they read one sequential stream, each warp through a ring of its own:
//
//     K ->  | chunk 0 | chunk 1 | .. | chunk 7 | chunk 8 | chunk 9 | ..
//             warp 0    warp 1         warp 7    warp 0    warp 1          (EB_WARPS = 8)
//     stage of a warp:  | EB_TILES x (codes, scales, zeros) | EB_TOKENS x (128 halves + 16 bytes) |
//
//   In a warp D[16 rows x 8 tokens] += A[16 rows x 16 inputs] B[16 inputs x 8 tokens]: weights are
//   the A operand, as packed; tokens the B operand, by ldmatrix; columns past m are dropped.
//
// Roofline: 0.523 bytes a weight (G = 128) against 2 m FLOP: at m = 1 3.8 FLOP a byte, memory-bound
//   everywhere (qkv of Llama-3-8B, 6144 x 4096: 13.2 MB, 3.1 us at the 4300 GB/s of an H200).
//   What can break the bound is instruction issue: an H200 has 27 slots for a warp's word of 256
//   weights. The main loop takes 17.2 (G = 128, m = 1, sm_90a: 9 decode, 1 mma), 18.4 at G = 64,
//   20.5 at G = 32 (tests/cuda/census.json). Time: not yet measured on a GPU.
//
// Idea: scales are applied to the fp32 sums of a group, 4 products instead of 32, so that tensor
//   cores see exact integers; no barrier in the main loop, as warps share nothing until the end;
//   with EB_DEPENDENT weights are fetched before the kernel that makes x has finished.
//   Lost (instructions a word): ring index by remainder, 20; copies behind branches, 19.
// Sources: own; packing in fragment order as Marlin does (Frantar et al., arXiv 2408.11743).
#include "epilogue.cuh"
#include "w4_tile.cuh"

// inputs of one row of x in shared memory; 16 bytes more, so that 8 rows lie in different banks
constexpr int kRowBytes = 2 * t16x64::kChunkInputs + 16;

// The warp's own ring of stages, each a chunk of kTiles rows of tiles and of kTokens rows of x.
template <int kGroup, int kTokens, int kTiles>
struct Stage {
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kWeightBytes = kTiles * kTileBytes;
  static constexpr int kBytes = kWeightBytes + kTokens * kRowBytes;
};

// Where a warp's copies read: it takes chunks warp, warp + kWarps, ..
template <int kGroup, int kTokens, int kTiles, int kWarps>
struct Reader {
  using S = Stage<kGroup, kTokens, kTiles>;
  static constexpr int kQuads = 2 * t16x64::kChunkInputs / 16;  // of a row of x

  const u8* w;     // the lane's place in the next chunk of the first row of tiles
  int stride;      // bytes of a row of tiles
  int rows;        // rows of tiles that exist, from the block's first
  int bytes_left;  // from the next chunk to the end of the row of tiles
  const u16* x;    // the lane's place in the next chunk of its first token's row
  int inputs_left, m, k;

  EB_DEVICE void copy_weights(u8* stage) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      u8* const to = stage + tile * S::kTileBytes + 16 * lane_id();
      copy_chunk<kGroup>(to, w + tile * stride, bytes_left, bytes_left > 0 && tile < rows);
    }
    w += kWarps * S::kTileBytes;
    bytes_left -= kWarps * S::kTileBytes;
  }

  EB_DEVICE void copy_x(u8* stage) {
    const int token = lane_id() / kQuads;
    u8* const to = stage + S::kWeightBytes + token * kRowBytes + lane_id() % kQuads * 16;
#pragma unroll
    for (int i = 0; i < kTokens; i += 32 / kQuads) {
      const bool go = token + i < m && inputs_left + 8 * (lane_id() % kQuads) > 0;
      copy_async(to + i * kRowBytes, x + i * k, inputs_left > 0, go);
    }
    copy_commit();
    x += kWarps * t16x64::kChunkInputs;
    inputs_left -= kWarps * t16x64::kChunkInputs;
  }
};

// sums += the products of one chunk; sums[tile] is a C fragment: 16 rows x 8 tokens.
template <int kGroup, int kTokens, int kTiles>
EB_DEVICE void multiply(const u8* stage, float (*sums)[4]) {
  using S = Stage<kGroup, kTokens, kTiles>;
  constexpr int kSteps = t16x64::kChunkInputs / 16;
  constexpr int kGroupSteps = kGroup / 16;
  const int lane = lane_id(), g = lane / 4;
  const int row = lane % 8 < kTokens ? lane % 8 : kTokens - 1;  // columns past kTokens: any
  const u8* const rows = stage + S::kWeightBytes + row * kRowBytes + lane / 8 * 16;
  u32 x[kSteps / 2][4];
#pragma unroll
  for (int i = 0; i < kSteps / 2; ++i) load_matrix_x4(x[i], rows + 64 * i);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const u8* const weights = stage + tile * S::kTileBytes;
    Quad words[2];
    words[0] = *(const Quad*)(weights + codes_at<kGroup>(0) + 16 * lane);
    words[1] = *(const Quad*)(weights + codes_at<kGroup>(1) + 16 * lane);
#pragma unroll
    for (int group = 0; group < kSteps / kGroupSteps; ++group) {
      const u8* const tail = weights + group_at<kGroup>(group);
      const Zeros zeros = zeros_of(zeros_at(tail, g));
      float part[4] = {0, 0, 0, 0};
#pragma unroll
      for (int step = group * kGroupSteps; step < (group + 1) * kGroupSteps; ++step) {
        const Quad quad = words[step / 4];
        const u32 word = step % 4 == 0   ? quad.x
                         : step % 4 == 1 ? quad.y
                         : step % 4 == 2 ? quad.z
                                         : quad.w;
        u32 a[4];
        decode(word, zeros, a);
        mma_f16(part, a, x[step / 2][step % 2 * 2], x[step / 2][step % 2 * 2 + 1]);
      }
      const u32 scales = scales_at(tail, g);
      const float low = low_half(scales), high = high_half(scales);
      sums[tile][0] += low * part[0];
      sums[tile][1] += low * part[1];
      sums[tile][2] += high * part[2];
      sums[tile][3] += high * part[3];
    }
  }
}

// memory[token][16 tile + row] of this warp's part = its sums.
template <int kTokens, int kTiles>
EB_DEVICE void share(float* part, const float (*sums)[4]) {
  const int g = lane_id() / 4, q = lane_id() % 4;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = 2 * q + i % 2, row = 16 * tile + g + i / 2 * 8;
      if (token < kTokens) part[token * 16 * kTiles + row] = sums[tile][i];
    }
  }
}

template <int kGroup, int kTokens, int kTiles, int kWarps>
EB_DEVICE Reader<kGroup, kTokens, kTiles, kWarps> reader_of(const u16* x, const u8* w, int m, int n,
                                                            int k) {
  using R = Reader<kGroup, kTokens, kTiles, kWarps>;
  const int tiles = (k + t16x64::kInputs - 1) / t16x64::kInputs;
  const int stride = row_bytes<kGroup>(tiles), first = block_x() * kTiles;
  const int at = warp_id() * R::S::kTileBytes, input = warp_id() * t16x64::kChunkInputs;
  const int token = lane_id() / R::kQuads, quad = lane_id() % R::kQuads;
  return {w + (s64)first * stride + at + 16 * lane_id(),
          stride,
          (n + t16x64::kRows - 1) / t16x64::kRows - first,
          stride - at,
          x + (s64)token * k + input + 8 * quad,
          k - input - 8 * quad,
          m < kTokens ? m : kTokens,
          k};
}

template <int kGroup, int kTokens, int kTiles, int kWarps, int kStages, int kFlags, bool kDependent>
EB_DEVICE void gemv(const u16* x, const u8* w, const Output& out, int k) {
  EB_SHARED(memory);
  using S = Stage<kGroup, kTokens, kTiles>;
  auto reader = reader_of<kGroup, kTokens, kTiles, kWarps>(x, w, out.m, out.n, k);
  u8* const ring = memory + warp_id() * kStages * S::kBytes;

  // Weights do not depend on the kernel before, activations do.
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    reader.copy_weights(ring + stage * S::kBytes);
    if (!kDependent) reader.copy_x(ring + stage * S::kBytes);
  }
  if (kDependent) {
    grid_dependency_wait();
#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) reader.copy_x(ring + stage * S::kBytes);
  }
  float sums[kTiles][4] = {};
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  for (int chunk = warp_id(); chunk < chunks;) {
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage, chunk += kWarps) {
      if (chunk >= chunks) break;
      copy_wait<kStages - 2>();
      warp_barrier();
      u8* const next = ring + (stage + kStages - 1) % kStages * S::kBytes;
      reader.copy_weights(next);
      reader.copy_x(next);
      multiply<kGroup, kTokens, kTiles>(ring + stage * S::kBytes, sums);
    }
  }
  grid_dependency_launch();

  // The warps' parts, added in the order of the warps: the same bits in every run.
  constexpr int kSums = kTokens * 16 * kTiles;
  float* const parts = (float*)memory;
  barrier();
  share<kTokens, kTiles>(parts + warp_id() * kSums, sums);
  barrier();
  float* const total = parts + kWarps * kSums;
  for (int i = thread_id(); i < kSums; i += 32 * kWarps) {
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) sum += parts[warp * kSums + i];
    total[i] = sum;
  }
  barrier();
  store_sums<kFlags>(out, total, 16 * kTiles, kTokens, 16 * kTiles, 0, 16 * kTiles * block_x());
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * EB_WARPS, 1)
w4a16_gemv(const u16* __restrict__ x, const u8* __restrict__ w, const u16* __restrict__ bias,
           const u16* residual, void* y, int m, int n, int k) {
  const Output out{y, bias, residual, m, n};
  gemv<EB_GROUP, EB_TOKENS, EB_TILES, EB_WARPS, EB_STAGES, EB_EPILOGUE, EB_DEPENDENT != 0>(x, w,
                                                                                           out, k);
}
