// Small AVX2 helpers shared by this ISA's translation units. All always-inline: nothing here may
// become a function that another ISA's code could link to.
#ifndef EDGEBENCH_CPU_AVX2_H_
#define EDGEBENCH_CPU_AVX2_H_

#include <immintrin.h>
#include <string.h>

#include "ops.h"

#define EB_INLINE static inline __attribute__((always_inline))

namespace edgebench {
namespace avx2 {

constexpr int kLanes = 8;                      // 32-bit lanes of a register: output rows
constexpr int kColumns = kBlockRows / kLanes;  // registers that cover a block's 64 rows: 8

EB_INLINE __m256i broadcast_bytes(const uint8_t* bytes) {
  int32_t word;
  memcpy(&word, bytes, 4);
  return _mm256_set1_epi32(word);
}

// The 8 scales / zero points of column `j` of a block, given where its scales start.
EB_INLINE __m256 scales_of(const uint8_t* tail, int j) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(tail + 2 * kLanes * j)));
}
EB_INLINE __m256i zeros_of(const uint8_t* tail, int j) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(tail + kScaleBytes + kLanes * j)));
}

// y += x_scale * scale * (total - zero * sum), the one place where integers become floats.
EB_INLINE __m256 add_scaled(__m256 y, __m256i total, __m256i zero, __m256i sum, __m256 scale,
                            __m256 x_scale) {
  total = _mm256_sub_epi32(total, _mm256_mullo_epi32(zero, sum));
  return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(total), scale), x_scale, y);
}

}  // namespace avx2
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_AVX2_H_
