// SwiGLU on its own, for linears that do not fuse it.
//
// Formula: y[m, i] = silu(gate[m, i]) * up[m, i],  silu(x) = x / (1 + exp(-x)); in fp32, rounded
//   once at the end: to fp16, or to int8 codes (codes.cuh).
//
// Arguments:
//   gate_up  fp16 [m, 2 n]       a row is n of gate, then n of up; 16-byte aligned
//   y        fp16 [m, n]         with EB_GROUP 0, else null
//   codes, scale, sums           codes.cuh; with EB_GROUP, else null
//   m, n     s32                 n a multiple of 8
// Macros: EB_WARPS, EB_PIECES, EB_GROUP 0 32 64 128, EB_TOKEN_SCALE 0 1 (read with EB_GROUP).
// Launch: grid (ceil(n / span), m), span = 256 EB_WARPS EB_PIECES; 32 EB_WARPS threads; 4 EB_WARPS
//   bytes of shared memory. With EB_TOKEN_SCALE n <= span.
//
// Picture: a block makes a span of a row, EB_PIECES times 8 neighbours a thread (row.cuh).
// Roofline: 6 n bytes a token, memory-bound. Time: not measured alone.
// Sources: own; formula: Shazeer 2020, arXiv 2002.05202.
#include "codes.cuh"
#include "epilogue.cuh"

template <int kWarps, int kPieces, int kGroup, bool kTokenScale>
EB_DEVICE void swiglu_row(const u16* gate_up, u16* y, const Codes& to) {
  EB_SHARED(memory);
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = block_y(), n = to.n, first = block_x() * kEight * threads() * kPieces;
  const u16* const gates = gate_up + 2 * (s64)row * n;
  float v[kPieces][kEight];
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = element_of(first, p);
    float gate[kEight], up[kEight];
#pragma unroll
    for (int i = 0; i < kEight; ++i) gate[i] = up[i] = 0;
    if (at < n) {
      load_eight(gates + at, gate);
      load_eight(gates + n + at, up);
    }
#pragma unroll
    for (int i = 0; i < kEight; ++i) v[p][i] = silu(gate[i]) * up[i];
    if (kGroup == 0 && at < n) store_eight(y + (s64)row * n + at, v[p]);
  }
  if constexpr (kGroup != 0)
    quantize_pieces<kGroup, kTokenScale, kWarps>(v, to, row, first, (u32*)memory);
}

// No __restrict__ on what the kernel before may still write when this one begins: the compiler
// would read it as if it never changed (ld.global.nc), through caches that keep what was there.
EB_KERNEL(32 * EB_WARPS, 1)
swiglu(const u16* gate_up, u16* __restrict__ y, s8* __restrict__ codes, float* __restrict__ scale,
       s32* __restrict__ sums, int m, int n) {
  swiglu_row<EB_WARPS, EB_PIECES, EB_GROUP, EB_TOKEN_SCALE != 0>(gate_up, y,
                                                                 {codes, scale, sums, m, n});
}
