// A row of activations in the registers of a block, eight neighbours a piece, and sums over it.
//
// Piece p of thread t holds elements 8 (t + threads p) .. + 7 behind `first`, so that every access
// of a warp is one contiguous stretch. Rows are multiples of 8 long and 16-byte aligned.
#ifndef EDGEBENCH_CUDA_ROW_CUH_
#define EDGEBENCH_CUDA_ROW_CUH_

#include "prim.cuh"

constexpr int kEight = 8;  // elements of a piece

EB_DEVICE int element_of(int first, int piece) {
  return first + kEight * (thread_id() + threads() * piece);
}

// ---------------------------------------------------------------------------------- eight elements

EB_DEVICE void widen_eight(Quad halfs, float* v) {
  const u32 words[4] = {halfs.x, halfs.y, halfs.z, halfs.w};
#pragma unroll
  for (int i = 0; i < kEight; ++i) v[i] = i % 2 ? high_half(words[i / 2]) : low_half(words[i / 2]);
}
EB_DEVICE void load_eight(const u16* from, float* v) { widen_eight(*(const Quad*)from, v); }
EB_DEVICE void load_eight(const float* from, float* v) {
#pragma unroll
  for (int i = 0; i < kEight; i += 4) {
    const Quad quad = *(const Quad*)(from + i);
    v[i] = bits_float(quad.x);
    v[i + 1] = bits_float(quad.y);
    v[i + 2] = bits_float(quad.z);
    v[i + 3] = bits_float(quad.w);
  }
}
// Stores the eight, rounded to what `to` holds.
EB_DEVICE void store_eight(u16* to, const float* v) {
  store_quad(to, {floats_to_half2(v[0], v[1]), floats_to_half2(v[2], v[3]),
                  floats_to_half2(v[4], v[5]), floats_to_half2(v[6], v[7])});
}
EB_DEVICE void store_eight(float* to, const float* v) {
#pragma unroll
  for (int i = 0; i < kEight; i += 4) {
    store_quad(to + i, {float_bits(v[i]), float_bits(v[i + 1]), float_bits(v[i + 2]),
                        float_bits(v[i + 3])});
  }
}

// ------------------------------------------------------------------------------------- over a
// block

// The sum over the block, the same bits in every thread and every run. `memory`: kWarps floats,
// which no thread touches before its next barrier.
template <int kWarps>
EB_DEVICE float block_sum(float value, float* memory) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  if (lane_id() == 0) memory[warp_id()] = value;
  barrier();
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) sum += memory[warp];
  return sum;
}

EB_DEVICE u32 larger_word(u32 a, u32 b) { return a > b ? a : b; }

// The largest word over the block; `memory` as above.
template <int kWarps>
EB_DEVICE u32 block_largest(u32 value, u32* memory) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) value = larger_word(value, shuffle_xor(value, mask));
  if (lane_id() == 0) memory[warp_id()] = value;
  barrier();
  u32 largest = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) largest = larger_word(largest, memory[warp]);
  return largest;
}

#endif  // EDGEBENCH_CUDA_ROW_CUH_
