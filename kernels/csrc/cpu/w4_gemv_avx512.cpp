// w4a8 and w4a16 for one token and for few, AVX-512 VNNI: straight from the nibbles, memory-bound.
//
// Formula, token t, row n (v = quantized activation; a16: v = 256 * high + low):
//   y[t,n] = sum_g x_scale[t,g] * scale[n,g] * (sum_k code[n,k] v[t,k] - zero[n,g] * sum_k v[t,k])
//
// Arguments
//   weights  BlockRow     64 rows, `groups` blocks of B inputs, one sequential stream
//   (int4_format.h) x        Activations  signed bytes (flip 0), [group][token][half][B] out fp32
//   [tokens][64], 64-byte aligned
//
// Picture: one step of a block is 256 bytes = 4 registers; a lane is an output row.
//   step s:  | rows 0..15 | 16..31 | 32..47 | 48..63 |   each lane: 4 inputs low, 4 inputs high
//   w & 0x0f0f0f0f        . broadcast x[8s .. 8s+3]       -> low sums
//   w & 0xf0f0f0f0 = 16 * code . broadcast x[8s+4 .. 8s+7] -> high sums, >> 4 once a group (one
//   token) a16: the same bytes again with the low halves of x; 256 * high + low once a group.
//
// Roofline: B = 128 reads 4288 B for 64 * 128 weights; one token needs 128 (a8) or 256 (a16) byte
// dot
//   products a block, 0.03-0.06 an byte: at one a cycle and 3.5 GHz that is 58-117 GB/s a core, far
//   above DRAM. Bound: read bandwidth. Reached on a 2-core Zen 5 VM: see kernels/README.md.
//
// The idea: nothing but the weights is read from memory, in address order, by one stream a thread.
//   How far to prefetch depends on the core (dispatch.cpp): Zen 4 wants none, Zen 5 8 KB.
//   Tried on Zen 4 and lost: several streams (0.5-0.7 of bandwidth), 4 KB pages
//   (0.74-0.90).
// Sources: own design; unpacking idea from TinyChat (Lin et al., MLSys 2024, section 4).
#include "avx512.h"
#include "w4_avx512.h"

namespace edgebench {
namespace avx512 {
namespace {

// One token: separate sums for low and high nibbles save the shift.
template <Family kFamily, int kInputs>
EB_INLINE void gemv(const BlockRow& weights, const Activations& x, int token, float* out) {
  constexpr int kHalves = halves_of(kFamily);
  constexpr int kSteps = kInputs / kStepInputs;
  const uint8_t* block = weights.blocks;
  const int ahead = weights.prefetch;
  const __m512i low_mask = _mm512_set1_epi8(0x0f);
  const __m512i high_mask = _mm512_set1_epi8((char)0xf0);
  __m512 y[kColumns];
  for (int j = 0; j < kColumns; ++j) y[j] = _mm512_setzero_ps();
  for (int g = 0; g < weights.groups; ++g) {
    const size_t slot = (size_t)g * x.tokens + token;
    const uint8_t* bytes = x.bytes + slot * kHalves * kInputs;
    __m512i low[kHalves][kColumns], high[kHalves][kColumns];
    for (int h = 0; h < kHalves; ++h) {
      for (int j = 0; j < kColumns; ++j) low[h][j] = high[h][j] = _mm512_setzero_si512();
    }
#pragma GCC unroll 2
    for (int s = 0; s < kSteps; ++s, bytes += kStepInputs) {
      __m512i near[kHalves], far[kHalves];  // inputs 8s..8s+3 and 8s+4..8s+7
      for (int h = 0; h < kHalves; ++h) {
        near[h] = broadcast_bytes(bytes + h * kInputs);
        far[h] = broadcast_bytes(bytes + h * kInputs + 4);
      }
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) {
        const uint8_t* const at = block + s * kStepBytes + 64 * j;
        _mm_prefetch((const char*)at + ahead, _MM_HINT_T0);
        const __m512i word = _mm512_loadu_si512(at);
        const __m512i low_codes = _mm512_and_si512(word, low_mask);
        const __m512i high_codes = _mm512_and_si512(word, high_mask);
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h) {
          low[h][j] = dot_bytes(low[h][j], low_codes, near[h]);
          high[h][j] = dot_bytes(high[h][j], high_codes, far[h]);
        }
      }
    }
    const uint8_t* const tail = block + kSteps * kStepBytes;
    const __m512 x_scale = _mm512_set1_ps(x.scale[slot]);
    const __m512i sum = _mm512_set1_epi32(x.sum[slot]);
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      __m512i total = _mm512_add_epi32(low[0][j], _mm512_srai_epi32(high[0][j], 4));
      if (kHalves == 2) {
        const __m512i rest =
            _mm512_add_epi32(low[kHalves - 1][j], _mm512_srai_epi32(high[kHalves - 1][j], 4));
        total = _mm512_add_epi32(_mm512_slli_epi32(total, 8), rest);
      }
      total = _mm512_sub_epi32(total, _mm512_mullo_epi32(zeros_of(tail, j), sum));
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(total), scales_of(tail, j));
      y[j] = _mm512_fmadd_ps(scaled, x_scale, y[j]);
    }
    block = tail + kTailBytes;
  }
  for (int j = 0; j < kColumns; ++j) _mm512_store_ps(out + kLanes * j, y[j]);
}

// Byte rows that walk a block at once. Measured on Zen 4, w4a16, share of the int8 peak at 4
// tokens: 8 rows x 2 columns 0.70 (a broadcast serves 2 dots), 4 x 4 0.75; at 3 tokens 6 x 4 0.66.
constexpr int kFewRows = 4;

// One group for tokens kFirst .. kFirst + kCount - 1 of kTokens: kCount * halves byte rows times
// all 4 columns, so that the sums (at most 24) and the codes stay in registers.
template <Family kFamily, int kInputs, int kTokens, int kFirst, int kCount>
EB_INLINE void few_in_group(const uint8_t* block, const Activations& x, int g, int ahead,
                            float* out) {
  constexpr int kHalves = halves_of(kFamily);
  constexpr int kRows = kCount * kHalves;
  static_assert(kRows * kColumns <= 24, "sums, codes and one broadcast must fit in 32 registers");
  constexpr int kSteps = kInputs / kStepInputs;
  const __m512i mask = _mm512_set1_epi8(0x0f);
  const size_t slot = (size_t)g * kTokens + kFirst;
  const uint8_t* const rows = x.bytes + slot * kHalves * kInputs;
  const uint8_t* const tail = block + kSteps * kStepBytes;
  __m512i sums[kRows][kColumns];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) sums[r][j] = _mm512_setzero_si512();
  }
  for (int s = 0; s < kSteps; ++s) {
    const uint8_t* const word = block + s * kStepBytes;
    const uint8_t* const at = rows + s * kStepInputs;
    __m512i codes[kColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      if (kFirst == 0) _mm_prefetch((const char*)word + 64 * j + ahead, _MM_HINT_T0);
      codes[j] = _mm512_and_si512(_mm512_loadu_si512(word + 64 * j), mask);
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m512i near = broadcast_bytes(at + r * kInputs);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sums[r][j] = dot_bytes(sums[r][j], codes[j], near);
    }
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      const __m512i shifted = _mm512_srli_epi16(_mm512_loadu_si512(word + 64 * j), 4);
      codes[j] = _mm512_and_si512(shifted, mask);
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m512i far = broadcast_bytes(at + r * kInputs + 4);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sums[r][j] = dot_bytes(sums[r][j], codes[j], far);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kColumns; ++j) {
    const __m512 scale = scales_of(tail, j);
    const __m512i zero = zeros_of(tail, j);
#pragma GCC unroll 6
    for (int t = 0; t < kCount; ++t) {
      __m512i total = sums[t * kHalves][j];
      if (kHalves == 2) {
        total = _mm512_add_epi32(_mm512_slli_epi32(total, 8), sums[t * kHalves + kHalves - 1][j]);
      }
      const __m512i sum = _mm512_set1_epi32(x.sum[slot + t]);
      total = _mm512_sub_epi32(total, _mm512_mullo_epi32(zero, sum));
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(total), scale);
      const __m512 x_scale = _mm512_set1_ps(x.scale[slot + t]);
      float* const y = out + (kFirst + t) * kBlockRows + kLanes * j;
      const __m512 before = g == 0 ? _mm512_setzero_ps() : _mm512_load_ps(y);
      _mm512_store_ps(y, _mm512_fmadd_ps(scaled, x_scale, before));
    }
  }
}

// All kTokens tokens of one group, kFewRows byte rows at a time: after the first, from L1.
template <Family kFamily, int kInputs, int kTokens, int kFirst>
EB_INLINE void few_from(const uint8_t* block, const Activations& x, int g, int ahead, float* out) {
  constexpr int kMost = kFewRows / halves_of(kFamily);
  constexpr int kCount = kTokens - kFirst < kMost ? kTokens - kFirst : kMost;
  few_in_group<kFamily, kInputs, kTokens, kFirst, kCount>(block, x, g, ahead, out);
  if constexpr (kFirst + kCount < kTokens) {
    few_from<kFamily, kInputs, kTokens, kFirst + kCount>(block, x, g, ahead, out);
  }
}

// kTokens tokens, all of x.
template <Family kFamily, int kInputs, int kTokens>
EB_INLINE void few(const BlockRow& weights, const Activations& x, float* out) {
  const uint8_t* block = weights.blocks;
  // Unlike one token, few leave the core no room to run ahead of its loads by itself: at least the
  // next block is asked for.
  const int ahead = weights.prefetch > 0 ? weights.prefetch : block_bytes(kInputs);
  for (int g = 0; g < weights.groups; ++g, block += block_bytes(kInputs)) {
    few_from<kFamily, kInputs, kTokens, 0>(block, x, g, ahead, out);
  }
}

// few<kFamily, tokens> for a token count known only now. All tokens of x form one chunk.
template <Family kFamily, int kInputs, int kTokens>
EB_INLINE void few_of(const BlockRow& weights, const Activations& x, float* out) {
  if (x.tokens == kTokens) {
    few<kFamily, kInputs, kTokens>(weights, x, out);
  } else if constexpr (kTokens > 2) {
    few_of<kFamily, kInputs, kTokens - 1>(weights, x, out);
  }
}

// The block size as a constant: GCC 12 spills where trip counts and row strides are variables.
template <Family kFamily>
EB_INLINE void gemv_any(const BlockRow& weights, const Activations& x, int token, float* out) {
  switch (weights.inputs) {
    case 128:
      return gemv<kFamily, 128>(weights, x, token, out);
    case 64:
      return gemv<kFamily, 64>(weights, x, token, out);
    default:
      return gemv<kFamily, 32>(weights, x, token, out);
  }
}

template <Family kFamily, int kTokens>
EB_INLINE void few_any(const BlockRow& weights, const Activations& x, float* out) {
  switch (weights.inputs) {
    case 128:
      return few_of<kFamily, 128, kTokens>(weights, x, out);
    case 64:
      return few_of<kFamily, 64, kTokens>(weights, x, out);
    default:
      return few_of<kFamily, 32, kTokens>(weights, x, out);
  }
}

}  // namespace

void gemv_a8(const BlockRow& weights, const Activations& x, int first, int /*last*/, float* out,
             uint8_t* /*scratch*/) {
  gemv_any<kA8>(weights, x, first, out);
}

void gemv_a16(const BlockRow& weights, const Activations& x, int first, int /*last*/, float* out,
              uint8_t* /*scratch*/) {
  gemv_any<kA16>(weights, x, first, out);
}

void few_a8(const BlockRow& weights, const Activations& x, int /*first*/, int /*last*/, float* out,
            uint8_t* /*scratch*/) {
  few_any<kA8, kFewA8>(weights, x, out);
}

void few_a16(const BlockRow& weights, const Activations& x, int /*first*/, int /*last*/, float* out,
             uint8_t* /*scratch*/) {
  few_any<kA16, kFewA16>(weights, x, out);
}

}  // namespace avx512
}  // namespace edgebench
