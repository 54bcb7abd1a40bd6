// Activations fp32 -> int8 (a8) or 16-bit fixed point in two bytes (a16), AVX2.
//
// Formula, arguments, handling of NaN and infinity: activations_avx512.cpp; same bits as
// w4_linear_ref.cpp. 32 inputs at a time: four registers of int32 become one of bytes.
// Roofline: reads 4 B, writes 1-2 B an input; about 1 us for 4096 inputs.
#include <math.h>

#include "activation_groups.h"
#include "avx2.h"
#include "w4_avx2.h"

namespace edgebench {
namespace avx2 {
namespace {

EB_INLINE uint32_t largest_lane(__m256i v) {
  __m128i half = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xb1));
  return (uint32_t)_mm_cvtsi128_si32(half);
}

EB_INLINE int32_t sum_of_lanes(__m256i v) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtsi128_si32(half);
}

// 32 values within -128..127 as bytes, in order (the packs work within 128-bit halves).
EB_INLINE void store_bytes(uint8_t* to, const __m256i v[4], __m256i flip) {
  const __m256i pairs =
      _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(pairs, order);
  _mm256_storeu_si256((__m256i*)to, _mm256_xor_si256(bytes, flip));
}

struct Isa {
  template <Family kFamily>
  EB_INLINE void quantize_group(const float* x, int inputs, uint8_t flip, uint8_t* bytes,
                                float* scale, int32_t* sum) {
    constexpr float kLevels = kFamily == kA16 ? kA16Levels : kA8Levels;
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i largest = _mm256_setzero_si256();
    for (int i = 0; i < inputs; i += kLanes) {
      const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
      largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, magnitude));
    }
    const uint32_t peak_bits = largest_lane(largest);
    const bool is_finite = peak_bits < 0x7f800000u;
    float peak;
    memcpy(&peak, &peak_bits, 4);
    if (!(peak > kSmallestPeak)) peak = kSmallestPeak;
    const __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi32(is_finite ? -1 : 0));
    const __m256 inverse = _mm256_set1_ps(kLevels / peak);
    const __m256i flips = _mm256_set1_epi8((char)flip);
    __m256i total = _mm256_setzero_si256();
    for (int i = 0; i < inputs; i += 4 * kLanes) {
      __m256i high[4], low[4];
      for (int part = 0; part < 4; ++part) {
        const __m256 value = _mm256_and_ps(_mm256_loadu_ps(x + i + kLanes * part), keep);
        const __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(value, inverse));
        total = _mm256_add_epi32(total, v);
        high[part] = v;
        if (kFamily == kA16) {
          high[part] = _mm256_srai_epi32(_mm256_add_epi32(v, _mm256_set1_epi32(128)), 8);
          low[part] = _mm256_sub_epi32(v, _mm256_slli_epi32(high[part], 8));
        }
      }
      store_bytes(bytes + i, high, flips);
      if (kFamily == kA16) store_bytes(bytes + inputs + i, low, flips);
    }
    *scale = is_finite ? peak / kLevels : NAN;
    *sum = sum_of_lanes(total);
  }
};

}  // namespace

void quantize_a8(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                 const Activations& out) {
  quantize_groups<Isa, kA8>(x, k, inputs, token, flip, out);
}

void quantize_a16(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                  const Activations& out) {
  quantize_groups<Isa, kA16>(x, k, inputs, token, flip, out);
}

}  // namespace avx2
}  // namespace edgebench
