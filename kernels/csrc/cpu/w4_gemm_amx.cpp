// w4a8 and w4a16 for many tokens, AMX int8: compute-bound.
//
// Formula, with w = code - zero and v, both signed bytes:
//   y[t,n] += x_scale[t,g] * scale[n,g] * sum_k w v
//   a16 runs both halves of a token as two byte rows: 256 * row_high + row_low.
//
// Arguments: as in w4_gemv_avx512.cpp; x holds signed bytes (flip 0), `scratch` is used.
//
// Picture: all tokens of a chunk pass over one group before the next is unpacked.
//   scratch (L1):  | weights s8 [B/4][64 rows][4 inputs] | sums i32 [2][2][32][16] | scale [64] |
//
//   A tile: 16 byte rows x 64 inputs, straight from x (stride B); the last rows from a copy.
//
//   B tile: 16 quads x (16 outputs x 4 inputs), straight from the unpacked weights (stride 256).
//
//            B6 (outputs 0..15)  B7 (16..31)       32 byte rows x 32 outputs take
//     A4         C0                  C1            B/64 x (4 loads + 4 tdpbssd), then the sums are
//     A5         C2                  C3            stored, scaled and added to the fp32 tile
//
// Roofline: 2 * 64 * B operations for each byte row and block; a tdpbssd is 32768 of them, in 16
//   cycles. Bound: not that peak. A group of 128 leaves two tdpbssd (32 cycles) for each 16 x 16
//   sums; storing those takes 16 cycles in which no tile is multiplied, and scaling them 48 of the
//   one port that is left for 512-bit floats meanwhile. Share reached: kernels/README.md.
//
// The idea: the sums of one half of the columns are scaled between the products of the other half,
//   a few tokens behind each (two buffers). Prefetched a few lines a pass: the packed block after
//   the next (all 67 at once would hold up the tiles' own loads), and, where the chunk's tokens do
//   not stay in L2, the next tokens.
// Sources: Intel SDM volume 2 (TDPBSSD), optimization manual chapter 20; own design.
#include "amx.h"
#include "w4_amx.h"

namespace edgebench {
namespace amx {
namespace {

using avx512::kColumns;
using avx512::kLanes;

constexpr int kPassRows = 2 * kMaxRows;     // byte rows of one pass: two A tiles
constexpr int kQuadBytes = kBlockRows * 4;  // the 64 rows' bytes of 4 inputs
constexpr int kPairs = kColumns / 2;        // pairs of B tiles: halves of the 64 outputs
constexpr int kBlocksAhead = 2;             // how far packed weights are prefetched
constexpr size_t kNearBytes = 1 << 20;  // of a chunk's tokens that stay in L2 between block rows

using Sums = int32_t[2][kPassRows][kLanes];  // of a pair: [column of the pair][byte row][output]

struct Scratch {
  alignas(64) int8_t weights[kMaxBlockInputs / 4 * kQuadBytes];
  alignas(64) Sums sums[kPairs];
  alignas(64) float scale[kBlockRows];
};
static_assert(sizeof(Scratch) <= kScratchBytes, "lives in the thread's scratch");

template <int kInputs>
EB_INLINE void unpack(const uint8_t* block, Scratch* scratch) {
  const __m512i mask = _mm512_set1_epi8(0x0f);
  constexpr int kSteps = kInputs / kStepInputs;
  const uint8_t* const tail = block + kSteps * kStepBytes;
  for (int j = 0; j < kColumns; ++j) {
    const __m512i zero =
        _mm512_mullo_epi32(avx512::zeros_of(tail, j), _mm512_set1_epi32(0x01010101));
    int8_t* to = scratch->weights + 64 * j;
    for (int s = 0; s < kSteps; ++s, to += 2 * kQuadBytes) {
      const __m512i word = _mm512_loadu_si512(block + s * kStepBytes + 64 * j);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(word, 4), mask);
      _mm512_store_si512(to, _mm512_sub_epi8(_mm512_and_si512(word, mask), zero));
      _mm512_store_si512(to + kQuadBytes, _mm512_sub_epi8(high, zero));
    }
    _mm512_store_ps(scratch->scale + kLanes * j, avx512::scales_of(tail, j));
  }
}

constexpr int depth_of(int inputs) { return inputs < kMaxRowBytes ? inputs : kMaxRowBytes; }

// 32 byte rows (16 when not kBoth) times one pair of columns, into tmm0..tmm3; `behind(i)` runs
// behind product i, of 2 (4 when kBoth) for each depth of inputs.
template <int kInputs, bool kBoth, typename Behind>
EB_INLINE void multiply(const int8_t* rows, const int8_t* weights, const Behind& behind) {
  settle(rows);
  _tile_zero(0);
  _tile_zero(1);
  if (kBoth) {
    _tile_zero(2);
    _tile_zero(3);
  }
  int product = 0;
#pragma GCC unroll 2
  for (int k = 0; k < kInputs; k += depth_of(kInputs)) {
    const int8_t* const b = weights + k / 4 * kQuadBytes;
    _tile_loadd(6, b, kQuadBytes);
    _tile_loadd(4, rows + k, kInputs);
    _tile_dpbssd(0, 4, 6);
    behind(product++);
    _tile_loadd(7, b + 64, kQuadBytes);
    _tile_dpbssd(1, 4, 7);
    behind(product++);
    if (kBoth) {
      _tile_loadd(5, rows + kMaxRows * kInputs + k, kInputs);
      _tile_dpbssd(2, 5, 6);
      behind(product++);
      _tile_dpbssd(3, 5, 7);
      behind(product++);
    }
  }
}

template <bool kBoth>
EB_INLINE void store_sums(Sums& sums) {
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
  if (kBoth) {
    _tile_stored(2, sums[0] + kMaxRows, 64);
    _tile_stored(3, sums[1] + kMaxRows, 64);
  }
}

// What is left to do with one pair's sums: nothing while tokens is 0.
struct Unscaled {
  const Sums* sums;
  const float* scale;  // of the pair's outputs
  const float* x_scale;
  float* out;  // the pair's columns
  int tokens;
};

// The sums of tokens from <= t < to, scaled and added to out.
template <Family kFamily>
EB_INLINE void scale_into(const Unscaled& of, int from, int to, bool is_first) {
  constexpr int kHalves = halves_of(kFamily);
  const __m512 scales[2] = {_mm512_load_ps(of.scale), _mm512_load_ps(of.scale + kLanes)};
#pragma GCC unroll 8
  for (int t = from; t < to; ++t) {
    const __m512 token_scale = _mm512_set1_ps(of.x_scale[t]);
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      __m512i total = _mm512_load_si512((*of.sums)[j][t * kHalves]);
      if (kHalves == 2) {
        const __m512i low = _mm512_load_si512((*of.sums)[j][t * kHalves + 1]);
        total = _mm512_add_epi32(_mm512_slli_epi32(total, 8), low);
      }
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(total), scales[j]);
      float* const y = of.out + t * kBlockRows + kLanes * j;
      const __m512 before = is_first ? _mm512_setzero_ps() : _mm512_load_ps(y);
      _mm512_store_ps(y, _mm512_fmadd_ps(scaled, token_scale, before));
    }
  }
}

// One pair's products into `sums`, and meanwhile what is left of the pair before.
template <Family kFamily, int kInputs, bool kBoth>
EB_INLINE void step(const int8_t* rows, const int8_t* weights, const Unscaled& before,
                    bool is_first, Sums& sums) {
  constexpr int kTokens = kPassRows / halves_of(kFamily);
  constexpr int kShare = kTokens / (kInputs / depth_of(kInputs) * (kBoth ? 4 : 2));
  if (before.tokens == kTokens && !is_first) {
    multiply<kInputs, kBoth>(rows, weights, [&](int product) {
      scale_into<kFamily>(before, product * kShare, (product + 1) * kShare, false);
    });
  } else {
    multiply<kInputs, kBoth>(rows, weights, [](int) {});
    scale_into<kFamily>(before, 0, before.tokens, is_first);
  }
  store_sums<kBoth>(sums);
}

// Memory that is prefetched a few lines at a time, until its end.
struct Ahead {
  const uint8_t* next;
  const uint8_t* end;
  int lines;
};

template <_mm_hint kHint>
EB_INLINE void fetch(Ahead* memory) {
  for (int i = 0; i < memory->lines && memory->next < memory->end; ++i, memory->next += 64) {
    _mm_prefetch((const char*)memory->next, kHint);
  }
}

// All tokens of the chunk over one group.
template <Family kFamily, int kInputs>
EB_INLINE void pass(const int8_t* rows, const float* x_scale, int tokens, bool is_first,
                    const uint8_t* block_ahead, bool is_far, Scratch* scratch, int8_t* spare,
                    float* out) {
  constexpr int kHalves = halves_of(kFamily);
  constexpr int kPassTokens = kPassRows / kHalves;
  constexpr int kPassBytes = kPassRows * kInputs;
  const int steps = (tokens + kPassTokens - 1) / kPassTokens * kPairs;
  constexpr int kSize = block_bytes(kInputs);
  Ahead block = {block_ahead, block_ahead + kSize, (kSize / 64 + steps - 1) / steps};
  const uint8_t* const bytes = (const uint8_t*)rows;
  Ahead tokens_ahead = {bytes + kPassBytes, bytes + (size_t)tokens * kHalves * kInputs,
                        is_far ? kPassBytes / kPairs / 64 : 0};
  Unscaled last = {scratch->sums, scratch->scale, x_scale, out, 0};
  for (int t = 0; t < tokens; t += kPassTokens) {
    const int now = tokens - t < kPassTokens ? tokens - t : kPassTokens;
    const int8_t* from = rows + (size_t)t * kHalves * kInputs;
    if (now * kHalves % kMaxRows != 0) {
      memcpy(spare, from, (size_t)now * kHalves * kInputs);
      from = spare;
    }
    for (int pair = 0; pair < kPairs; ++pair) {
      const int8_t* const weights = scratch->weights + pair * 2 * 64;
      Sums& sums = scratch->sums[pair];
      fetch<_MM_HINT_T1>(&block);
      fetch<_MM_HINT_T0>(&tokens_ahead);
      if (now * kHalves > kMaxRows) {
        step<kFamily, kInputs, true>(from, weights, last, is_first, sums);
      } else {
        step<kFamily, kInputs, false>(from, weights, last, is_first, sums);
      }
      const int column = pair * 2 * kLanes;
      last = {&sums, scratch->scale + column, x_scale + t, out + t * kBlockRows + column, now};
    }
  }
  scale_into<kFamily>(last, 0, last.tokens, is_first);
}

template <Family kFamily, int kInputs>
EB_INLINE void gemm(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                    uint8_t* memory) {
  constexpr int kSize = block_bytes(kInputs);
  constexpr int kTokenBytes = halves_of(kFamily) * kInputs;
  alignas(64) int8_t spare[kPassRows * kInputs];  // a tile reads 16 rows: not past the last token
  Scratch* const scratch = (Scratch*)memory;
  memset(spare, 0, sizeof(spare));
  configure(depth_of(kInputs));
  const bool is_far = (size_t)weights.groups * (last - first) * kTokenBytes > kNearBytes;
  const uint8_t* block = weights.blocks;
  for (int g = 0; g < weights.groups; ++g, block += kSize) {
    unpack<kInputs>(block, scratch);
    const size_t start = (size_t)g * x.tokens + first;
    pass<kFamily, kInputs>((const int8_t*)x.bytes + start * kTokenBytes, x.scale + start,
                           last - first, g == 0, block + kBlocksAhead * kSize, is_far, scratch,
                           spare, out);
  }
  _tile_release();
}

template <Family kFamily>
EB_INLINE void gemm_any(const BlockRow& weights, const Activations& x, int first, int last,
                        float* out, uint8_t* scratch) {
  switch (weights.inputs) {
    case 128:
      return gemm<kFamily, 128>(weights, x, first, last, out, scratch);
    case 64:
      return gemm<kFamily, 64>(weights, x, first, last, out, scratch);
    default:
      return gemm<kFamily, 32>(weights, x, first, last, out, scratch);
  }
}

}  // namespace

void gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch) {
  gemm_any<kA8>(weights, x, first, last, out, scratch);
}

void gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
              uint8_t* scratch) {
  gemm_any<kA16>(weights, x, first, last, out, scratch);
}

}  // namespace amx
}  // namespace edgebench
