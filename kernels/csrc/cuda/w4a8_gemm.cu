// w4a8: INT4 weights, int8 activations, integer tensor cores (mma), for many tokens.
//
// Formula: y[m, n] = epilogue( sum over groups G of
//                              s[n, G] * (sx[G, m] * sum over k in G of (c[n, k] - z[n, G]) q[m,
//                              k]) )
//   with x ~ sx q. Inner sums are exact integers; each is scaled once, in fp32, rounded after every
//   product; outer sums in fp32; one rounding at the end.
//
// Arguments:
//   q         s8 [m, k]             16-byte aligned; the inputs of each 16 in w4_bytes.cuh's order
//   sx        fp32 [k / EB_GROUP, m], with EB_TOKEN_SCALE [m]
//   w         u8, layout T16x64     int4_format_cuda.h, of n rows and k inputs
//   bias      fp16 [n]              read with kBias; in the order of the weight matrix's rows
//   residual  fp16 [m, outputs]     read with kResidual; may be y itself
//   y         fp16 [m, outputs]     outputs = n, with kSwiGlu n / 2; with kFloatOut fp32
//   m, n, k   s32                   k a multiple of 64
//   workspace u8                    4 bytes * blocks of the grid * tokens * rows of a block
//   counters  u32 [blocks x * y]    zero before and after
//   both are not touched (may be null) where blocks z is 1
// Macros: EB_GROUP 32 64 128, EB_TOKEN_SCALE 0 1, EB_TOKENS 16 32 64 128 (of a block), EB_TILES
//   (rows of tiles of a warp), EB_WARPS, EB_STAGES >= 2, EB_EPILOGUE (epilogue.cuh).
// Launch: grid (ceil(m / EB_TOKENS), ceil(n / 16 EB_TILES EB_WARPS), parts of K), 32 EB_WARPS
//   threads. Blocks that are neighbours share weights: these are read from DRAM once.
//
// Picture: as w4a16_gemm.cu: every warp has its own rows and all tokens of the block.
//
//     stage: | EB_TOKENS x 128 codes | EB_WARPS x EB_TILES x (codes, scales, zeros) | groups x
//     tokens
//
//   Unit u (16 bytes) of row t of the codes lies at u ^ t % 8: ldmatrix meets every bank once.
//   A warp decodes a group of its rows once into registers; then for each 8 tokens
//
//     part = magic + A B              EB_GROUP / 32 mma a tile, the first starts from `magic`
//     sums += s * fma(part, sx, -magic sx)
//
//   where part, its bits taken as a float, is 12582912 + the integer: no conversion. 12582912 sx is
//   exact, because sx is cut to 22 bits first (a part in 2^21), so the fma is sx times the integer.
//
// Roofline: 2 m FLOP against 0.523 bytes a weight: on an H200 memory bounds up to about m = 100 at
//   the 65 % of int8 peak that mma reaches there, tensor cores beyond. Instructions for a warp's
//   word of 256 weights (sm_90a, G = 128): 16 at 16 tokens (1 mma), 29 at 64 tokens of a warp
//   (4 mma, 16 to fold sums); G = 32: 27 and 67. Time: not yet measured on a GPU.
//
// Idea: what is done for each sum (two instructions a group) and for each weight (six a word) is
//   held against 4 EB_TOKENS / 8 mma a word pair; zero points are taken away from weights, which
//   are decoded once for all tokens, not from sums.
// Sources: own; the magic number is folklore (see S. E. Anderson, "Bit Twiddling Hacks").
#include "fragments.cuh"
#include "split_k.cuh"
#include "w4_bytes.cuh"
#include "w4_reader.cuh"

constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: + v has v in its low bits, |v| < 2^22
constexpr s32 kMagicBits = 0x4b400000;
constexpr u32 kScaleMask = 0xfffffffc;  // 22 bits of a float's mantissa

template <int kGroupInputs, bool kIsTokenScale, int kTokenCount, int kTokenWarpCount,
          int kTileCount, int kWarpCount, int kStageCount>
struct Shape {
  static constexpr int kGroup = kGroupInputs;
  static constexpr bool kTokenScale = kIsTokenScale;
  static constexpr int kTokens = kTokenCount;          // of a block
  static constexpr int kTokenWarps = kTokenWarpCount;  // of a block, along tokens
  static constexpr int kTiles = kTileCount;            // rows of tiles of a warp
  static constexpr int kWarps = kWarpCount;            // of a block, all of them
  static constexpr int kStages = kStageCount;

  static constexpr int kTileRows = kTiles * kWarps / kTokenWarps;  // rows of tiles of a block
  static constexpr int kCopiedTiles = kTiles / kTokenWarps;        // by each warp
  static constexpr int kEights = kTokens / kTokenWarps / 8;        // of a warp, along tokens
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kGroups = t16x64::kChunkInputs / kGroup;
  static constexpr int kCodeBytes = kTokens * t16x64::kChunkInputs;
  static constexpr int kWeightBytes = kTileRows * kTileBytes;
  static constexpr int kStageBytes = kCodeBytes + kWeightBytes + 4 * kGroups * kTokens;
  static_assert(kTiles % kTokenWarps == 0, "the warps of the same rows share their copies");
};

// Where the block's copies of codes and their scales read.
template <class S>
struct CodeReader {
  static constexpr u32 kUnits = t16x64::kChunkInputs / 16;  // of a row of codes
  static constexpr u32 kThreads = 32 * S::kWarps, kRowsAtOnce = kThreads / kUnits;
  static_assert(kRowsAtOnce % 8 == 0, "a thread's rows have one swizzle");

  const s8* q;
  const float* sx;
  u32 at;      // the thread's place in its first token's row, in 16 bytes: a register less
  int tokens;  // of the block that exist
  int m, k;

  // Chunk `chunk` to a stage, if `go`.
  EB_DEVICE void copy(u8* stage, int chunk, bool go) const {
    const u32 thread = thread_id(), row = thread / kUnits, unit = thread % kUnits;
    const int count = go ? tokens : 0, inputs_left = k - chunk * t16x64::kChunkInputs;
    u8* const to = stage + row * t16x64::kChunkInputs + (unit ^ row % 8) * 16;
    const s8* from = q + (u64)(at + chunk * kUnits) * 16;
#pragma unroll
    for (int i = 0; i < S::kTokens; i += kRowsAtOnce) {
      copy_async(to + i * t16x64::kChunkInputs, from, 16 * (int)unit < inputs_left,
                 i < count - (int)row);
      from += kRowsAtOnce * k;
    }
    float* const scales = (float*)(stage + S::kCodeBytes + S::kWeightBytes);
#pragma unroll
    for (u32 i = 0; i < S::kGroups * S::kTokens; i += kThreads) {
      const u32 place = i + thread, token = place % S::kTokens, group = place / S::kTokens;
      const u32 first = S::kTokenScale ? 0 : (chunk * S::kGroups + group) * m;
      const bool take = S::kTokenScale || (int)(group * S::kGroup) < inputs_left;
      if (place < S::kGroups * S::kTokens && (int)token < count)
        copy_async_4(scales + place, sx + (first + block_x() * S::kTokens + token), take);
    }
    copy_commit();
  }
};

template <class S>
EB_DEVICE CodeReader<S> code_reader(const s8* q, const float* sx, int m, int k) {
  using R = CodeReader<S>;
  const u32 thread = thread_id();
  const int first = block_x() * S::kTokens, token = first + thread / R::kUnits, left = m - first;
  return {q, sx, (u32)token * (k / 16) + thread % R::kUnits, left < S::kTokens ? left : S::kTokens,
          m, k};
}

// sums += s * (sx * the integer), for the 16 rows x 8 tokens of a fragment.
EB_DEVICE void fold(const s32* part, const float* scale, const float* sx, const float* shift,
                    float* sums) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float exact = multiply_add(bits_float((u32)part[i]), sx[i % 2], shift[i % 2]);
    sums[i] = multiply_add(exact, scale[i / 2], sums[i]);
  }
}

// x = the B fragments of 8 tokens, kSteps steps; `from`: the lane's row and unit of the first step.
template <int kSteps>
EB_DEVICE void load_codes(const u8* from, const u8* other, u32 (*x)[2]) {
  if constexpr (kSteps == 1) {
    load_matrix_x2(x[0], from);
  } else {
    load_matrix_x4(x[0], from);
    if constexpr (kSteps == 4) load_matrix_x4(x[2], other);
  }
}

// One group of a chunk: sums[tile][eight] is a C fragment.
template <class S>
EB_DEVICE void multiply_group(const u8* stage, int group, float (&sums)[S::kTiles][S::kEights][4]) {
  constexpr int kSteps = S::kGroup / 32;
  const u32 lane = lane_id(), row = lane % 8, unit = 2 * kSteps * group + lane / 8;
  const u32 first = warp_id() % S::kTokenWarps * (8 * S::kEights);  // token
  const u8* const weights =
      stage + S::kCodeBytes + warp_id() / S::kTokenWarps * S::kTiles * S::kTileBytes;
  const float* const scales = (const float*)(stage + S::kCodeBytes + S::kWeightBytes) +
                              group * S::kTokens + first + 2 * (lane % 4);
  const u8* const codes = stage + (first + row) * t16x64::kChunkInputs;
  const u8* const from = codes + ((unit ^ row) & 7) * 16;
  const u8* const other = codes + ((unit ^ row ^ 4) & 7) * 16;
  u32 a[S::kTiles][kSteps][4];
  float scale[S::kTiles][2];
#pragma unroll
  for (int tile = 0; tile < S::kTiles; ++tile) {
    const u8* const at = weights + tile * S::kTileBytes;
    decode_group<S::kGroup>(at, group, a[tile]);
    const u32 pair = scales_at(at + group_at<S::kGroup>(group), lane / 4);
    scale[tile][0] = low_half(pair);
    scale[tile][1] = high_half(pair);
  }
#pragma unroll
  for (int eight = 0; eight < S::kEights; ++eight) {
    constexpr int kEightBytes = 8 * t16x64::kChunkInputs;
    u32 x[kSteps][2];
    load_codes<kSteps>(from + eight * kEightBytes, other + eight * kEightBytes, x);
    const u64 pair = *(const u64*)(scales + 8 * eight);
    const float sx[2] = {bits_float((u32)pair & kScaleMask),
                         bits_float((u32)(pair >> 32) & kScaleMask)};
    const float shift[2] = {-kMagic * sx[0], -kMagic * sx[1]};
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      s32 part[4];
      mma_s8_from(kMagicBits, part, a[tile][0], x[0][0], x[0][1]);
#pragma unroll
      for (int step = 1; step < kSteps; ++step) mma_s8(part, a[tile][step], x[step][0], x[step][1]);
      fold(part, scale[tile], sx, shift, sums[tile][eight]);
    }
  }
}

template <class S, int kFlags>
EB_DEVICE void gemm(const s8* q, const float* sx, const u8* w, const Output& out, int k,
                    u8* workspace, u32* counters) {
  EB_SHARED(memory);
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  const int begin = chunks * block_z() / blocks_z();
  const int end = chunks * (block_z() + 1) / blocks_z();
  const auto weights = weight_reader<S::kGroup, S::kCopiedTiles>(
      w, out.n, k, block_y() * S::kTileRows + warp_id() * S::kCopiedTiles);
  const auto codes = code_reader<S>(q, sx, out.m, k);

  // Weights do not depend on the kernel before, codes do.
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i)
    weights.copy(memory + i * S::kStageBytes + S::kCodeBytes, begin + i, begin + i < end);
  grid_dependency_wait();
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i)
    codes.copy(memory + i * S::kStageBytes, begin + i, begin + i < end);
  float sums[S::kTiles][S::kEights][4] = {};
  int slot = 0;
  for (int chunk = begin; chunk < end; ++chunk) {
    copy_wait<S::kStages - 2>();
    barrier();
    u8* const next = memory + (slot == 0 ? S::kStages - 1 : slot - 1) * S::kStageBytes;
    const int later = chunk + S::kStages - 1;
    weights.copy(next + S::kCodeBytes, later, later < end);
    codes.copy(next, later, later < end);
#pragma unroll
    for (int group = 0; group < S::kGroups; ++group)
      multiply_group<S>(memory + slot * S::kStageBytes, group, sums);
    slot = slot == S::kStages - 1 ? 0 : slot + 1;
  }
  grid_dependency_launch();
  if (!sum_splits<S::kTiles * S::kEights>(&sums[0][0], memory, workspace, counters)) return;
  store_fragments<kFlags, S::kTokenWarps>(out, memory, sums, block_x() * S::kTokens,
                                          block_y() * S::kTileRows * t16x64::kRows);
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * EB_WARPS, 1)
w4a8_gemm(const s8* __restrict__ q, const float* __restrict__ sx, const u8* __restrict__ w,
          const u16* __restrict__ bias, const u16* residual, void* y, int m, int n, int k,
          u8* __restrict__ workspace, u32* __restrict__ counters) {
  const Output out{y, bias, residual, m, n};
  gemm<Shape<EB_GROUP, EB_TOKEN_SCALE != 0, EB_TOKENS, EB_TOKEN_WARPS, EB_TILES, EB_WARPS,
             EB_STAGES>,
       EB_EPILOGUE>(q, sx, w, out, k, workspace, counters);
}
