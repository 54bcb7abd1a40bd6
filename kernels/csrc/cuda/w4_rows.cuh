// Which row of the weight matrix a packed row is, where rows are interleaved in pairs.
#ifndef EDGEBENCH_CUDA_W4_ROWS_CUH_
#define EDGEBENCH_CUDA_W4_ROWS_CUH_

#include "../int4_format_cuda.h"
#include "prim.cuh"

// Row `r` (0..15) of row of tiles `t`, pairs at distance `pair` (0: none); may be N or more:
// padding.
EB_DEVICE int source_row(int t, int r, int pair) {
  if (pair == 0) return t * t16x64::kRows + r;
  const int f = t * 8 + r % 8;
  return f / pair * 2 * pair + f % pair + (r < 8 ? 0 : pair);
}

#endif  // EDGEBENCH_CUDA_W4_ROWS_CUH_
