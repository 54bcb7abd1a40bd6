// w4a16 for 1 to 16 tokens: INT4 weights, fp16 activations, one pass over the weights.
//
// Formula: y[m, n] = epilogue( sum over groups G of  s[n, G] * sum over k in G of (c - z) x[m, k] )
//   c = code[n, k], z = zero[n, G]; inner sums in fp32 on exact products, outer sum in fp32, one
//   rounding at the end. The inner sum is that of (r + c) x less (r + z) sum x, with r = 256 or 16
//   (w4_tile.cuh), so that it is good to 2^-23 of the sum of |(r + c) x|, of a group.
//
// Arguments:
//   x         fp16 [m, k]           16-byte aligned, k a multiple of 8
//   w         u8, layout T16x64     int4_format_cuda.h, of n rows and k inputs, padded to tiles
//   bias      fp16 [n]              read with kBias; in the order of the weight matrix's rows
//   residual  fp16 [m, outputs]     read with kResidual; may be y itself
//   y         fp16 [m, outputs]     outputs = n, with kSwiGlu n / 2; with kFloatOut fp32
//   m, n, k   s32                   1 <= m <= EB_TOKENS; n counts gate and up
//   stream, weight, squares, parts, eps     stream.cuh, with kStream or kNormed; else null and 0
// Macros: EB_GROUP 32 64 128, EB_TOKENS 1 2 4 8 16, EB_TILES (rows of tiles of a warp), EB_WARPS,
//   EB_ROW_WARPS (that share tokens; divides EB_WARPS), EB_STAGES >= 2, EB_EPILOGUE (flags of
//   epilogue.cuh), EB_DEPENDENT 1: launched with programmatic stream serialization.
// Launch: grid (any number of blocks up to ceil(n / 16 EB_TILES EB_ROW_WARPS)), 32 EB_WARPS
//   threads, shared bytes as geometry.py's gemv().
//
// Picture: a block takes its share of the rows, 16 EB_TILES EB_ROW_WARPS at a time, and all of K.
// Chunks of 128 inputs go round the teams of EB_ROW_WARPS warps, so that together they read one
// sequential stream, each team through a ring of its own that never runs dry: behind its last chunk
// of some rows come the next rows.
//
//     K ->        | chunk 0 | chunk 1 | .. | chunk 7 | chunk 8 | chunk 9 | ..
//     rows 0..    | team 0    team 1         team 7  | team 0    team 1         (8 teams)
//     rows 32..   | team 0    team 1         team 7  | team 0    team 1         (EB_TILES = 2)
//                   `---------- round 0 ----------'    `--- round 1 ---
//     stage of a team:  | rows of tiles x (codes, scales, zeros) | EB_TOKENS x (128 halves + 16 B)
//     |
//
//   In a warp D[16 rows x 8 tokens] += A[16 rows x 16 inputs] B[16 inputs x 8 tokens]: weights are
//   the A operand, as packed; tokens the B operand, by ldmatrix; columns past m are dropped. The
//   teams' parts of some rows meet in shared memory, where a warp adds and stores a token's.
//
// Roofline: 0.523 bytes a weight (G = 128) against 2 m FLOP: at m = 1 3.8 FLOP a byte, memory-bound
//   everywhere (qkv of Llama-3-8B, 6144 x 4096: 13.2 MB, 3.1 us at the 4240 GB/s of an H200).
//   What can break the bound is instruction issue, an H200 has 27 slots for a warp's word of 256
//   weights (tests/cuda/census.json says what the loop takes); bytes under way, of which a
//   multiprocessor wants 60 KB and more under load; and the edges, where nothing is under way:
//   before the first chunk, and where blocks are not even over the multiprocessors.
//
// Idea: scales and zero points are applied to the fp32 sums of a group, 8 products instead of 32
//   and 32 differences; what the zero points are multiplied with, the sum of the tokens, is a
//   product of tensor cores with ones, one for all rows of tiles; no barrier of the block while
//   weights stream, as teams share nothing until rows end. One block for each multiprocessor with
//   an equal share of the rows, and as many of them at a time as registers allow. The first stages
//   of weights are fetched while the kernels before still run. Lost (H200): two blocks on a
//   multiprocessor, by fewer registers: of a grid that leaves some of them empty, two land on one
//   (o of Llama-3-8B 4.9 us for 4.3). Lost (H200, M = 1 and 16): a block for each 16 EB_TILES rows,
//   whose last wave was part empty; weights asked for into the L2 2 and 4 rounds ahead, and 12 MB
//   of the next product's, by the one before: both slower, so that what bounds is not the way to
//   memory. Lost (instructions a word): ring index by remainder; copies behind branches.
// Sources: own; packing in fragment order as Marlin does (Frantar et al., arXiv 2408.11743).
#include "stream.cuh"
#include "w4_tile.cuh"

// inputs of one row of x in shared memory; 16 bytes more, so that 8 rows lie in different banks
constexpr int kRowBytes = 2 * t16x64::kChunkInputs + 16;

template <int kGroupInputs, int kTokenCount, int kTileCount, int kWarpCount, int kRowWarpCount,
          int kStageCount>
struct Shape {
  static constexpr int kGroup = kGroupInputs;
  static constexpr int kTokens = kTokenCount;
  static constexpr int kTiles = kTileCount;  // rows of tiles of a warp
  static constexpr int kWarps = kWarpCount;
  static constexpr int kRowWarps = kRowWarpCount;  // of a team
  static constexpr int kStages = kStageCount;

  static constexpr int kTeams = kWarps / kRowWarps;
  static constexpr int kTeamTiles = kTiles * kRowWarps;  // rows of tiles at a time
  static constexpr int kColumns = 16 * kTeamTiles;       // packed rows at a time
  static constexpr int kEights = (kTokens + 7) / 8;      // tensor core tiles along tokens
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kStepBytes = kTeams * kTileBytes;  // of a round, of a row of tiles
  static constexpr int kWeightBytes = kTeamTiles * kTileBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokens * kRowBytes;
  static constexpr int kRingBytes = kStages * kStageBytes;  // of a team
  static_assert(kWarps % kRowWarps == 0, "whole teams");
  static_assert(kRowWarps == 1 || kTeams <= 15, "a named barrier for each team");

  static EB_DEVICE int team() { return warp_id() / kRowWarps; }
  static EB_DEVICE int team_warp() { return warp_id() % kRowWarps; }
  static EB_DEVICE int team_thread() { return thread_id() % (32 * kRowWarps); }
  static EB_DEVICE void team_barrier() {
    if constexpr (kRowWarps == 1) {
      warp_barrier();
    } else {
      barrier_named(1 + team(), 32 * kRowWarps);
    }
  }
};

// The block's share of the rows, in times kColumns packed rows.
struct Share {
  int begin, end;
};
template <class S>
EB_DEVICE Share share_of(int n) {
  const int all = (n + S::kColumns - 1) / S::kColumns;
  return {(int)((s64)all * block_x() / blocks_x()), (int)((s64)all * (block_x() + 1) / blocks_x())};
}
// Rows of tiles that the share has, of those that there are.
template <class S>
EB_DEVICE int rows_of(Share mine, int n) {
  const int all = (n + t16x64::kRows - 1) / t16x64::kRows, end = mine.end * S::kTeamTiles;
  return (all < end ? all : end) - mine.begin * S::kTeamTiles;
}

// ----------------------------------------------------------------------------------------- copying

// Where the team's copies read: chunks team, team + kTeams, .. of the block's rows, and the same
// chunks of the tokens, which are read anew for all rows.
template <class S>
struct Reader {
  static constexpr int kQuads = 2 * t16x64::kChunkInputs / 16;  // of a row of x
  static constexpr int kTokensAtOnce = 32 * S::kRowWarps / kQuads;
  static constexpr int kStepInputs = S::kTeams * t16x64::kChunkInputs;

  const u8* w;      // the lane's place in the next chunk of the warp's first row of tiles
  int stride;       // bytes of a row of tiles
  int rows;         // rows of tiles that exist, from the team's first; none when all was asked for
  int bytes_left;   // from the next chunk to the end of the row of tiles
  const u16* x;     // the thread's place in the next chunk of its first token's row
  int inputs_left;  // from the thread's place to the end of the row
  int tokens, k;    // that exist, from the thread's first
  int rounds_left;  // of these rows
  int rounds;       // chunks of the team

  // From behind the last chunk of some rows to the first one of the next.
  EB_DEVICE int to_next() const { return S::kTeamTiles * stride - rounds * S::kStepBytes; }

  EB_DEVICE void copy_weights(u8* stage) const {
    const int first = S::team_warp() * S::kTiles;
    u8* const to = stage + first * S::kTileBytes + 16 * lane_id();
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      copy_chunk<S::kGroup>(to + tile * S::kTileBytes, w + tile * stride, bytes_left,
                            first + tile < rows);
    }
  }
  EB_DEVICE void copy_tokens(u8* stage) const {
    u8* const to = stage + S::kWeightBytes + S::team_thread() / kQuads * kRowBytes +
                   S::team_thread() % kQuads * 16;
#pragma unroll
    for (int i = 0; i < S::kTokens; i += kTokensAtOnce)
      copy_async(to + i * kRowBytes, x + i * k, inputs_left > 0, rows > 0 && i < tokens);
    copy_commit();
  }
  EB_DEVICE void advance() {
    w += S::kStepBytes;
    bytes_left -= S::kStepBytes;
    x += kStepInputs;
    inputs_left -= kStepInputs;
    rounds_left -= 1;
    if (rounds_left > 0) return;
    w += to_next();
    bytes_left += rounds * S::kStepBytes;
    x -= rounds * kStepInputs;
    inputs_left += rounds * kStepInputs;
    rounds_left = rounds;
    rows -= S::kTeamTiles;
  }
};

template <class S>
EB_DEVICE Reader<S> reader_of(const u16* x, const u8* w, int stride, const Output& out, int k,
                              Share mine, int rounds) {
  const int first = mine.begin * S::kTeamTiles + S::team_warp() * S::kTiles;
  const int at = S::team() * S::kTileBytes, token = S::team_thread() / Reader<S>::kQuads;
  const int input = S::team() * t16x64::kChunkInputs + S::team_thread() % Reader<S>::kQuads * 8;
  return {w + (s64)first * stride + at + 16 * lane_id(),
          stride,
          rounds > 0 ? rows_of<S>(mine, out.n) : 0,
          stride - at,
          x + (s64)token * k + input,
          k - input,
          (out.m < S::kTokens ? out.m : S::kTokens) - token,
          k,
          rounds,
          rounds};
}

// ------------------------------------------------------------------------------------- multiplying

// sums += the products of one chunk; sums[tile][eight] is a C fragment: 16 rows x 8 tokens.
template <class S>
EB_DEVICE void multiply(const u8* stage, float (*sums)[S::kEights][4]) {
  constexpr int kPairs = t16x64::kChunkInputs / 32, kGroupPairs = S::kGroup / 32;
  const int lane = lane_id(), g = lane / 4;
  const int row = lane % 8 < S::kTokens ? lane % 8 : S::kTokens - 1;  // columns past those: any
  const u8* const rows = stage + S::kWeightBytes + row * kRowBytes + lane / 8 * 16;
  const u8* const tiles = stage + S::team_warp() * S::kTiles * S::kTileBytes;
  const u32 ones[4] = {0x3c003c00, 0x3c003c00, 0x3c003c00, 0x3c003c00};
  Quad words[S::kTiles];
  float parts[S::kTiles][S::kEights][4];  // of a group, weights raised
  float totals[S::kEights][4];            // of its tokens
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {  // of steps of 16 inputs
    const int group = pair / kGroupPairs;
    u32 x[S::kEights][4];
#pragma unroll
    for (int eight = 0; eight < S::kEights; ++eight)
      load_matrix_x4(x[eight], rows + 8 * eight * kRowBytes + 64 * pair);
#pragma unroll
    for (int eight = 0; eight < S::kEights; ++eight) {
      if (pair % kGroupPairs == 0) {
#pragma unroll
        for (int i = 0; i < 4; ++i) totals[eight][i] = 0;
      }
      mma_f16(totals[eight], ones, x[eight][0], x[eight][1]);
      mma_f16(totals[eight], ones, x[eight][2], x[eight][3]);
    }
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      const u8* const weights = tiles + tile * S::kTileBytes;
      if (pair % 2 == 0)
        words[tile] = *(const Quad*)(weights + codes_at<S::kGroup>(pair / 2) + 16 * lane);
      if (pair % kGroupPairs == 0) {
#pragma unroll
        for (int i = 0; i < 4 * S::kEights; ++i) parts[tile][i / 4][i % 4] = 0;
      }
      const Quad quad = words[tile];
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        const u32 word =
            pair % 2 == 0 ? (step == 0 ? quad.x : quad.y) : (step == 0 ? quad.z : quad.w);
        u32 a[4];
        decode_raised(word, a);
#pragma unroll
        for (int eight = 0; eight < S::kEights; ++eight)
          mma_f16(parts[tile][eight], a, x[eight][2 * step], x[eight][2 * step + 1]);
      }
      if (pair % kGroupPairs != kGroupPairs - 1) continue;
      const u8* const tail = weights + group_at<S::kGroup>(group);
      const Zeros zeros = zeros_of(zeros_at(tail, g));
      const float low_zero = lowered_low(zeros), high_zero = lowered_high(zeros);
      const u32 scales = scales_at(tail, g);
      const float low = low_half(scales), high = high_half(scales);
#pragma unroll
      for (int i = 0; i < 4 * S::kEights; ++i) {
        const int eight = i / 4, c = i % 4;
        const float part =
            parts[tile][eight][c] + (c < 2 ? low_zero : high_zero) * totals[eight][c];
        sums[tile][eight][c] += (c < 2 ? low : high) * part;
      }
    }
  }
}

// part[token][row] = the warp's sums, of the team's part.
template <class S>
EB_DEVICE void share_sums(float* part, const float (*sums)[S::kEights][4]) {
  const int g = lane_id() / 4, q = lane_id() % 4;
#pragma unroll
  for (int tile = 0; tile < S::kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4 * S::kEights; ++i) {
      const int token = i / 4 * 8 + 2 * q + i % 2;
      const int row = 16 * (S::team_warp() * S::kTiles + tile) + g + i % 4 / 2 * 8;
      if (token < S::kTokens) part[token * S::kColumns + row] = sums[tile][i / 4][i % 4];
    }
  }
}

// The teams' parts of a token added, in the order of the teams: the same bits in every run. Each
// warp makes and stores the outputs of a token.
template <class S, int kFlags>
EB_DEVICE void add_and_store(const Output& out, const Stream& stream, float* parts,
                             const float* inverses, int turn) {
  static_assert((kFlags & kStream) == 0 || kFlags == kStream, "nothing else is fused");
  for (int token = warp_id(); token < S::kTokens && token < out.m; token += S::kWarps) {
    float* const total = parts + token * S::kColumns;
    for (int column = lane_id(); column < S::kColumns; column += 32) {
      float sum = 0;
#pragma unroll
      for (int team = 0; team < S::kTeams; ++team)
        sum += total[team * S::kTokens * S::kColumns + column];
      if constexpr ((kFlags & kNormed) != 0) sum *= inverses[token];
      total[column] = sum;
    }
    warp_barrier();
    if constexpr ((kFlags & kStream) != 0) {
      join_stream(out, stream, total, S::kColumns, token, turn);
    } else {
      store_sums<kFlags>(out, total, S::kColumns, 1, S::kColumns, token, S::kColumns * turn,
                         lane_id(), 32);
    }
  }
}

template <class S, int kFlags, bool kDependent>
EB_DEVICE void gemv(const u16* x, const u8* w, const Output& out, const Stream& stream, int k) {
  EB_SHARED(memory);
  grid_dependency_launch();
  const Share mine = share_of<S>(out.n);
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  const int rounds = (chunks - S::team() + S::kTeams - 1) / S::kTeams;
  const int stride = row_bytes<S::kGroup>((k + t16x64::kInputs - 1) / t16x64::kInputs);
  auto reader = reader_of<S>(x, w, stride, out, k, mine, rounds);
  u8* const ring = memory + S::team() * S::kRingBytes;
  float* const parts = (float*)(memory + S::kTeams * S::kRingBytes);
  float* const inverses = parts + S::kTeams * S::kTokens * S::kColumns;

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
  if constexpr ((kFlags & kNormed) != 0) {  // read behind the barriers of the first rows
    for (int token = warp_id(); token < S::kTokens && token < out.m; token += S::kWarps)
      inverses[token] = inverse_of(stream, token, k);
  }
  int here = 0, next = S::kRingBytes - S::kStageBytes;
  for (int turn = mine.begin; turn < mine.end; ++turn) {
    float sums[S::kTiles][S::kEights][4] = {};
    for (int round = 0; round < rounds; ++round) {
      copy_wait<S::kStages - 2>();
      S::team_barrier();
      reader.copy_weights(ring + next);
      reader.copy_tokens(ring + next);
      reader.advance();
      multiply<S>(ring + here, sums);
      next = here;
      here = here == S::kRingBytes - S::kStageBytes ? 0 : here + S::kStageBytes;
    }
    barrier();  // the parts of the rows before are read
    share_sums<S>(parts + S::team() * S::kTokens * S::kColumns, sums);
    barrier();
    add_and_store<S, kFlags>(out, stream, parts, inverses, turn);
  }
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * EB_WARPS, 1)
w4a16_gemv(const u16* __restrict__ x, const u8* __restrict__ w, const u16* __restrict__ bias,
           const u16* residual, void* y, int m, int n, int k, float* stream,
           const float* __restrict__ weight, float* squares, int parts, float eps) {
  const Output out{y, bias, residual, m, n};
  gemv<Shape<EB_GROUP, EB_TOKENS, EB_TILES, EB_WARPS, EB_ROW_WARPS, EB_STAGES>, EB_EPILOGUE,
       EB_DEPENDENT != 0>(x, w, out, {stream, weight, squares, parts, eps}, k);
}
