// The weights of one group unpacked to L1, shared by the two AVX2 GEMMs.
#ifndef EDGEBENCH_CPU_TILE_AVX2_H_
#define EDGEBENCH_CPU_TILE_AVX2_H_

#include "avx2.h"

namespace edgebench {
namespace avx2 {

constexpr int kQuadBytes = kBlockRows * 4;  // the 64 rows' bytes of 4 inputs

struct Tile {
  alignas(64) uint8_t codes[kMaxBlockInputs / 4 * kQuadBytes];  // 0..15
  alignas(64) int32_t zero[kBlockRows];
  alignas(64) float scale[kBlockRows];
};
static_assert(sizeof(Tile) <= kScratchBytes, "the tile lives in the thread's scratch");

EB_INLINE void unpack(const uint8_t* block, int inputs, Tile* tile) {
  const __m256i mask = _mm256_set1_epi8(0x0f);
  const int steps = inputs / kStepInputs;
  uint8_t* to = tile->codes;
  const char* const next =
      (const char*)block + block_bytes(inputs);  // computing hides its way here
  for (int s = 0; s < steps; ++s, to += 2 * kQuadBytes) {
    for (int line = 0; line < kStepBytes; line += 64) {
      _mm_prefetch(next + s * kStepBytes + line, _MM_HINT_T0);
    }
    for (int j = 0; j < kColumns; ++j) {
      const __m256i word = _mm256_loadu_si256((const __m256i*)(block + s * kStepBytes + 32 * j));
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(word, 4), mask);
      _mm256_store_si256((__m256i*)(to + 32 * j), _mm256_and_si256(word, mask));
      _mm256_store_si256((__m256i*)(to + kQuadBytes + 32 * j), high);
    }
  }
  const uint8_t* const tail = block + steps * kStepBytes;
  for (int j = 0; j < kColumns; ++j) {
    _mm256_store_si256((__m256i*)(tile->zero + kLanes * j), zeros_of(tail, j));
    _mm256_store_ps(tile->scale + kLanes * j, scales_of(tail, j));
  }
}

// y of one token and one column += its scaled total.
EB_INLINE void add_to_output(float* y, bool is_first, __m256i total, const Tile& tile, int j,
                             int32_t sum, float x_scale) {
  const __m256 before = is_first ? _mm256_setzero_ps() : _mm256_load_ps(y);
  const __m256i zero = _mm256_load_si256((const __m256i*)(tile.zero + kLanes * j));
  const __m256 scale = _mm256_load_ps(tile.scale + kLanes * j);
  _mm256_store_ps(
      y, add_scaled(before, total, zero, _mm256_set1_epi32(sum), scale, _mm256_set1_ps(x_scale)));
}

}  // namespace avx2
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_TILE_AVX2_H_
