// The residual add of a decoder layer with the RMSNorm behind it.
//
// Formula: x[m] += delta[m];  y[m, k] = x[m, k] / sqrt(mean over k of x[m, k]^2 + eps) * weight[k]
//   in fp32, rounded once at the end: to fp16, or to int8 codes (codes.cuh). Where the sum of the
//   squares is not finite the row is NaN: an overflow must not become a row of zeros.
//
// Arguments:
//   x       fp32 [m, n], with EB_FLOAT 0 fp16     the residual stream; written with EB_DELTA
//   delta   fp16 [m, n], with EB_DELTA 2 fp32     what the linear before made; null with EB_DELTA 0
//   weight  fp32 [n]
//   y       fp16 [m, n]                           with EB_GROUP 0, else null
//   codes, scale, sums                            codes.cuh; with EB_GROUP, else null
//   m, n    s32                                   n a multiple of 8, <= 256 EB_WARPS EB_PIECES
//   eps     fp32                                  > 0
//   All 16-byte aligned.
// Macros: EB_WARPS, EB_PIECES, EB_FLOAT 0 1, EB_DELTA 0 1 2, EB_GROUP 0 32 64 128,
//   EB_TOKEN_SCALE 0 1 (one scale for the token; read with EB_GROUP).
// Launch: grid (m), 32 EB_WARPS threads, 8 EB_WARPS bytes of shared memory.
//
// Picture: a block holds a row in registers, EB_PIECES times 8 neighbours a thread (row.cuh), and
//   reads it once: load, add, store x, square, sum over the block, scale, store y.
// Roofline: m = 1, n = 4096: 56 KB, 13 ns at the 4300 GB/s of an H200; what it costs is a launch,
//   one trip to memory and one barrier. Weights are fetched before the kernel before has finished.
//   Time: not measured alone.
// Idea: the stream is fp32 because that is free here, two bytes more a channel beside the kilobytes
//   a channel of the layer's weights, while fp16 rounds it at each of two adds a layer: with all
//   else rounded to fp16, the logits of the repository's trained model (6 layers) are off by 1.9e-4
//   with an fp32 stream and by 3.0e-4 with an fp16 one (relative, computed on a CPU).
// Sources: own; formula: Zhang and Sennrich 2019, arXiv 1910.07467.
#include "codes.cuh"

// v = x + delta, as the stream will hold it.
template <int kDelta, class Stream>
EB_DEVICE void add_eight(const Stream* x, const void* delta, s64 at, float* v) {
  load_eight(x + at, v);
  if constexpr (kDelta != 0) {
    float d[kEight];
    if constexpr (kDelta == 1) {
      load_eight((const u16*)delta + at, d);
    } else {
      load_eight((const float*)delta + at, d);
    }
#pragma unroll
    for (int i = 0; i < kEight; ++i) {
      v[i] += d[i];
      if constexpr (sizeof(Stream) == 2) v[i] = half_to_float(float_to_half(v[i]));
    }
  }
}

// Weights, which no kernel writes: read before the wait. (ptxas moves other loads behind it.)
EB_DEVICE void load_weights(const float* from, float* w) {
#pragma unroll
  for (int i = 0; i < kEight; i += 4) {
    const Quad quad = load_quad_fresh(from + i);
    w[i] = bits_float(quad.x);
    w[i + 1] = bits_float(quad.y);
    w[i + 2] = bits_float(quad.z);
    w[i + 3] = bits_float(quad.w);
  }
}

template <int kWarps, int kPieces, int kDelta, int kGroup, bool kTokenScale, class Stream>
EB_DEVICE void norm_row(Stream* x, const void* delta, const float* weight, u16* y, const Codes& to,
                        float eps) {
  EB_SHARED(memory);
  grid_dependency_launch();
  const int row = block_x(), n = to.n;
  float v[kPieces][kEight], w[kPieces][kEight];
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = element_of(0, p);
#pragma unroll
    for (int i = 0; i < kEight; ++i) v[p][i] = w[p][i] = 0;
    if (at < n) load_weights(weight + at, w[p]);
  }
  grid_dependency_wait();
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = element_of(0, p);
    if (at < n) add_eight<kDelta>(x, delta, (s64)row * n + at, v[p]);
  }
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = element_of(0, p);
    if (kDelta != 0 && at < n) store_eight(x + (s64)row * n + at, v[p]);
#pragma unroll
    for (int i = 0; i < kEight; ++i) squares += v[p][i] * v[p][i];
  }
  const float sum = block_sum<kWarps>(squares, (float*)memory);
  const bool is_finite = float_bits(sum) < kInfinityBits;
  const float inverse = is_finite ? rsqrt_fast(sum / (float)n + eps) : bits_float(kNanBits);
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = element_of(0, p);
#pragma unroll
    for (int i = 0; i < kEight; ++i) v[p][i] = v[p][i] * inverse * w[p][i];
    if (kGroup == 0 && at < n) store_eight(y + (s64)row * n + at, v[p]);
  }
  if constexpr (kGroup != 0)
    quantize_pieces<kGroup, kTokenScale, kWarps>(v, to, row, 0, (u32*)memory + kWarps);
}

// No __restrict__ on what the kernel before may still write when this one begins: the compiler
// would read it as if it never changed (ld.global.nc), through caches that keep what was there.
EB_KERNEL(32 * EB_WARPS, 1)
rms_norm(void* x, const void* delta, const float* __restrict__ weight, u16* __restrict__ y,
         s8* __restrict__ codes, float* __restrict__ scale, s32* __restrict__ sums, int m, int n,
         float eps) {
#if EB_FLOAT
  using Stream = float;
#else
  using Stream = u16;
#endif
  norm_row<EB_WARPS, EB_PIECES, EB_DELTA, EB_GROUP, EB_TOKEN_SCALE != 0>(
      (Stream*)x, delta, weight, y, {codes, scale, sums, m, n}, eps);
}
