// Adding up parts of attention that were softened against different peaks, in the order of the
// parts, so that results are the same bits in every run.
//
// A part is kQueries rows of kHead + 4 floats: outputs (not divided by the sum), peak, sum, -, -.
// A part of no columns has the peak -infinity and the sum 0.
#ifndef EDGEBENCH_CUDA_ATTENTION_MERGE_CUH_
#define EDGEBENCH_CUDA_ATTENTION_MERGE_CUH_

#include "prim.cuh"

// Four neighbouring outputs of a query.
struct Merged {
  float out[4];
  float peak, sum;

  EB_DEVICE void add(Quad part, float part_peak, float part_sum) {
    const float risen = larger(peak, part_peak);
    const float old = peak == risen ? 1.0f : exp2_fast(peak - risen);
    const float by = part_peak == risen ? 1.0f : exp2_fast(part_peak - risen);
    const float v[4] = {bits_float(part.x), bits_float(part.y), bits_float(part.z),
                        bits_float(part.w)};
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = out[i] * old + v[i] * by;
    peak = risen;
    sum = sum * old + part_sum * by;
  }
};

// Outputs element .. element + 3 of the query whose row of part 0 is `row`; parts lie `stride`
// floats apart, in shared memory or (kFresh) where other blocks have published them.
template <int kHead, bool kFresh>
EB_DEVICE Merged merge(const float* row, int element, s64 stride, int parts) {
  Merged merged{{0, 0, 0, 0}, bits_float(0xff800000u), 0};
#pragma unroll 8
  for (int part = 0; part < parts; ++part, row += stride) {
    const Quad out = kFresh ? load_quad_fresh(row + element) : *(const Quad*)(row + element);
    const Quad tail = kFresh ? load_quad_fresh(row + kHead) : *(const Quad*)(row + kHead);
    merged.add(out, bits_float(tail.x), bits_float(tail.y));
  }
  return merged;
}

#endif  // EDGEBENCH_CUDA_ATTENTION_MERGE_CUH_
