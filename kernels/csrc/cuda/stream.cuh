// The residual stream in the GEMV: RMSNorm without a kernel of its own.
//
// y = W (x * weight / rms(x)) = (W (x * weight)) / rms(x), row by row, so that what needs the whole
// row, its sum of squares, can come behind the product:
//
//     kStream   x[token] += y, in fp32;   y fp16 = x * weight / 16, of the norm behind;
//               squares[token][part] = the sum of x^2 over the part of the row that was written
//     kNormed   sums *= 16 / sqrt(mean of the squares + eps), before anything else is fused
//
// A part is what a block writes at a time, and parts are added in one order: the same bits in every
// run. / 16 keeps x * weight inside of fp16 up to 2^20; beyond, and where a square is not finite,
// the row becomes NaN or infinite, which is reported: an overflow is never a number.
#ifndef EDGEBENCH_CUDA_STREAM_CUH_
#define EDGEBENCH_CUDA_STREAM_CUH_

#include "epilogue.cuh"

constexpr float kShrink = 1.0f / 16;

struct Stream {
  float* x;             // fp32 [m, n]
  const float* weight;  // fp32 [n], of the norm behind
  float* squares;       // fp32 [m, parts]: written with kStream, read with kNormed
  int parts;
  float eps;
};

// What kNormed multiplies with, of rows of `width`; by the lanes of a warp, the same in all.
EB_DEVICE float inverse_of(const Stream& stream, int token, int width) {
  float sum = 0;
  for (int part = lane_id(); part < stream.parts; part += 32)
    sum += load_float_fresh(stream.squares + (s64)token * stream.parts + part);
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  const bool is_finite = float_bits(sum) < 0x7f800000u;
  return is_finite ? rsqrt_fast(sum / (float)width + stream.eps) / kShrink
                   : bits_float(0x7fc00000u);
}

// The lanes of a warp: `columns` sums of a token join the stream.
EB_DEVICE void join_stream(const Output& out, const Stream& stream, const float* sums, int columns,
                           int token, int part) {
  float squares = 0;
  for (int column = lane_id(); column < columns; column += 32) {
    const int output = part * columns + column;
    if (output >= out.n) continue;
    const s64 at = (s64)token * out.n + output;
    const float x = stream.x[at] + sums[column];
    stream.x[at] = x;
    ((u16*)out.y)[at] = float_to_half(x * stream.weight[output] * kShrink);
    squares += x * x;
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) squares += shuffle_xor(squares, mask);
  if (lane_id() == 0) stream.squares[(s64)token * stream.parts + part] = squares;
}

#endif  // EDGEBENCH_CUDA_STREAM_CUH_
