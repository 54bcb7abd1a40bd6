// The last step of a linear: sums in shared memory become outputs, with what is fused behind them.
//
// `sums` fp32 [tokens][columns], columns = packed rows, whole tiles of 16. Fused, in this order:
//
//     kBias      + bias[source row]
//     kSwiGlu    rows packed in pairs (gate, up): gate / (1 + exp(-gate)) * up, half as many
//     kResidual  + residual[token][output]
//     kFloatOut  outputs are fp32 instead of fp16
//
// Everything is fp32 until the one rounding at the end. A thread makes 4 neighbouring outputs, so
// that a warp reads its sums 16 bytes a lane, without bank conflicts (SwiGLU: two lanes a bank);
// they are one store where outputs come in fours.
#ifndef EDGEBENCH_CUDA_EPILOGUE_CUH_
#define EDGEBENCH_CUDA_EPILOGUE_CUH_

#include "prim.cuh"

constexpr int kBias = 1;
constexpr int kResidual = 2;
constexpr int kSwiGlu = 4;
constexpr int kFloatOut = 8;
constexpr int kStream = 16;  // of the GEMV alone: stream.cuh
constexpr int kNormed = 32;
constexpr int kUnit = 4;  // outputs of a thread

struct Output {
  void* y;              // fp16 or fp32 [m, outputs]
  const u16* bias;      // [n], of source rows
  const u16* residual;  // [m, outputs]
  int m, n;             // tokens; rows of the weight matrix (SwiGLU: gate and up together)
};

EB_DEVICE float silu(float x) {
  return x * reciprocal_fast(1.0f + exp2_fast(-1.4426950408889634f * x));
}

EB_DEVICE void widen_quad(Quad quad, float* v) {
  v[0] = bits_float(quad.x);
  v[1] = bits_float(quad.y);
  v[2] = bits_float(quad.z);
  v[3] = bits_float(quad.w);
}

// v = 4 halves, of which `count` exist; `whole`: all of them, 8-byte aligned.
EB_DEVICE void load_halves(const u16* from, int count, bool whole, float* v) {
  if (whole) {
    const u64 word = *(const u64*)from;  // not load_word: may be y
    v[0] = low_half((u32)word);
    v[1] = high_half((u32)word);
    v[2] = low_half((u32)(word >> 32));
    v[3] = high_half((u32)(word >> 32));
  } else {
#pragma unroll
    for (int i = 0; i < kUnit; ++i) v[i] = i < count ? half_to_float(from[i]) : 0.0f;
  }
}

// Four outputs of a token.
template <int kFlags>
struct Unit {
  static constexpr bool kPairs = (kFlags & kSwiGlu) != 0;
  static constexpr int kQuads = kPairs ? 2 : 1;  // of sums: gates, ups
  static constexpr int kColumns = kQuads * kUnit;

  float sums[kQuads][kUnit];
  float residual[kUnit];
  int token, output, count;  // count: of outputs that exist, from `output` on

  // The first of the columns of a quad of unit `unit`.
  EB_DEVICE static int column(int unit, int quad) {
    return kPairs ? unit / 2 * 16 + quad * 8 + unit % 2 * kUnit : unit * kUnit;
  }
  EB_DEVICE static int outputs(const Output& out) { return kPairs ? out.n / 2 : out.n; }

  // Which outputs it is.
  EB_DEVICE void place(const Output& out, int of_token, int first_row, int unit) {
    const int all = outputs(out);
    token = of_token;
    output = first_row / kColumns * kUnit + unit * kUnit;
    count = token >= out.m || output >= all ? 0 : all - output;
  }

  EB_DEVICE void load_residual(const Output& out) {
    const int all = outputs(out);
    if ((kFlags & kResidual) != 0 && count > 0)
      load_halves(out.residual + (s64)token * all + output, count, all % kUnit == 0, residual);
  }

  // v = the sums with bias and SwiGLU.
  EB_DEVICE void fuse(const Output& out, bool whole, float* v) const {
    float bias[kQuads][kUnit] = {};
    if constexpr ((kFlags & kBias) != 0) {
#pragma unroll
      for (int i = 0; i < kQuads; ++i)
        load_halves(out.bias + i * (out.n / 2) + output, count, whole, bias[i]);
    }
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      v[i] = sums[0][i];
      if ((kFlags & kBias) != 0) v[i] += bias[0][i];
      if constexpr (kPairs) {
        const float up = (kFlags & kBias) != 0 ? sums[1][i] + bias[1][i] : sums[1][i];
        v[i] = silu(v[i]) * up;
      }
      if ((kFlags & kResidual) != 0) v[i] += residual[i];
    }
  }

  // Stores what exists of it.
  EB_DEVICE void end(const Output& out) const {
    if (count <= 0) return;
    const int all = outputs(out);
    const bool whole = all % kUnit == 0;
    const s64 at = (s64)token * all + output;
    float v[kUnit];
    fuse(out, whole, v);
    if constexpr ((kFlags & kFloatOut) != 0) {
      float* const y = (float*)out.y + at;
      if (whole) {
        store_quad(y, {float_bits(v[0]), float_bits(v[1]), float_bits(v[2]), float_bits(v[3])});
        return;
      }
#pragma unroll
      for (int i = 0; i < kUnit; ++i) {
        if (i < count) y[i] = v[i];
      }
    } else {
      u16* const y = (u16*)out.y + at;
      if (whole) {
        *(u64*)y = (u64)floats_to_half2(v[2], v[3]) << 32 | floats_to_half2(v[0], v[1]);
        return;
      }
#pragma unroll
      for (int i = 0; i < kUnit; ++i) {
        if (i < count) y[i] = float_to_half(v[i]);
      }
    }
  }
};

// `tokens` x `columns` sums, rows `stride` apart (a multiple of 4), become the outputs of tokens
// first_token .. and packed rows first_row .. This is worker `me` of `workers`: the block's
// threads, or a warp's lanes.
template <int kFlags>
EB_DEVICE void store_sums(const Output& out, const float* sums, int stride, int tokens, int columns,
                          int first_token, int first_row, int me, int workers) {
  using U = Unit<kFlags>;
  const int units = columns / U::kColumns;
  for (int i = me; i < tokens * units; i += workers) {
    U unit;
    unit.place(out, first_token + i / units, first_row, i % units);
    if (unit.count <= 0) continue;
#pragma unroll
    for (int quad = 0; quad < U::kQuads; ++quad) {
      const float* const at = sums + i / units * stride + U::column(i % units, quad);
      widen_quad(*(const Quad*)at, unit.sums[quad]);
    }
    unit.load_residual(out);
    unit.end(out);
  }
}
template <int kFlags>
EB_DEVICE void store_sums(const Output& out, const float* sums, int stride, int tokens, int columns,
                          int first_token, int first_row) {
  store_sums<kFlags>(out, sums, stride, tokens, columns, first_token, first_row, thread_id(),
                     threads());
}

#endif  // EDGEBENCH_CUDA_EPILOGUE_CUH_
