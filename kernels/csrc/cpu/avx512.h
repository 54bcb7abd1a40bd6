// Small AVX-512 helpers shared by this ISA's translation units. All always-inline: nothing here may
// become a function that another ISA's code could link to.
#ifndef EDGEBENCH_CPU_AVX512_H_
#define EDGEBENCH_CPU_AVX512_H_

#include <immintrin.h>
#include <string.h>

#include "ops.h"

#define EB_INLINE static inline __attribute__((always_inline))

namespace edgebench {
namespace avx512 {

constexpr int kLanes = 16;                     // 32-bit lanes of a register: output rows
constexpr int kColumns = kBlockRows / kLanes;  // registers that cover a block's 64 rows: 4

// sum += dot of 4 unsigned bytes with 4 signed bytes, in each lane. One instruction as asm because
// GCC 12 spills the accumulators of a 6 x 4 tile written with the intrinsic (0.32 of the peak, not
// 0.78).
EB_INLINE __m512i dot_bytes(__m512i sum, __m512i unsigned_bytes, __m512i signed_bytes) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
  return sum;
}

// Four bytes in every lane.
EB_INLINE __m512i broadcast_bytes(const uint8_t* bytes) {
  int32_t word;
  memcpy(&word, bytes, 4);
  return _mm512_set1_epi32(word);
}

// The 16 scales / zero points of column `j` of a block, given where its scales start.
EB_INLINE __m512 scales_of(const uint8_t* tail, int j) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(tail + 2 * kLanes * j)));
}
EB_INLINE __m512i zeros_of(const uint8_t* tail, int j) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)(tail + kScaleBytes + kLanes * j)));
}

}  // namespace avx512
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_AVX512_H_
