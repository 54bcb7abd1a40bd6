// fp16 activations to int8 codes, where no kernel before it can do it on its way out.
//
// Formula and layouts: codes.cuh.
//
// Arguments:
//   x                    fp16 [m, n]     16-byte aligned
//   codes, scale, sums                   codes.cuh
//   m, n                 s32             n a multiple of 16
// Macros: EB_WARPS, EB_PIECES, EB_GROUP 32 64 128, EB_TOKEN_SCALE 0 1.
// Launch: grid (ceil(n / span), m), span = 256 EB_WARPS EB_PIECES; 32 EB_WARPS threads; 4 EB_WARPS
//   bytes of shared memory. With EB_TOKEN_SCALE n <= span.
//
// Picture: a block makes a span of a row, EB_PIECES times 8 neighbours a thread (row.cuh).
// Roofline: 3 n bytes a token, memory-bound. Time: not measured alone.
// Sources: own.
#include "codes.cuh"

template <int kWarps, int kPieces, int kGroup, bool kTokenScale>
EB_DEVICE void quantize_row(const u16* x, const Codes& to) {
  EB_SHARED(memory);
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = block_y(), first = block_x() * kEight * threads() * kPieces;
  float v[kPieces][kEight];
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = element_of(first, p);
#pragma unroll
    for (int i = 0; i < kEight; ++i) v[p][i] = 0;
    if (at < to.n) load_eight(x + (s64)row * to.n + at, v[p]);
  }
  quantize_pieces<kGroup, kTokenScale, kWarps>(v, to, row, first, (u32*)memory);
}

// No __restrict__ on what the kernel before may still write when this one begins: the compiler
// would read it as if it never changed (ld.global.nc), through caches that keep what was there.
EB_KERNEL(32 * EB_WARPS, 1)
quantize(const u16* x, s8* __restrict__ codes, float* __restrict__ scale, s32* __restrict__ sums,
         int m, int n) {
  quantize_row<EB_WARPS, EB_PIECES, EB_GROUP, EB_TOKEN_SCALE != 0>(x, {codes, scale, sums, m, n});
}
