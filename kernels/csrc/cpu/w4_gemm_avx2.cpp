// w4a8 and w4a16 for more than one token, AVX2 without VNNI.
//
// Formula: w4_gemv_avx512.cpp. Codes stay unsigned (0..15), activations signed (flip 0): the order
// that vpmaddubsw wants, and the one in which 8 pair sums fit in 16 bits (8 * 3840 = 30720 <
// 32768). With unsigned activations (0..255) times codes - zero (+-15) only 4 would.
//
// Arguments: as in w4_gemv_avx512.cpp; `scratch` is used (kScratchBytes).
// Picture: register tile of 4 byte rows x 2 columns (16 outputs) = 8 sums of 16 bits; every 32
// inputs they
//   are widened and added to 8 sums of 32 bits in L1 (a16: 256 * high + low, 2 tokens).
// Roofline: per 4 inputs 2 + 4 loads, 8 vpmaddubsw, 8 vpaddw; the widening adds 3 for every 16.
//   Bound: the multiply ports. Share of the measured peak: kernels/README.md.
// Sources: own design.
#include "tile_avx2.h"
#include "w4_avx2.h"

namespace edgebench {
namespace avx2 {
namespace {

constexpr int kTileRows = 4;
constexpr int kWidth = 2;         // columns of a register tile
constexpr int kChunkInputs = 32;  // inputs until 16-bit sums must be widened

template <Family kFamily, int kRows>
EB_INLINE void micro(const uint8_t* rows, int inputs, const Tile& tile, int j0, __m256i* totals) {
  constexpr int kHalves = halves_of(kFamily);
  for (int first = 0; first < inputs; first += kChunkInputs) {
    __m256i pairs[kRows][kWidth];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) pairs[r][0] = pairs[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (int i = first; i < first + kChunkInputs; i += 4) {
      const auto* const at = (const __m256i*)(tile.codes + i / 4 * kQuadBytes + 32 * j0);
      const __m256i left = _mm256_load_si256(at);
      const __m256i right = _mm256_load_si256(at + 1);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i x = broadcast_bytes(rows + r * inputs + i);
        pairs[r][0] = _mm256_add_epi16(pairs[r][0], _mm256_maddubs_epi16(left, x));
        pairs[r][1] = _mm256_add_epi16(pairs[r][1], _mm256_maddubs_epi16(right, x));
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const bool is_high = kHalves == 2 && r % 2 == 0;
      const __m256i factor = _mm256_set1_epi16(is_high ? 256 : 1);
#pragma GCC unroll 2
      for (int j = 0; j < kWidth; ++j) {
        __m256i* const total = totals + r / kHalves * kWidth + j;
        *total = _mm256_add_epi32(*total, _mm256_madd_epi16(pairs[r][j], factor));
      }
    }
  }
}

// kTokens tokens times 64 outputs over one group.
template <Family kFamily, int kTokens>
EB_INLINE void tokens_of(const uint8_t* rows, int inputs, const Tile& tile, const float* x_scale,
                         const int32_t* sum, bool is_first, float* out) {
  for (int j0 = 0; j0 < kColumns; j0 += kWidth) {
    __m256i totals[kTokens * kWidth];
    for (__m256i& total : totals) total = _mm256_setzero_si256();
    micro<kFamily, kTokens * halves_of(kFamily)>(rows, inputs, tile, j0, totals);
    for (int t = 0; t < kTokens; ++t) {
      for (int j = 0; j < kWidth; ++j) {
        float* const y = out + t * kBlockRows + kLanes * (j0 + j);
        add_to_output(y, is_first, totals[t * kWidth + j], tile, j0 + j, sum[t], x_scale[t]);
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
      } else {
        tokens_of<kFamily, 1>(rows, inputs, *tile, scale, sum, g == 0, y);
        t += 1;
      }
    }
  }
}

}  // namespace

void gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch) {
  gemm<kA8>(weights, x, first, last, out, scratch);
}

void gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
              uint8_t* scratch) {
  gemm<kA16>(weights, x, first, last, out, scratch);
}

}  // namespace avx2
}  // namespace edgebench
