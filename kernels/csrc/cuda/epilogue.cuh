// The last step of a linear: sums in shared memory become outputs, with what is fused behind them.
//
// `sums` fp32 [tokens][columns], columns = packed rows, whole tiles of 16. Fused, in this order:
//
//     kBias      + bias[source row]
//     kSwiGlu    rows packed in pairs (gate, up): gate / (1 + exp(-gate)) * up, half as many
//     kResidual  + residual[token][output]
//     kFloatOut  outputs are fp32 instead of fp16
//
// Everything is fp32 until the one rounding at the end. A thread makes 8 neighbouring outputs,
// which are one 16-byte store where rows of y are 16-byte aligned.
#ifndef EDGEBENCH_CUDA_EPILOGUE_CUH_
#define EDGEBENCH_CUDA_EPILOGUE_CUH_

#include "prim.cuh"

constexpr int kBias = 1;
constexpr int kResidual = 2;
constexpr int kSwiGlu = 4;
constexpr int kFloatOut = 8;
constexpr int kStream = 16;  // of the GEMV alone: stream.cuh
constexpr int kNormed = 32;
constexpr int kUnit = 8;  // outputs of a thread

struct Output {
  void* y;              // fp16 or fp32 [m, outputs]
  const u16* bias;      // [n], of source rows
  const u16* residual;  // [m, outputs]
  int m, n;             // tokens; rows of the weight matrix (SwiGLU: gate and up together)
};

EB_DEVICE float silu(float x) {
  return x * reciprocal_fast(1.0f + exp2_fast(-1.4426950408889634f * x));
}

// v = 8 outputs from the columns of one unit.
template <int kFlags>
EB_DEVICE void fuse(const Output& out, const float* columns, int output, float* v) {
  if constexpr ((kFlags & kSwiGlu) != 0) {
    const int half = out.n / 2;
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      float gate = columns[i], up = columns[i + 8];
      if ((kFlags & kBias) != 0 && output + i < half) {
        gate += half_to_float(out.bias[output + i]);
        up += half_to_float(out.bias[half + output + i]);
      }
      v[i] = silu(gate) * up;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      v[i] = columns[i];
      if ((kFlags & kBias) != 0 && output + i < out.n) v[i] += half_to_float(out.bias[output + i]);
    }
  }
}

// y[at ..] = v, fused with the residual; `whole`: all 8 exist, and `at` is a multiple of 8.
template <int kFlags>
EB_DEVICE void store(const Output& out, s64 at, int count, bool whole, float* v) {
  if constexpr ((kFlags & kResidual) != 0) {
    if (whole) {
      const Quad r = *(const Quad*)(out.residual + at);  // not load_quad: may be y
      const u32 words[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
      for (int i = 0; i < kUnit; ++i)
        v[i] += i % 2 ? high_half(words[i / 2]) : low_half(words[i / 2]);
    } else {
#pragma unroll
      for (int i = 0; i < kUnit; ++i) {
        if (i < count) v[i] += half_to_float(out.residual[at + i]);
      }
    }
  }
  if constexpr ((kFlags & kFloatOut) != 0) {
    float* const y = (float*)out.y + at;
    if (whole) {
      store_quad(y, {float_bits(v[0]), float_bits(v[1]), float_bits(v[2]), float_bits(v[3])});
      store_quad(y + 4, {float_bits(v[4]), float_bits(v[5]), float_bits(v[6]), float_bits(v[7])});
      return;
    }
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      if (i < count) y[i] = v[i];
    }
  } else if (whole) {
    store_quad((u16*)out.y + at, {floats_to_half2(v[0], v[1]), floats_to_half2(v[2], v[3]),
                                  floats_to_half2(v[4], v[5]), floats_to_half2(v[6], v[7])});
  } else {
    u16* const y = (u16*)out.y + at;
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      if (i < count) y[i] = float_to_half(v[i]);
    }
  }
}

// `tokens` x `columns` sums, rows `stride` apart, become the outputs of tokens first_token .. and
// packed rows first_row .. This is worker `me` of `workers`: the block's threads, or a warp's lanes.
template <int kFlags>
EB_DEVICE void store_sums(const Output& out, const float* sums, int stride, int tokens, int columns,
                          int first_token, int first_row, int me, int workers) {
  constexpr int kColumns = (kFlags & kSwiGlu) != 0 ? 16 : 8;  // of a unit
  const int outputs = (kFlags & kSwiGlu) != 0 ? out.n / 2 : out.n;
  const int units = columns / kColumns;
  for (int i = me; i < tokens * units; i += workers) {
    const int token = first_token + i / units, unit = i % units;
    const int output = first_row / kColumns * kUnit + unit * kUnit;
    const int count = outputs - output;
    if (token >= out.m || count <= 0) continue;
    float v[kUnit];
    fuse<kFlags>(out, sums + i / units * stride + unit * kColumns, output, v);
    store<kFlags>(out, (s64)token * outputs + output, count, outputs % kUnit == 0, v);
  }
}
template <int kFlags>
EB_DEVICE void store_sums(const Output& out, const float* sums, int stride, int tokens, int columns,
                          int first_token, int first_row) {
  store_sums<kFlags>(out, sums, stride, tokens, columns, first_token, first_row, thread_id(),
                     threads());
}

#endif  // EDGEBENCH_CUDA_EPILOGUE_CUH_
