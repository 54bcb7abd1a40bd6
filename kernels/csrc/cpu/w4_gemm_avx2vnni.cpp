// w4a8 and w4a16 for more than one token, AVX2 with AVX-VNNI (256-bit vpdpbusd, VEX-encoded).
//
// Formula: w4_gemv_avx512.cpp; codes unsigned, activations signed (flip 0). vpdpbusd adds four
// products to a 32-bit lane: no 16-bit sum, no widening.
//
// Arguments: as in w4_gemv_avx512.cpp; `scratch` is used (kScratchBytes).
// Picture: register tile of 6 byte rows x 2 columns (16 outputs) = 12 sums, 2 codes, 1 broadcast:
// 15 of 16
//   registers. The group's codes lie unpacked in L1.
// Roofline: per 4 inputs 2 + 6 loads for 12 dots: the dots bound it at two loads and two dots a
// cycle. Sources: own design. With one token the AVX2 GEMV is already bound by memory and is used
// as it is.
#include "tile_avx2.h"
#include "w4_avx2.h"

namespace edgebench {
namespace avx2 {
namespace {

constexpr int kTileRows = 6;
constexpr int kWidth = 2;

// One-instruction asm: see dot_bytes in avx512.h.
EB_INLINE __m256i dot_bytes(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(unsigned_bytes), "x"(signed_bytes));
  return sum;
}

template <Family kFamily, int kTokens>
EB_INLINE void tokens_of(const uint8_t* rows, int inputs, const Tile& tile, const float* x_scale,
                         const int32_t* sum, bool is_first, float* out) {
  constexpr int kHalves = halves_of(kFamily);
  constexpr int kRows = kTokens * kHalves;
  for (int j0 = 0; j0 < kColumns; j0 += kWidth) {
    __m256i sums[kRows][kWidth];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    for (int i = 0; i < inputs; i += 4) {
      const auto* const at = (const __m256i*)(tile.codes + i / 4 * kQuadBytes + 32 * j0);
      const __m256i left = _mm256_load_si256(at);
      const __m256i right = _mm256_load_si256(at + 1);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const __m256i x = broadcast_bytes(rows + r * inputs + i);
        sums[r][0] = dot_bytes(sums[r][0], left, x);
        sums[r][1] = dot_bytes(sums[r][1], right, x);
      }
    }
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 2
      for (int j = 0; j < kWidth; ++j) {
        __m256i total = sums[t * kHalves][j];
        if (kHalves == 2) {
          total = _mm256_add_epi32(_mm256_slli_epi32(total, 8), sums[t * kHalves + kHalves - 1][j]);
        }
        float* const y = out + t * kBlockRows + kLanes * (j0 + j);
        add_to_output(y, is_first, total, tile, j0 + j, sum[t], x_scale[t]);
      }
    }
  }
}

template <Family kFamily>
EB_INLINE void gemm(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                    uint8_t* scratch) {
  constexpr int kHalves = halves_of(kFamily);
  constexpr int kTokens = kTileRows / kHalves;
  const int inputs = weights.inputs;
  Tile* const tile = (Tile*)scratch;
  const uint8_t* block = weights.blocks;
  for (int g = 0; g < weights.groups; ++g, block += block_bytes(inputs)) {
    unpack(block, inputs, tile);
    for (int t = first; t < last;) {
      const size_t slot = (size_t)g * x.tokens + t;
      const uint8_t* const rows = x.bytes + slot * kHalves * inputs;
      const float* const scale = x.scale + slot;
      const int32_t* const sum = x.sum + slot;
      float* const y = out + (t - first) * kBlockRows;
      if (last - t >= kTokens) {
        tokens_of<kFamily, kTokens>(rows, inputs, *tile, scale, sum, g == 0, y);
        t += kTokens;
      } else if (last - t >= 2) {
        tokens_of<kFamily, 2>(rows, inputs, *tile, scale, sum, g == 0, y);
        t += 2;
      } else {
        tokens_of<kFamily, 1>(rows, inputs, *tile, scale, sum, g == 0, y);
        t += 1;
      }
    }
  }
}

}  // namespace

void dot_gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                 uint8_t* scratch) {
  gemm<kA8>(weights, x, first, last, out, scratch);
}

void dot_gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                  uint8_t* scratch) {
  gemm<kA16>(weights, x, first, last, out, scratch);
}

}  // namespace avx2
}  // namespace edgebench
