// Adding up what the blocks of a column of the grid (blocks_z of them) have each summed over their
// part of K, in a tree that has always the same shape, so that results are the same bits in every
// run:
//
//     parts   0   1     2   3     4        Of two siblings the one that comes first writes its sums
//              \ /       \ /      |        and is done; the second one adds them to its own (a + b
//              0,1       2,3      |        is b + a, bit for bit) and goes on to the next level. No
//                 \     /         |        block waits for another one, and the last one reads
//                 0,1,2,3         |        log2(parts) sums, not all of them.
//                        \       /
//                        0,1,2,3,4         Sums and counters belong to a sibling's first part.
//
//     workspace: fp32, [block y][block x][part][fragment][thread] of 4 floats
//     counters: u32 [block y][block x][part], zero before and after
#ifndef EDGEBENCH_CUDA_SPLIT_K_CUH_
#define EDGEBENCH_CUDA_SPLIT_K_CUH_

#include "prim.cuh"

template <int kFragments>
EB_DEVICE void publish(const float (*fragments)[4], u8* to) {
#pragma unroll
  for (int i = 0; i < kFragments; ++i) {
    const float* const f = fragments[i];
    publish_quad(to + (s64)i * threads() * 16,
                 {float_bits(f[0]), float_bits(f[1]), float_bits(f[2]), float_bits(f[3])});
  }
  memory_fence();
}

template <int kFragments>
EB_DEVICE void add_published(const u8* from, float (*fragments)[4]) {
#pragma unroll
  for (int i = 0; i < kFragments; ++i) {
    const Quad quad = load_quad_fresh(from + (s64)i * threads() * 16);
    fragments[i][0] += bits_float(quad.x);
    fragments[i][1] += bits_float(quad.y);
    fragments[i][2] += bits_float(quad.z);
    fragments[i][3] += bits_float(quad.w);
  }
}

// The counter before `by` was added to it, told to all threads of the block through `memory`.
EB_DEVICE u32 count(u32* counter, u32 by, u8* memory) {
  barrier();
  if (thread_id() == 0) *(u32*)memory = atomic_add(counter, by);
  barrier();
  return *(const u32*)memory;
}

// True in one block of the column, where fragments are now the sums of all parts; the others are
// done. `memory`: 4 bytes of shared memory that nothing else uses after the block's next barrier.
template <int kFragments>
EB_DEVICE bool sum_splits(float (*fragments)[4], u8* memory, u8* workspace, u32* counters) {
  const int parts = blocks_z(), column = (block_y() * blocks_x() + block_x()) * parts;
  const s64 part_bytes = (s64)kFragments * threads() * 16;
  u8* const sums = workspace + column * part_bytes + 16 * thread_id();
  for (int width = 1; width < parts; width *= 2) {
    const int mine = block_z() / width * width, sibling = mine ^ width;
    if (sibling >= parts) continue;
    u32* const counter = counters + column + (mine > sibling ? mine : sibling);
    if (count(counter, 0, memory) == 0) {  // not there yet, so far
      publish<kFragments>(fragments, sums + mine * part_bytes);
      if (count(counter, 1, memory) == 0) return false;
    }
    memory_fence();
    if (thread_id() == 0) *counter = 0;
    add_published<kFragments>(sums + sibling * part_bytes, fragments);
  }
  return true;
}

#endif  // EDGEBENCH_CUDA_SPLIT_K_CUH_
