// Activations to int8 for integer tensor cores, from the registers of a block (row.cuh).
//
// Formula: peak = max |x|,  scale = peak / 127,  code = rint(x 127 / peak) in -127 .. 127,
//   sum = sum of the codes of a group: what a weight's zero point z takes away is z * sum.
//   peak is of a group of kGroup inputs, or of the whole token (kTokenScale); sums are always of
//   groups. |x - scale code| <= scale / 2. A peak below 1e-30 counts as 1e-30; NaN or infinity
//   under a peak makes its scale NaN and its codes 0, so that the token's outputs are NaN.
//
//     codes  s8   [m, n]     n a multiple of 16; byte i of each 16 is input 0 8 1 9 2 10 .. 7 15,
//     as
//                            integer tensor cores meet a word of weights (w4_bytes.cuh)
//     scale  fp32 [ceil(n / kGroup)][m], with kTokenScale [m]
//     sums   s32  [ceil(n / kGroup)][m]
//
// Groups are 32, 64 or 128 inputs: 4, 8 or 16 neighbouring lanes.
#ifndef EDGEBENCH_CUDA_CODES_CUH_
#define EDGEBENCH_CUDA_CODES_CUH_

#include "row.cuh"

constexpr float kLevels = 127.0f;
constexpr float kSmallestPeak = 1e-30f;
constexpr u32 kInfinityBits = 0x7f800000u;
constexpr u32 kNanBits = 0x7fc00000u;

struct Codes {
  s8* codes;
  float* scale;
  s32* sums;
  int m, n;
};

// Bits of the largest magnitude; NaN is larger than infinity is larger than numbers.
EB_DEVICE u32 peak_of_eight(const float* v) {
  u32 peak = 0;
#pragma unroll
  for (int i = 0; i < kEight; ++i) peak = larger_word(peak, float_bits(magnitude(v[i])));
  return peak;
}

template <int kLanes>
EB_DEVICE u32 largest_of_lanes(u32 value) {
#pragma unroll
  for (int mask = 1; mask < kLanes; mask *= 2) value = larger_word(value, shuffle_xor(value, mask));
  return value;
}

// Four codes in a word and their sum.
EB_DEVICE u32 four_codes(const float* v, float inverse, s32* sum) {
  u32 word = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const s32 code = float_to_s8(v[i] * inverse);
    *sum += code;
    word |= ((u32)code & 0xff) << (8 * i);
  }
  return word;
}

// The lane's eight bytes of 16 in tensor cores' order. Neighbouring lanes hold the 16 codes in
// order: even ones 0..7, of which the odd one needs the upper four; odd ones 8..15.
EB_DEVICE u64 in_tensor_order(u32 low, u32 high) {
  const bool is_odd = lane_id() % 2 != 0;
  const u32 other = shuffle_xor(is_odd ? low : high, 1);
  const u32 first = is_odd ? other : low, second = is_odd ? high : other;
  return (u64)permute_bytes(first, second, 0x7362) << 32 | permute_bytes(first, second, 0x5140);
}

// Codes of one piece at `at`, whose peak is known, to row `row`.
template <int kGroup, bool kTokenScale>
EB_DEVICE void store_codes(const float* v, u32 peak_bits, const Codes& to, int row, int at) {
  const bool is_finite = peak_bits < kInfinityBits;
  const float peak = larger(bits_float(peak_bits), kSmallestPeak);
  const float inverse = is_finite ? kLevels / peak : 0.0f;
  s32 sum = 0;
  float kept[kEight];
#pragma unroll
  for (int i = 0; i < kEight; ++i) kept[i] = is_finite ? v[i] : 0.0f;
  const u32 low = four_codes(kept, inverse, &sum), high = four_codes(kept + 4, inverse, &sum);
#pragma unroll
  for (int mask = 1; mask < kGroup / kEight; mask *= 2) sum += (s32)shuffle_xor((u32)sum, mask);
  const u64 bytes = in_tensor_order(low, high);
  if (at >= to.n) return;
  *(u64*)(to.codes + (s64)row * to.n + at) = bytes;
  const float scale = is_finite ? peak / kLevels : bits_float(kNanBits);
  const s64 place = (s64)(at / kGroup) * to.m + row;
  if (at % kGroup == 0) to.sums[place] = sum;
  if (kTokenScale ? at == 0 : at % kGroup == 0) to.scale[kTokenScale ? row : place] = scale;
}

// All threads of the block: the pieces behind `first` of row `row`; elements past n must be 0.
// `memory`: kWarps words, read with kTokenScale, as block_largest wants them.
template <int kGroup, bool kTokenScale, int kWarps, int kPieces>
EB_DEVICE void quantize_pieces(const float (&v)[kPieces][kEight], const Codes& to, int row,
                               int first, u32* memory) {
  u32 peaks[kPieces];
#pragma unroll
  for (int p = 0; p < kPieces; ++p) peaks[p] = peak_of_eight(v[p]);
  if constexpr (kTokenScale) {
    u32 peak = 0;
#pragma unroll
    for (int p = 0; p < kPieces; ++p) peak = larger_word(peak, peaks[p]);
    peak = block_largest<kWarps>(peak, memory);
#pragma unroll
    for (int p = 0; p < kPieces; ++p) peaks[p] = peak;
  } else {
#pragma unroll
    for (int p = 0; p < kPieces; ++p) peaks[p] = largest_of_lanes<kGroup / kEight>(peaks[p]);
  }
#pragma unroll
  for (int p = 0; p < kPieces; ++p)
    store_codes<kGroup, kTokenScale>(v[p], peaks[p], to, row, element_of(first, p));
}

#endif  // EDGEBENCH_CUDA_CODES_CUH_
