// Activations fp32 -> int8 (a8) or 16-bit fixed point in two bytes (a16), AVX-512.
//
// Formula, per token and group of B: peak = max(max |x|, 1e-30), v = rint(x * levels / peak),
//   x_scale = peak / levels; levels 127 (a8) or 32512 (a16). a16: high = (v + 128) >> 8,
//   low = v - 256 * high, both within -128..127. A group with NaN or infinity: x_scale NaN, v = 0.
// Arguments: see QuantizeFn in ops.h. Same bits as w4_linear_ref.cpp.
// The idea: the peak is a maximum of the magnitudes' bit patterns as integers, where infinity and
// NaN
//   sort above every finite number, so one comparison per group finds them.
// Roofline: reads 4 B, writes 1-2 B an input, about 1 us for 4096 inputs: lost in any GEMV it
// feeds.
#include <math.h>

#include "activation_groups.h"
#include "avx512.h"
#include "w4_avx512.h"

namespace edgebench {
namespace avx512 {
namespace {

EB_INLINE void store_bytes(uint8_t* to, __m512i v, __m128i flip) {
  _mm_storeu_si128((__m128i*)to, _mm_xor_si128(_mm512_cvtepi32_epi8(v), flip));
}

struct Isa {
  template <Family kFamily>
  EB_INLINE void quantize_group(const float* x, int inputs, uint8_t flip, uint8_t* bytes,
                                float* scale, int32_t* sum) {
    constexpr float kLevels = kFamily == kA16 ? kA16Levels : kA8Levels;
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int i = 0; i < inputs; i += kLanes) {
      const __m512i bits = _mm512_castps_si512(_mm512_loadu_ps(x + i));
      largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, magnitude));
    }
    const uint32_t peak_bits = _mm512_reduce_max_epu32(largest);
    const bool is_finite = peak_bits < 0x7f800000u;
    float peak;
    memcpy(&peak, &peak_bits, 4);
    if (!(peak > kSmallestPeak)) peak = kSmallestPeak;
    const __mmask16 keep = is_finite ? 0xffff : 0;
    const __m512 inverse = _mm512_set1_ps(kLevels / peak);
    const __m128i flips = _mm_set1_epi8((char)flip);
    __m512i total = _mm512_setzero_si512();
    for (int i = 0; i < inputs; i += kLanes) {
      const __m512 value = _mm512_maskz_mul_ps(keep, _mm512_loadu_ps(x + i), inverse);
      const __m512i v = _mm512_cvtps_epi32(value);
      total = _mm512_add_epi32(total, v);
      if (kFamily == kA16) {
        const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(128)), 8);
        store_bytes(bytes + i, high, flips);
        store_bytes(bytes + inputs + i, _mm512_sub_epi32(v, _mm512_slli_epi32(high, 8)), flips);
      } else {
        store_bytes(bytes + i, v, flips);
      }
    }
    *scale = is_finite ? peak / kLevels : NAN;
    *sum = _mm512_reduce_add_epi32(total);
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

}  // namespace avx512
}  // namespace edgebench
