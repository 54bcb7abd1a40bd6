// w4a16 for 8 to 64 tokens on Hopper: tokens stay in shared memory, weights stream past them.
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
// Macros: EB_GROUP 32 64 128, EB_TOKENS 8 16 32 64, EB_TILES (rows of tiles of a warp), EB_WARPS,
//   EB_STAGES >= 2, EB_BLOCKS 1 2 4 8 (of a cluster), EB_PASSES (over the part of K; of more than
//   one, each has its tokens in turn), EB_PLACES 1 2 (for sums), EB_EPILOGUE (flags of epilogue.cuh
//   without kStream, kNormed).
// Launch: grid (clusters, 1, EB_BLOCKS) in clusters of (1, 1, EB_BLOCKS) blocks, 32 EB_WARPS
//   threads, shared bytes as geometry.py's cluster().
//
// Picture: a cluster takes its share of the rows, kRows at a time; each of its blocks takes a part
// of K, so that all that a block ever needs of the tokens is that part: it is copied once and
// stays. A warp streams its own rows' chunks through a ring of its own, which never runs dry:
// behind the last chunk of some rows come the next rows.
//
//     K ->        |  block 0   |  block 1   | ..  |  block 7   |
//     tokens      |  x, stays  |  x, stays  |     |  x, stays  |   57 KB of 16 tokens, K = 14336
//     rows 0..    |  warp 0: chunk 0, 1, .. |     |            |
//     rows 16..   |  warp 1                 |     |            |
//                 `-- sums of kRows rows, by a part of K each: block r stores tokens r, r + 8, ..
//                 --
//
//     memory: tokens [EB_TOKENS][inputs of a pass] fp16, rows 16 bytes longer | totals fp32 [groups
//             of a pass][EB_TOKENS] | a ring for each warp | sums fp32
//             [EB_PLACES][EB_TOKENS][kRows + 4]
//
// Roofline: 0.523 bytes a weight (G = 128) and the tokens once for a cluster: 30.7 MB and 7.5 MB of
//   L2 for `down` of Llama-3-8B at 16 tokens, of which w4a16_gemv reads 58 MB. Memory-bound while
//   instruction issue keeps up: 6 for decoding a word of 256 weights and m / 8 products; from 64
//   tokens on it is the way of tokens from shared memory to registers, 2 KB a word and row of
//   tiles.
//
// Idea: what a zero point is multiplied with, the sum of a token over a group, is computed once for
//   a block instead of once for each row of tiles. Two chains of sums a tile where there is one
//   tile, since a product waits for the one before it. Sums lie in two places by turns, where there
//   is room, so that one barrier of the cluster for some rows is enough: who lays down sums again
//   at a place has passed the barrier that every reader of the sums before reached behind its
//   reading.
// Sources: own.
#include "cluster_sums.cuh"
#include "w4_tile.cuh"

template <int kGroupInputs, int kTokenCount, int kTileCount, int kWarpCount, int kStageCount,
          int kBlockCount, int kPassCount, int kPlaceCount>
struct Shape {
  static constexpr int kGroup = kGroupInputs;
  static constexpr int kTokens = kTokenCount;
  static constexpr int kTiles = kTileCount;  // rows of tiles of a warp
  static constexpr int kWarps = kWarpCount;
  static constexpr int kStages = kStageCount;
  static constexpr int kBlocks = kBlockCount;  // of a cluster
  static constexpr int kPasses = kPassCount;
  static constexpr int kPlaces = kPlaceCount;  // for sums

  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kEights = kTokens / 8;
  static constexpr int kChains = kTiles == 1 ? 2 : 1;            // of sums, of a tile
  static constexpr int kGroups = t16x64::kChunkInputs / kGroup;  // of a chunk
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kStageBytes = kTiles * kTileBytes;  // of a warp
  static constexpr int kRingBytes = kStages * kStageBytes;
  static constexpr int kRows = 16 * kTiles * kWarps;  // packed rows at a time
  static constexpr int kStride = kRows + 4;           // of sums
  static constexpr int kSumBytes = 4 * kTokens * kStride;
  static constexpr int kChunkBytes = 2 * t16x64::kChunkInputs;  // of a token
  static_assert(kTokens % 8 == 0 && kTokens % kBlocks == 0, "tokens are shared out");

  // Of a pass over a block's part of so many chunks of K, at most; and of a token in it.
  static EB_DEVICE int pass_chunks(int chunks) {
    return ((chunks + kBlocks - 1) / kBlocks + kPasses - 1) / kPasses;
  }
  static EB_DEVICE int row_bytes(int chunks) { return pass_chunks(chunks) * kChunkBytes + 16; }
};

// The block's part of K, or that of a pass, in chunks.
struct Part {
  int begin, count;

  EB_DEVICE Part pass(int i, int length) const {
    const int first = i * length, left = count - first;
    return {begin + first, left < 0 ? 0 : left < length ? left : length};
  }
};
template <class S>
EB_DEVICE Part part_of(int chunks) {
  const int rank = S::kBlocks == 1 ? 0 : cluster_rank();
  const int begin = chunks * rank / S::kBlocks;
  return {begin, chunks * (rank + 1) / S::kBlocks - begin};
}

// ----------------------------------------------------------------------------------------- copying

// Where the warp's copies read: the part's chunks of its rows, for all rows of the cluster.
template <class S>
struct Reader {
  const u8* w;     // the lane's place in the next chunk of the first row of tiles
  int stride;      // bytes of a row of tiles
  int rows;        // rows of tiles that exist, from the warp's first; none when all was asked for
  int bytes_left;  // from the next chunk to the end of the row of tiles
  int chunks_left, chunks;

  EB_DEVICE void copy(u8* stage) const {
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      copy_chunk<S::kGroup>(stage + tile * S::kTileBytes + 16 * lane_id(), w + tile * stride,
                            bytes_left, tile < rows);
    }
    copy_commit();
  }
  EB_DEVICE void advance() {
    w += S::kTileBytes;
    bytes_left -= S::kTileBytes;
    if (--chunks_left > 0) return;
    w += S::kRows / t16x64::kRows * stride - chunks * S::kTileBytes;
    bytes_left += chunks * S::kTileBytes;
    chunks_left = chunks;
    rows -= S::kRows / t16x64::kRows;
  }
};

// `turns`: of kRows rows, begin .. end - 1 of the cluster.
template <class S>
EB_DEVICE Reader<S> reader_of(const u8* w, const Output& out, int k, Part part, int begin,
                              int end) {
  constexpr int kTurnTiles = S::kRows / t16x64::kRows;
  const int stride = row_bytes<S::kGroup>((k + t16x64::kInputs - 1) / t16x64::kInputs);
  const int all = (out.n + t16x64::kRows - 1) / t16x64::kRows, last = end * kTurnTiles;
  const int first = begin * kTurnTiles + warp_id() * S::kTiles;
  const int at = part.begin * S::kTileBytes;
  return {w + (s64)first * stride + at + 16 * lane_id(),
          stride,
          part.count > 0 ? (all < last ? all : last) - first : 0,
          stride - at,
          part.count,
          part.count};
}

// Start copying a pass's inputs of all tokens; what lies past k becomes zeros.
template <class S>
EB_DEVICE void copy_tokens(u8* memory, const u16* x, int m, int k, Part part, int row_bytes) {
  constexpr int kQuads = S::kChunkBytes / 16;  // of a token in a chunk
  const int quads = part.count * kQuads, first = part.begin * kQuads;
  for (int token = warp_id(); token < m; token += S::kWarps) {
    const u16* const from = x + (s64)token * k;
    for (int i = lane_id(); i < quads; i += 32) {
      const int input = (first + i) * 8;
      copy_async(memory + token * row_bytes + 16 * i, from + input, input < k);
    }
  }
  copy_commit();
}

// ------------------------------------------------------------------------------------- multiplying

// The B fragments of 32 inputs of all tokens; `rows`: the lane's row of the first 8 tokens.
template <class S>
EB_DEVICE void load_tokens(const u8* rows, int row_bytes, u32 (*x)[4]) {
#pragma unroll
  for (int eight = 0; eight < S::kEights; ++eight)
    load_matrix_x4(x[eight], rows + 8 * eight * row_bytes);
}
EB_DEVICE const u8* lane_row(const u8* tokens, int row_bytes) {
  return tokens + lane_id() % 8 * row_bytes + lane_id() / 8 * 16;
}

// totals[group of the pass][token] = the sum of the token's inputs, by products with ones.
template <class S>
EB_DEVICE void add_tokens(const u8* tokens, int row_bytes, float* totals, int chunks) {
  constexpr int kPairs = S::kGroup / 32;
  const u32 ones[4] = {0x3c003c00, 0x3c003c00, 0x3c003c00, 0x3c003c00};
  const u8* const rows = lane_row(tokens, row_bytes);
#pragma unroll 1
  for (int group = warp_id(); group < chunks * S::kGroups; group += S::kWarps) {
    float sums[S::kEights][4] = {};
#pragma unroll 1
    for (int pair = 0; pair < kPairs; ++pair) {
      u32 x[S::kEights][4];
      load_tokens<S>(rows + (group * kPairs + pair) * 64, row_bytes, x);
#pragma unroll
      for (int eight = 0; eight < S::kEights; ++eight) {
        mma_f16(sums[eight], ones, x[eight][0], x[eight][1]);
        mma_f16(sums[eight], ones, x[eight][2], x[eight][3]);
      }
    }
    if (lane_id() >= 4) continue;  // all rows of the product are alike
#pragma unroll
    for (int eight = 0; eight < S::kEights; ++eight) {
      float* const to = totals + group * S::kTokens + 8 * eight + 2 * lane_id();
      to[0] = sums[eight][0];
      to[1] = sums[eight][1];
    }
  }
}

// sums += the products of one chunk; sums[tile][eight] is a C fragment: 16 rows x 8 tokens.
// `rows`: the lane's row of the tokens at this chunk; `totals`: of its first group.
template <class S>
EB_DEVICE void multiply(const u8* stage, const u8* rows, int row_bytes, const float* totals,
                        float (&sums)[S::kTiles][S::kEights][4]) {
  constexpr int kPairs = t16x64::kChunkInputs / 32, kGroupPairs = S::kGroup / 32;
  const int lane = lane_id(), g = lane / 4, q = lane % 4;
  Quad words[S::kTiles];
  float parts[S::kTiles][S::kChains][S::kEights][4];  // of a group, weights raised
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {  // of steps of 16 inputs
    u32 x[S::kEights][4];
    load_tokens<S>(rows + 64 * pair, row_bytes, x);
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      const u8* const weights = stage + tile * S::kTileBytes;
      if (pair % 2 == 0)
        words[tile] = *(const Quad*)(weights + codes_at<S::kGroup>(pair / 2) + 16 * lane);
      if (pair % kGroupPairs == 0) {
#pragma unroll
        for (int i = 0; i < 4 * S::kEights * S::kChains; ++i)
          parts[tile][i / (4 * S::kEights)][i / 4 % S::kEights][i % 4] = 0;
      }
      const Quad quad = words[tile];
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        const u32 word =
            pair % 2 == 0 ? (step == 0 ? quad.x : quad.y) : (step == 0 ? quad.z : quad.w);
        u32 a[4];
        decode_raised(word, a);
#pragma unroll
        for (int eight = 0; eight < S::kEights; ++eight) {
          mma_f16(parts[tile][step % S::kChains][eight], a, x[eight][2 * step],
                  x[eight][2 * step + 1]);
        }
      }
      if (pair % kGroupPairs != kGroupPairs - 1) continue;
      const int group = pair / kGroupPairs;
      const u8* const tail = weights + group_at<S::kGroup>(group);
      const Zeros zeros = zeros_of(zeros_at(tail, g));
      const float low_zero = lowered_low(zeros), high_zero = lowered_high(zeros);
      const u32 scales = scales_at(tail, g);
      const float low = low_half(scales), high = high_half(scales);
#pragma unroll
      for (int eight = 0; eight < S::kEights; ++eight) {
        const u64 both = *(const u64*)(totals + group * S::kTokens + 8 * eight + 2 * q);
        const float total[2] = {bits_float((u32)both), bits_float((u32)(both >> 32))};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          float part = parts[tile][0][eight][c];
          if constexpr (S::kChains == 2) part += parts[tile][1][eight][c];
          part += (c < 2 ? low_zero : high_zero) * total[c % 2];
          sums[tile][eight][c] += (c < 2 ? low : high) * part;
        }
      }
    }
  }
}

// The tokens of a pass and their totals, from the last use of those before to the next ones' first.
template <class S>
EB_DEVICE void bring_tokens(u8* tokens, float* totals, const u16* x, const Output& out, int k,
                            Part pass, int row_bytes) {
  copy_tokens<S>(tokens, x, out.m < S::kTokens ? out.m : S::kTokens, k, pass, row_bytes);
  copy_wait<0>();
  barrier();
  add_tokens<S>(tokens, row_bytes, totals, pass.count);
  barrier();
}

// All threads of the cluster.
template <class S>
EB_DEVICE void meet() {
  if constexpr (S::kBlocks == 1) {
    barrier();
  } else {
    cluster_barrier();
  }
}

template <class S, int kFlags>
EB_DEVICE void product(const u16* x, const u8* w, const Output& out, int k) {
  static_assert((kFlags & (kStream | kNormed)) == 0, "of the GEMV alone");
  EB_SHARED(memory);
  grid_dependency_launch();
  const int chunks = (k + t16x64::kChunkInputs - 1) / t16x64::kChunkInputs;
  const Part part = part_of<S>(chunks);
  const int row_bytes = S::row_bytes(chunks);
  u8* const tokens = memory;
  float* const totals = (float*)(tokens + S::kTokens * row_bytes);
  const int length = S::pass_chunks(chunks);
  u8* const rings = (u8*)(totals + length * S::kGroups * S::kTokens);
  u8* const ring = rings + warp_id() * S::kRingBytes;
  u8* const places = rings + S::kWarps * S::kRingBytes;

  const int turns = (out.n + S::kRows - 1) / S::kRows;
  const int begin = (int)((s64)turns * block_x() / blocks_x());
  const int end = (int)((s64)turns * (block_x() + 1) / blocks_x());
  auto reader = reader_of<S>(w, out, k, part, begin, end);
  // Weights do not depend on the kernel before, activations do.
#pragma unroll
  for (int stage = 0; stage < S::kStages - 1; ++stage) {
    reader.copy(ring + stage * S::kStageBytes);
    reader.advance();
  }
  grid_dependency_wait();
  if constexpr (S::kPasses == 1) bring_tokens<S>(tokens, totals, x, out, k, part, row_bytes);

  const u8* const rows = lane_row(tokens, row_bytes);
  int here = 0, next = S::kRingBytes - S::kStageBytes;
  for (int turn = begin; turn < end; ++turn) {
    float sums[S::kTiles][S::kEights][4] = {};
    for (int i = 0; i < S::kPasses; ++i) {
      const Part pass = part.pass(i, length);
      if constexpr (S::kPasses > 1) {
        barrier();  // the tokens before are read
        bring_tokens<S>(tokens, totals, x, out, k, pass, row_bytes);
      }
      for (int chunk = 0; chunk < pass.count; ++chunk) {
        copy_wait<S::kStages - 2>();
        warp_barrier();
        reader.copy(ring + next);
        reader.advance();
        multiply<S>(ring + here, rows + chunk * S::kChunkBytes, row_bytes,
                    totals + chunk * S::kGroups * S::kTokens, sums);
        next = here;
        here = here == S::kRingBytes - S::kStageBytes ? 0 : here + S::kStageBytes;
      }
    }
    u8* const place = places + (turn - begin) % S::kPlaces * S::kSumBytes;
    if (S::kPlaces == 1 && turn > begin) meet<S>();  // the sums before are read
    lay_down<S>(sums, place);
    meet<S>();
    store_share<S, kFlags, S::kBlocks>(out, place, 0, turn * S::kRows);
  }
  if constexpr (S::kBlocks > 1) cluster_barrier_relaxed();  // no block ends before all have read
}

// No __restrict__ on residual and y: they may be the same.
EB_KERNEL(32 * EB_WARPS, 1)
w4a16_cluster(const u16* __restrict__ x, const u8* __restrict__ w, const u16* __restrict__ bias,
              const u16* residual, void* y, int m, int n, int k) {
  const Output out{y, bias, residual, m, n};
  product<
      Shape<EB_GROUP, EB_TOKENS, EB_TILES, EB_WARPS, EB_STAGES, EB_BLOCKS, EB_PASSES, EB_PLACES>,
      EB_EPILOGUE>(x, w, out, k);
}
