// w4a8 and w4a16 for many tokens, AVX-512 VNNI: compute-bound.
//
// Formula, with w = code - zero as a signed byte and u = v + 128 as an unsigned one (flip 0x80):
//   sum_k w v = sum_k w u - 128 sum_k w;   y[t,n] += x_scale[t,g] * scale[n,g] * sum_k w v
//   a16 runs both halves of a token as two byte rows: 256 * row_high + row_low.
//
// Arguments: as in w4_gemv_avx512.cpp, but x holds flipped bytes and `scratch` is used
// (kScratchBytes).
//
// Picture: all tokens of a chunk pass over one group before the next is unpacked.
//   scratch (L1):  | weights s8 [B/4][64 rows][4 inputs] | start i32 [64] | scale fp32 [64] |
//                     8192 B at B = 128                    -128 sum_k w
//   register tile: 6 byte rows x 64 outputs = 24 sums;  per 4 inputs: 4 loads, 6 broadcasts, 24
//   dots. The zero point costs nothing: it is in w, and the correction is what the sums start from.
//
// Roofline: 2 * 64 * B operations for each token and block; unpacking (about 8 instructions for 512
//   weights) is shared by up to 240 tokens. Bound: the vpdpbusd peak. Share reached:
//   kernels/README.md.
//
// The idea: the next packed block is prefetched while this one computes (16 tokens: 0.39 -> 0.71 of
// the
//   peak on Zen 4), and dot products are one-instruction asm (see dot_bytes).
// Sources: own design; u8 x s8 offset as in oneDNN's and XNNPACK's int8 GEMMs.
#include "avx512.h"
#include "w4_avx512.h"

namespace edgebench {
namespace avx512 {
namespace {

constexpr int kTileRows = 6;
constexpr int kQuadBytes = kBlockRows * 4;  // the 64 rows' bytes of 4 inputs

struct Tile {
  alignas(64) int8_t weights[kMaxBlockInputs / 4 * kQuadBytes];
  alignas(64) int32_t start[kBlockRows];
  alignas(64) float scale[kBlockRows];
};
static_assert(sizeof(Tile) <= kScratchBytes, "the tile lives in the thread's scratch");

template <int kInputs>
EB_INLINE void unpack(const uint8_t* block, Tile* tile) {
  const __m512i mask = _mm512_set1_epi8(0x0f);
  const __m512i offset = _mm512_set1_epi8((char)0x80);
  constexpr int kSteps = kInputs / kStepInputs;
  const uint8_t* const tail = block + kSteps * kStepBytes;
  for (int j = 0; j < kColumns; ++j) {
    // The row's zero point in all four bytes of its lane: codes - zero fits a signed byte.
    const __m512i zero = _mm512_mullo_epi32(zeros_of(tail, j), _mm512_set1_epi32(0x01010101));
    __m512i correction = _mm512_setzero_si512();
    int8_t* to = tile->weights + 64 * j;
    for (int s = 0; s < kSteps; ++s, to += 2 * kQuadBytes) {
      const __m512i word = _mm512_loadu_si512(block + s * kStepBytes + 64 * j);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(word, 4), mask);
      const __m512i near = _mm512_sub_epi8(_mm512_and_si512(word, mask), zero);
      const __m512i far = _mm512_sub_epi8(high, zero);
      _mm512_store_si512(to, near);
      _mm512_store_si512(to + kQuadBytes, far);
      correction = dot_bytes(dot_bytes(correction, offset, near), offset, far);
    }
    _mm512_store_si512(tile->start + kLanes * j,
                       _mm512_sub_epi32(_mm512_setzero_si512(), correction));
    _mm512_store_ps(tile->scale + kLanes * j, scales_of(tail, j));
  }
}

// kRows byte rows (kRows / halves tokens) times 64 outputs over one group.
template <Family kFamily, int kInputs, int kRows>
EB_INLINE void micro(const uint8_t* rows, const Tile& tile, const float* x_scale, bool is_first,
                     float* out, const uint8_t* next) {
  constexpr int kHalves = halves_of(kFamily);
  __m512i sums[kRows][kColumns];
#pragma GCC unroll 4
  for (int j = 0; j < kColumns; ++j) {
    const __m512i start = _mm512_load_si512(tile.start + kLanes * j);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) sums[r][j] = start;
  }
#pragma GCC unroll 2
  for (int q = 0; q < kInputs / 4; ++q) {
    __m512i w[kColumns];
    _mm_prefetch((const char*)next + 64 * q, _MM_HINT_T0);
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      w[j] = _mm512_load_si512(tile.weights + q * kQuadBytes + 64 * j);
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m512i u = broadcast_bytes(rows + r * kInputs + 4 * q);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sums[r][j] = dot_bytes(sums[r][j], u, w[j]);
    }
  }
#pragma GCC unroll 6
  for (int t = 0; t < kRows / kHalves; ++t) {
    const __m512 token_scale = _mm512_set1_ps(x_scale[t]);
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      __m512i total = sums[t * kHalves][j];
      if (kHalves == 2) {
        total = _mm512_add_epi32(_mm512_slli_epi32(total, 8), sums[t * kHalves + kHalves - 1][j]);
      }
      const __m512 scale = _mm512_load_ps(tile.scale + kLanes * j);
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(total), scale);
      float* const y = out + t * kBlockRows + kLanes * j;
      const __m512 before = is_first ? _mm512_setzero_ps() : _mm512_load_ps(y);
      _mm512_store_ps(y, _mm512_fmadd_ps(scaled, token_scale, before));
    }
  }
}

// The last tokens of a chunk: fewer rows than a full tile.
template <Family kFamily, int kInputs, int kRows>
EB_INLINE void micro_rest(int left, const uint8_t* rows, const Tile& tile, const float* x_scale,
                          bool is_first, float* out, const uint8_t* next) {
  constexpr int kHalves = halves_of(kFamily);
  if (left * kHalves == kRows) {
    micro<kFamily, kInputs, kRows>(rows, tile, x_scale, is_first, out, next);
  } else if constexpr (kRows > kHalves) {
    micro_rest<kFamily, kInputs, kRows - kHalves>(left, rows, tile, x_scale, is_first, out, next);
  }
}

template <Family kFamily, int kInputs>
EB_INLINE void gemm(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                    uint8_t* scratch) {
  constexpr int kHalves = halves_of(kFamily);
  constexpr int kTileTokens = kTileRows / kHalves;
  constexpr int kSize = block_bytes(kInputs);
  constexpr int kPrefetched = 64 * (kInputs / 4);  // by one register tile
  Tile* const tile = (Tile*)scratch;
  const uint8_t* block = weights.blocks;
  for (int g = 0; g < weights.groups; ++g, block += kSize) {
    unpack<kInputs>(block, tile);
    const uint8_t* const group = x.bytes + (size_t)g * x.tokens * kHalves * kInputs;
    const float* const scales = x.scale + (size_t)g * x.tokens;
    int ahead = kSize;  // each register tile prefetches its share of the next block
    for (int t = first; t < last; t += kTileTokens) {
      const uint8_t* const rows = group + (size_t)t * kHalves * kInputs;
      float* const y = out + (t - first) * kBlockRows;
      const uint8_t* const next = block + ahead;
      ahead = ahead + kPrefetched < 2 * kSize ? ahead + kPrefetched : kSize;
      if (last - t >= kTileTokens) {
        micro<kFamily, kInputs, kTileRows>(rows, *tile, scales + t, g == 0, y, next);
      } else {
        micro_rest<kFamily, kInputs, kTileRows - kHalves>(last - t, rows, *tile, scales + t, g == 0,
                                                          y, next);
      }
    }
  }
}

// The block size as a constant: GCC 12 spills where trip counts and row strides are variables.
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

}  // namespace avx512
}  // namespace edgebench
