// w4a16 for 1 to 16 tokens: INT4 weights, fp16 activations, one pass over the weights.
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
// Macros: EB_GROUP 32 64 128, EB_TOKENS 1 2 4 8 16, EB_TILES (rows of tiles at a time), EB_WARPS,
//   EB_STAGES >= 2, EB_EPILOGUE (flags of epilogue.cuh), EB_DEPENDENT 1: launched with programmatic
//   stream serialization.
// Launch: grid (any number of blocks up to ceil(n / 16 EB_TILES)), 32 EB_WARPS threads, shared
//   bytes as geometry.py's gemv().
//
// Picture: a block takes its share of the rows, 16 EB_TILES at a time, and all of K; chunks of 128
// inputs go round the warps, so that together they read one sequential stream, each warp through a
// ring of its own that never runs dry: behind its last chunk of some rows come the next rows.
//
//     K ->        | chunk 0 | chunk 1 | .. | chunk 7 | chunk 8 | chunk 9 | ..
//     rows 0..    | warp 0    warp 1         warp 7  | warp 0    warp 1         (EB_WARPS = 8)
//     rows 32..   | warp 0    warp 1         warp 7  | warp 0    warp 1         (EB_TILES = 2)
//     stage of a warp:  | EB_TILES x (codes, scales, zeros) | EB_TOKENS x (128 halves + 16 bytes) |
//
//   In a warp D[16 rows x 8 tokens] += A[16 rows x 16 inputs] B[16 inputs x 8 tokens]: weights are
//   the A operand, as packed; tokens the B operand, by ldmatrix; columns past m are dropped. The
//   warps' parts of some rows meet in shared memory, where a warp adds and stores a token's.
//
// Roofline: 0.523 bytes a weight (G = 128) against 2 m FLOP: at m = 1 3.8 FLOP a byte, memory-bound
//   everywhere (qkv of Llama-3-8B, 6144 x 4096: 13.2 MB, 3.1 us at the 4240 GB/s of an H200).
//   What can break the bound is instruction issue, an H200 has 27 slots for a warp's word of 256
//   weights (tests/cuda/census.json says what the loop takes), and the edges: a launch whose blocks
//   do not come out even over the multiprocessors, and the way to memory before the first chunk.
//
// Idea: scales are applied to the fp32 sums of a group, 4 products instead of 32, so that tensor
//   cores see exact integers; no barrier while weights stream, as warps share nothing until rows
//   end. One block for each multiprocessor with an equal share of the rows. With EB_DEPENDENT the
//   first stages of weights are fetched while the kernels before still run: the ring takes less
//   than half of a multiprocessor's memory, so that two of these kernels fit beside each other.
//   Lost (H200): a block for each 16 EB_TILES rows, whose last wave was part empty: gate_up 22.0
//   us, where memory takes 14.5. Lost (instructions a word): ring index by remainder; copies behind
//   branches.
// Sources: own; packing in fragment order as Marlin does (Frantar et al., arXiv 2408.11743).
#include "epilogue.cuh"
#include "w4_tile.cuh"

// inputs of one row of x in shared memory; 16 bytes more, so that 8 rows lie in different banks
constexpr int kRowBytes = 2 * t16x64::kChunkInputs + 16;

template <int kGroupInputs, int kTokenCount, int kTileCount, int kWarpCount, int kStageCount>
struct Shape {
  static constexpr int kGroup = kGroupInputs;
  static constexpr int kTokens = kTokenCount;
  static constexpr int kTiles = kTileCount;  // rows of tiles at a time
  static constexpr int kWarps = kWarpCount;
  static constexpr int kStages = kStageCount;

  static constexpr int kEights = (kTokens + 7) / 8;  // tensor core tiles along tokens
  static constexpr int kColumns = 16 * kTiles;       // packed rows at a time
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kWeightBytes = kTiles * kTileBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokens * kRowBytes;
  static constexpr int kRingBytes = kStages * kStageBytes;  // of a warp
};

// The block's share of the rows, in packed rows / 16 EB_TILES.
struct Share {
  int begin, end;
};
template <class S>
EB_DEVICE Share share_of(int n) {
  const int all = (n + S::kColumns - 1) / S::kColumns;
  return {(int)((s64)all * block_x() / blocks_x()), (int)((s64)all * (block_x() + 1) / blocks_x())};
}

// Where the warp's copies read: chunks warp, warp + EB_WARPS, .. of the block's rows, and the same
// chunks of the tokens, which are read anew for all rows.
template <class S>
struct Reader {
  static constexpr int kQuads = 2 * t16x64::kChunkInputs / 16;  // of a row of x
  static constexpr int kStep = S::kWarps * S::kTileBytes;
  static constexpr int kStepInputs = S::kWarps * t16x64::kChunkInputs;

  const u8* w;      // the lane's place in the next chunk of the first row of tiles
  int stride;       // bytes of a row of tiles
  int rows;         // rows of tiles that exist, from the first; none when all was asked for
  int bytes_left;   // from the next chunk to the end of the row of tiles
  const u16* x;     // the lane's place in the next chunk of its first token's row
  int inputs_left;  // from the lane's place to the end of the row
  int tokens, k;    // that exist, from the lane's first
  int rounds_left;  // chunks of these rows
  int rounds;       // chunks of the warp
  int rows_left;    // of the block, behind these

  EB_DEVICE void copy_weights(u8* stage) const {
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      u8* const to = stage + tile * S::kTileBytes + 16 * lane_id();
      copy_chunk<S::kGroup>(to, w + tile * stride, bytes_left, tile < rows);
    }
  }
  EB_DEVICE void copy_tokens(u8* stage) const {
    const int token = lane_id() / kQuads;
    u8* const to = stage + S::kWeightBytes + token * kRowBytes + lane_id() % kQuads * 16;
#pragma unroll
    for (int i = 0; i < S::kTokens; i += 32 / kQuads)
      copy_async(to + i * kRowBytes, x + i * k, inputs_left > 0, rows > 0 && i < tokens);
    copy_commit();
  }
  EB_DEVICE void advance() {
    w += kStep;
    bytes_left -= kStep;
    x += kStepInputs;
    inputs_left -= kStepInputs;
    rounds_left -= 1;
    if (rounds_left > 0) return;
    w += S::kTiles * stride - rounds * kStep;
    bytes_left += rounds * kStep;
    x -= rounds * kStepInputs;
    inputs_left += rounds * kStepInputs;
    rounds_left = rounds;
    rows_left -= S::kTiles;
    rows = rows_left;
  }
};

template <class S>
EB_DEVICE Reader<S> reader_of(const u16* x, const u8* w, int m, int n, int k, Share mine,
                              int rounds) {
  const int tiles = (k + t16x64::kInputs - 1) / t16x64::kInputs;
  const int stride = row_bytes<S::kGroup>(tiles), at = warp_id() * S::kTileBytes;
  const int first = mine.begin * S::kTiles, end = mine.end * S::kTiles;
  const int all = (n + t16x64::kRows - 1) / t16x64::kRows;
  const int rows = rounds > 0 ? (all < end ? all : end) - first : 0;
  const int token = lane_id() / Reader<S>::kQuads, inside = lane_id() % Reader<S>::kQuads * 8;
  const int input = warp_id() * t16x64::kChunkInputs + inside;
  return {w + (s64)first * stride + at + 16 * lane_id(),
          stride,
          rows,
          stride - at,
          x + (s64)token * k + input,
          k - input,
          (m < S::kTokens ? m : S::kTokens) - token,
          k,
          rounds,
          rounds,
          rows};
}

// sums += the products of one chunk; sums[tile][eight] is a C fragment: 16 rows x 8 tokens.
template <class S>
EB_DEVICE void multiply(const u8* stage, float (*sums)[S::kEights][4]) {
  constexpr int kPairs = t16x64::kChunkInputs / 32, kGroupPairs = S::kGroup / 32;
  const int lane = lane_id(), g = lane / 4;
  const int row = lane % 8 < S::kTokens ? lane % 8 : S::kTokens - 1;  // columns past those: any
  const u8* const rows = stage + S::kWeightBytes + row * kRowBytes + lane / 8 * 16;
  Quad words[S::kTiles];
  Zeros zeros[S::kTiles];
  float parts[S::kTiles][S::kEights][4];
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {  // of steps of 16 inputs
    const int group = pair / kGroupPairs;
    u32 x[S::kEights][4];
#pragma unroll
    for (int eight = 0; eight < S::kEights; ++eight)
      load_matrix_x4(x[eight], rows + 8 * eight * kRowBytes + 64 * pair);
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      const u8* const weights = stage + tile * S::kTileBytes;
      if (pair % 2 == 0)
        words[tile] = *(const Quad*)(weights + codes_at<S::kGroup>(pair / 2) + 16 * lane);
      if (pair % kGroupPairs == 0) {
        zeros[tile] = zeros_of(zeros_at(weights + group_at<S::kGroup>(group), g));
#pragma unroll
        for (int i = 0; i < 4 * S::kEights; ++i) parts[tile][i / 4][i % 4] = 0;
      }
      const Quad quad = words[tile];
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        const u32 word = pair % 2 == 0 ? (step == 0 ? quad.x : quad.y)
                                       : (step == 0 ? quad.z : quad.w);
        u32 a[4];
        decode(word, zeros[tile], a);
#pragma unroll
        for (int eight = 0; eight < S::kEights; ++eight)
          mma_f16(parts[tile][eight], a, x[eight][2 * step], x[eight][2 * step + 1]);
      }
      if (pair % kGroupPairs != kGroupPairs - 1) continue;
      const u32 scales = scales_at(weights + group_at<S::kGroup>(group), g);
      const float low = low_half(scales), high = high_half(scales);
#pragma unroll
      for (int i = 0; i < 4 * S::kEights; ++i)
        sums[tile][i / 4][i % 4] += (i % 4 < 2 ? low : high) * parts[tile][i / 4][i % 4];
    }
  }
}

// part[token][16 tile + row] = the warp's sums.
template <class S>
EB_DEVICE void share_sums(float* part, const float (*sums)[S::kEights][4]) {
  const int g = lane_id() / 4, q = lane_id() % 4;
#pragma unroll
  for (int tile = 0; tile < S::kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4 * S::kEights; ++i) {
      const int token = i / 4 * 8 + 2 * q + i % 2, row = 16 * tile + g + i % 4 / 2 * 8;
      if (token < S::kTokens) part[token * S::kColumns + row] = sums[tile][i / 4][i % 4];
    }
  }
}

// The warps' parts of a token added, in the order of the warps: the same bits in every run. Each
// warp makes and stores the outputs of a token.
template <class S, int kFlags>
EB_DEVICE void add_and_store(const Output& out, float* parts, int first_row) {
  for (int token = warp_id(); token < S::kTokens && token < out.m; token += S::kWarps) {
    float* const total = parts + token * S::kColumns;
    for (int column = lane_id(); column < S::kColumns; column += 32) {
      float sum = 0;
#pragma unroll
      for (int warp = 0; warp < S::kWarps; ++warp)
        sum += total[warp * S::kTokens * S::kColumns + column];
      total[column] = sum;
    }
    warp_barrier();
    store_sums<kFlags>(out, total, S::kColumns, 1, S::kColumns, token, first_row, lane_id(), 32);
  }
}

template <class S, int kFlags, bool kDependent>
EB_DEVICE void gemv(const u16* x, const u8* w, const Output& out, int k) {
  EB_SHARED(memory);
  grid_dependency_launch();
  const Share mine = share_of<S>(out.n);
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  const int rounds = (chunks - warp_id() + S::kWarps - 1) / S::kWarps;
  auto reader = reader_of<S>(x, w, out.m, out.n, k, mine, rounds);
  u8* const ring = memory + warp_id() * S::kRingBytes;
  float* const parts = (float*)(memory + S::kWarps * S::kRingBytes);

  // Weights do not depend on the kernel before, activations do.
  auto late = reader;
#pragma unroll
  for (int stage = 0; stage < S::kStages - 1; ++stage) {
    reader.copy_weights(ring + stage * S::kStageBytes);
    if (!kDependent) reader.copy_tokens(ring + stage * S::kStageBytes);
    reader.advance();
  }
  if (kDependent) {
    grid_dependency_wait();
#pragma unroll
    for (int stage = 0; stage < S::kStages - 1; ++stage) {
      late.copy_tokens(ring + stage * S::kStageBytes);
      late.advance();
    }
  }
  int here = 0, next = S::kRingBytes - S::kStageBytes;
  for (int turn = mine.begin; turn < mine.end; ++turn) {
    float sums[S::kTiles][S::kEights][4] = {};
    for (int round = 0; round < rounds; ++round) {
      copy_wait<S::kStages - 2>();
      warp_barrier();
      reader.copy_weights(ring + next);
      reader.copy_tokens(ring + next);
      reader.advance();
      multiply<S>(ring + here, sums);
      next = here;
      here = here == S::kRingBytes - S::kStageBytes ? 0 : here + S::kStageBytes;
    }
    barrier();  // the parts of the rows before are read
    share_sums<S>(parts + warp_id() * S::kTokens * S::kColumns, sums);
    barrier();
    add_and_store<S, kFlags>(out, parts, S::kColumns * turn);
  }
}

// Registers that let a second kernel of 16 warps begin beside this one, where they suffice.
constexpr int kResident = EB_WARPS == 16 && EB_TILES <= 2 && EB_GROUP == 128 ? 2 : 1;

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * EB_WARPS, kResident)
w4a16_gemv(const u16* __restrict__ x, const u8* __restrict__ w, const u16* __restrict__ bias,
           const u16* residual, void* y, int m, int n, int k) {
  const Output out{y, bias, residual, m, n};
  gemv<Shape<EB_GROUP, EB_TOKENS, EB_TILES, EB_WARPS, EB_STAGES>, EB_EPILOGUE, EB_DEPENDENT != 0>(
      x, w, out, k);
}
