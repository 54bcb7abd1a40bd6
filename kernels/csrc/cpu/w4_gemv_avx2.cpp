// w4a8 and w4a16 for one token, AVX2: straight from the nibbles, memory-bound.
//
// Formula and arguments: w4_gemv_avx512.cpp. One difference in arithmetic: without VNNI, vpmaddubsw
// adds pairs of u8 x s8 products into 16-bit lanes, which must not saturate:
//   |code * byte| <= 15 * 128, two of them 3840; a chunk of 4 steps adds 8 such pairs: 30720 <
//   32768.
// So sums stay 16-bit for 4 steps (1 KB of codes), then vpmaddwd widens them; for a16 that same
// instruction multiplies the high half by 256, and both halves meet in one 32-bit sum.
//
// Picture: 4 steps x 64 rows = 1 KB = 4 x 8 registers; 16 registers cannot hold 2 halves x 8
// columns of sums, so each 1 KB chunk is walked twice, columns 0..3 and 4..7, the second time from
// L1. Roofline: a16 costs about 450 instructions per 1 KB: 8-10 bytes a cycle and core at IPC 4,
// above what
//   one core of a desktop or server gets from DRAM. Bound: read bandwidth; see kernels/README.md.
// Tried on Zen 4 and lost: two passes over the whole block row (0.65-0.83 of bandwidth).
#include "avx2.h"
#include "w4_avx2.h"

namespace edgebench {
namespace avx2 {
namespace {

constexpr int kChunkSteps = 4;
constexpr int kWidth = 4;  // columns per walk

// sums[64 rows] += the dot products of 4 steps, both halves combined.
template <Family kFamily>
EB_INLINE void add_chunk(const uint8_t* block, const uint8_t* bytes, int inputs, int ahead,
                         bool is_first, int32_t* sums) {
  constexpr int kHalves = halves_of(kFamily);
  const __m256i mask = _mm256_set1_epi8(0x0f);
  for (int j0 = 0; j0 < kColumns; j0 += kWidth) {
    __m256i pairs[kHalves][kWidth];
    for (int h = 0; h < kHalves; ++h) {
      for (int j = 0; j < kWidth; ++j) pairs[h][j] = _mm256_setzero_si256();
    }
#pragma GCC unroll 1
    for (int s = 0; s < kChunkSteps; ++s) {
      if (j0 == 0) {
        for (int line = 0; line < kStepBytes; line += 64) {
          _mm_prefetch((const char*)block + s * kStepBytes + line + ahead, _MM_HINT_T0);
        }
      }
#pragma GCC unroll 2
      for (int nibble = 0; nibble < 2; ++nibble) {
        __m256i x[kHalves];
        for (int h = 0; h < kHalves; ++h) {
          x[h] = broadcast_bytes(bytes + h * inputs + s * kStepInputs + 4 * nibble);
        }
#pragma GCC unroll 4
        for (int j = 0; j < kWidth; ++j) {
          const auto* const at = (const __m256i*)(block + s * kStepBytes + 32 * (j0 + j));
          __m256i codes = _mm256_loadu_si256(at);
          if (nibble == 1) codes = _mm256_srli_epi16(codes, 4);
          codes = _mm256_and_si256(codes, mask);
#pragma GCC unroll 2
          for (int h = 0; h < kHalves; ++h) {
            pairs[h][j] = _mm256_add_epi16(pairs[h][j], _mm256_maddubs_epi16(codes, x[h]));
          }
        }
      }
    }
#pragma GCC unroll 4
    for (int j = 0; j < kWidth; ++j) {
      auto* const at = (__m256i*)(sums + kLanes * (j0 + j));
      __m256i total = _mm256_madd_epi16(pairs[0][j], _mm256_set1_epi16(kHalves == 2 ? 256 : 1));
      if (kHalves == 2) {
        const __m256i low = _mm256_madd_epi16(pairs[kHalves - 1][j], _mm256_set1_epi16(1));
        total = _mm256_add_epi32(total, low);
      }
      if (!is_first) total = _mm256_add_epi32(total, _mm256_load_si256(at));
      _mm256_store_si256(at, total);
    }
  }
}

template <Family kFamily>
EB_INLINE void gemv(const BlockRow& weights, const Activations& x, int token, float* out) {
  const int inputs = weights.inputs;
  const int steps = inputs / kStepInputs;
  const uint8_t* block = weights.blocks;
  alignas(32) int32_t sums[kBlockRows];
  for (int j = 0; j < kColumns; ++j) _mm256_store_ps(out + kLanes * j, _mm256_setzero_ps());
  for (int g = 0; g < weights.groups; ++g) {
    const size_t slot = (size_t)g * x.tokens + token;
    const uint8_t* const bytes = x.bytes + slot * halves_of(kFamily) * inputs;
    for (int s = 0; s < steps; s += kChunkSteps) {
      add_chunk<kFamily>(block + s * kStepBytes, bytes + s * kStepInputs, inputs, weights.prefetch,
                         s == 0, sums);
    }
    const uint8_t* const tail = block + steps * kStepBytes;
    const __m256 x_scale = _mm256_set1_ps(x.scale[slot]);
    const __m256i sum = _mm256_set1_epi32(x.sum[slot]);
    for (int j = 0; j < kColumns; ++j) {
      const __m256i total = _mm256_load_si256((const __m256i*)(sums + kLanes * j));
      const __m256 before = _mm256_load_ps(out + kLanes * j);
      _mm256_store_ps(out + kLanes * j, add_scaled(before, total, zeros_of(tail, j), sum,
                                                   scales_of(tail, j), x_scale));
    }
    block = tail + kTailBytes;
  }
}

}  // namespace

void gemv_a8(const BlockRow& weights, const Activations& x, int first, int /*last*/, float* out,
             uint8_t* /*scratch*/) {
  gemv<kA8>(weights, x, first, out);
}

void gemv_a16(const BlockRow& weights, const Activations& x, int first, int /*last*/, float* out,
              uint8_t* /*scratch*/) {
  gemv<kA16>(weights, x, first, out);
}

}  // namespace avx2
}  // namespace edgebench
