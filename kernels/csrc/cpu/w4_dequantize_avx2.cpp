// Packed weights to numbers for AVX2; see w4_dequantize.h. AVX-512 uses it too: a word is 8
// weights.
#include "avx2.h"
#include "w4_avx2.h"
#include "w4_dequantize.h"

namespace edgebench {
namespace avx2 {
namespace {

struct Octet {
  EB_INLINE __m256 exact(uint32_t word, int32_t zero, float scale) {
    // Where input i of a step lies in its word: see int4_format.h.
    const __m256i bits = _mm256_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28);
    const __m256i shifted = _mm256_srlv_epi32(_mm256_set1_epi32((int)word), bits);
    const __m256i code = _mm256_and_si256(shifted, _mm256_set1_epi32(15));
    const __m256i level = _mm256_sub_epi32(code, _mm256_set1_epi32(zero));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(level), _mm256_set1_ps(scale));
  }

  EB_INLINE void store(uint32_t word, int32_t zero, float scale, float* y) {
    _mm256_storeu_ps(y, exact(word, zero, scale));
  }

  EB_INLINE void store(uint32_t word, int32_t zero, float scale, uint16_t* y) {
    const __m256i bits = _mm256_castps_si256(exact(word, zero, scale));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i raised = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i rounded = _mm256_srli_epi32(raised, 16);
    const __m128i low = _mm256_castsi256_si128(rounded);
    const __m128i high = _mm256_extracti128_si256(rounded, 1);
    _mm_storeu_si128((__m128i*)y, _mm_packus_epi32(low, high));
  }
};

}  // namespace

void dequantize(const BlockRow& weights, int rows, int64_t k, Number number, void* y) {
  dequantize_as<Octet>(weights, rows, k, number, y);
}

}  // namespace avx2
}  // namespace edgebench
