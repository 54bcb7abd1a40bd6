// w4a8: INT4 weights, int8 activations, integer tensor cores (mma), for many tokens.
//
// Formula: y[m, n] = epilogue( sum over groups G of  s[n, G] * (sx[G, m] * integer[m, n, G]) ),
//   integer = sum over k in G of (c[n, k] - z[n, G]) q[m, k],  x ~ sx q.  Integers are exact; each
//   is scaled once, by two rounded products in fp32, and added in fp32; one rounding at the end.
//   With EB_ROW_SCALE all of K is one group, whose integer is below 2^31.
//
// Arguments:
//   q         s8 [m, k]             16-byte aligned; of each 16 inputs in w4_bytes.cuh's order
//   sx        fp32 [k / EB_GROUP, m], with EB_TOKEN_SCALE [m]
//   w         u8, layout T16x64     int4_format_cuda.h, of n rows and k inputs
//   bias      fp16 [n]              read with kBias; in the order of the weight matrix's rows
//   residual  fp16 [m, outputs]     read with kResidual; may be y itself
//   y         fp16 [m, outputs]     outputs = n, with kSwiGlu n / 2; with kFloatOut fp32
//   m, n, k   s32                   k a multiple of 64
//   workspace, counters             as in w4a16_gemm.cu
// Macros: EB_GROUP 32 64 128, EB_TOKEN_SCALE 0 1, EB_ROW_SCALE 0 1 (all groups of a row are alike;
//   with EB_TOKEN_SCALE), EB_TOKENS 16 32 64 128 (of a block), EB_TOKEN_WARPS 1 2 (of a block,
//   along tokens), EB_TILES (rows of tiles of a warp), EB_WARPS (of a block, all of them),
//   EB_STAGES >= 2, EB_EPILOGUE (epilogue.cuh).
// Launch: grid (ceil(m / EB_TOKENS), ceil(n / rows of a block), parts of K), 32 EB_WARPS threads;
//   rows of a block are 16 EB_TILES EB_WARPS / EB_TOKEN_WARPS; shared bytes, workspace and counters
//   as large_geometry.py's w4a8_gemm(). Neighbouring blocks share weights: DRAM reads them once.
//
// Picture: a warp has rows of its own, and all tokens of the block or one half of them.
//
//     stage: | tokens x 128 codes | rows of tiles x (codes, scales, zeros) | groups x tokens sx |
//
//   A warp decodes a group of its rows once into registers; then for each 8 tokens
//
//     part = magic + A B              EB_GROUP / 32 mma a tile, the first one starts from `magic`
//     sums += s * fma(part, sx, -magic sx)
//
//   where part, its bits taken as a float, is 12582912 + the integer: no conversion. 12582912 sx is
//   exact, as sx is cut to 22 bits first (at most 3 parts in 2^23), so fma is sx times the integer.
//   With EB_ROW_SCALE sums are integers, scaled once at the end (row_scale.cuh).
//
// Roofline: 2 m FLOP against 0.523 bytes a weight: on an H200 memory bounds up to about m = 100 at
//   the 65 % of its int8 peak that mma reaches there, tensor cores beyond. Instructions for a
//   warp's word of 256 weights (sm_90a, G = 128): 16 at 16 tokens (1 mma), 29 at 64 tokens of a
//   warp (4 mma, 8 to fold sums); G = 32: 27 and 67. H200: README.md.
//
// Idea: what is done for a weight (six instructions a word) is shared by all tokens of a warp, what
//   is done for a sum is two instructions a group; zero points are taken from weights, not from
//   sums. Lost: 128 tokens of one warp (registers spill), so that two warps share them; pointers
//   that advance from chunk to chunk (registers).
// Sources: own; the magic number is folklore.
#include "a8_reader.cuh"
#include "fragments.cuh"
#include "row_scale.cuh"
#include "split_k.cuh"
#include "w4_bytes.cuh"
#include "w4_reader.cuh"

constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: + v has v in its low bits, |v| < 2^22
constexpr s32 kMagicBits = 0x4b400000;
constexpr u32 kScaleMask = 0xfffffffc;  // 22 bits of a float's mantissa

template <bool kIsInteger>
struct SumOf {
  using Type = float;
};
template <>
struct SumOf<true> {
  using Type = s32;
};

template <int kGroupInputs, bool kIsTokenScale, bool kIsRowScale, int kTokenCount,
          int kTokenWarpCount, int kTileCount, int kWarpCount, int kStageCount>
struct Shape {
  static constexpr int kGroup = kGroupInputs;
  static constexpr bool kTokenScale = kIsTokenScale;
  static constexpr bool kRowScale = kIsRowScale;
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
  static constexpr int kScales = kRowScale ? 0 : kGroups * kTokens;  // of tokens
  static constexpr int kStageBytes = kCodeBytes + kWeightBytes + 4 * kScales;
  using Sum = typename SumOf<kRowScale>::Type;
  static_assert(kTiles % kTokenWarps == 0, "the warps of the same rows share their copies");
  static_assert(kTokenScale || !kRowScale, "integers of all groups have one scale");
};

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

// sums += the products of one group and 8 tokens, scaled; `scale`: of the tiles' rows, `sx`: the
// lane's first token's.
template <class S, int kSteps>
EB_DEVICE void add_scaled(const u32 (&a)[S::kTiles][kSteps][4], const u32 (&x)[kSteps][2],
                          const float (&scale)[S::kTiles][2], const float* sx, int eight,
                          float (&sums)[S::kTiles][S::kEights][4]) {
  const u64 pair = *(const u64*)sx;
  const float of_token[2] = {bits_float((u32)pair & kScaleMask),
                             bits_float((u32)(pair >> 32) & kScaleMask)};
  const float shift[2] = {-kMagic * of_token[0], -kMagic * of_token[1]};
#pragma unroll
  for (int tile = 0; tile < S::kTiles; ++tile) {
    s32 part[4];
    mma_s8_from(kMagicBits, part, a[tile][0], x[0][0], x[0][1]);
#pragma unroll
    for (int step = 1; step < kSteps; ++step) mma_s8(part, a[tile][step], x[step][0], x[step][1]);
    fold(part, scale[tile], of_token, shift, sums[tile][eight]);
  }
}

// The same where sums are integers.
template <class S, int kSteps>
EB_DEVICE void add_exact(const u32 (&a)[S::kTiles][kSteps][4], const u32 (&x)[kSteps][2], int eight,
                         s32 (&sums)[S::kTiles][S::kEights][4]) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile)
      mma_s8(sums[tile][eight], a[tile][step], x[step][0], x[step][1]);
  }
}

// One group of a chunk: sums[tile][eight] is a C fragment.
template <class S>
EB_DEVICE void multiply_group(const u8* stage, int group,
                              typename S::Sum (&sums)[S::kTiles][S::kEights][4]) {
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
    if constexpr (S::kRowScale) {
      add_exact<S>(a, x, eight, sums);
    } else {
      add_scaled<S>(a, x, scale, scales + 8 * eight, eight, sums);
    }
  }
}

template <class S, int kFlags>
EB_DEVICE void store(const Output& out, u8* memory, float (&sums)[S::kTiles][S::kEights][4],
                     u8* workspace, u32* counters) {
  if (!sum_splits<S::kTiles * S::kEights>(&sums[0][0], memory, workspace, counters)) return;
  store_fragments<kFlags, S::kTokenWarps>(out, memory, sums, block_x() * S::kTokens,
                                          block_y() * S::kTileRows * t16x64::kRows);
}

template <class S, int kFlags>
EB_DEVICE void gemm(const s8* q, const float* sx, const u8* w, const Output& out, int k,
                    u8* workspace, u32* counters) {
  EB_SHARED(memory);
  grid_dependency_launch();
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
  typename S::Sum sums[S::kTiles][S::kEights][4] = {};
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
  if constexpr (S::kRowScale) {
    const int tile = block_y() * S::kTileRows + warp_id() / S::kTokenWarps * S::kTiles;
    const int token = block_x() * S::kTokens + warp_id() % S::kTokenWarps * (8 * S::kEights);
    float scaled[S::kTiles][S::kEights][4];
    scale_integers<S::kGroup>(sums, {w, sx, out.m, out.n, k, tile, token}, scaled);
    store<S, kFlags>(out, memory, scaled, workspace, counters);
  } else {
    store<S, kFlags>(out, memory, sums, workspace, counters);
  }
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * EB_WARPS, 1)
w4a8_gemm(const s8* __restrict__ q, const float* __restrict__ sx, const u8* __restrict__ w,
          const u16* __restrict__ bias, const u16* residual, void* y, int m, int n, int k,
          u8* __restrict__ workspace, u32* __restrict__ counters) {
  const Output out{y, bias, residual, m, n};
  gemm<Shape<EB_GROUP, EB_TOKEN_SCALE != 0, EB_ROW_SCALE != 0, EB_TOKENS, EB_TOKEN_WARPS, EB_TILES,
             EB_WARPS, EB_STAGES>,
       EB_EPILOGUE>(q, sx, w, out, k, workspace, counters);
}
