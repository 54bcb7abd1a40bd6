// Adding up what the blocks of a column of the grid (blocks_z of them) have each summed over their
// part of K: the last block to finish adds all parts, always in the order of the parts, so that
// results are the same bits in every run, whoever is last.
//
//     workspace: fp32, [block y][block x][z][fragment][thread] of 4 floats, each 16-byte access of
//     a warp in one piece;  counters: u32 [block y][block x], zero before and after.
#ifndef EDGEBENCH_CUDA_SPLIT_K_CUH_
#define EDGEBENCH_CUDA_SPLIT_K_CUH_

#include "prim.cuh"

// fragments = the sums of all parts, in the last block, where it returns true; other blocks are
// done. `memory`: 4 bytes of shared memory that the block is done with after its next barrier.
template <int kFragments>
EB_DEVICE bool sum_splits(float (*fragments)[4], u8* memory, u8* workspace, u32* counters) {
  const int parts = blocks_z();
  if (parts == 1) return true;
  const int block = block_y() * blocks_x() + block_x();
  const s64 part_bytes = (s64)kFragments * threads() * 16;
  u8* const mine = workspace + (s64)block * parts * part_bytes + 16 * thread_id();
#pragma unroll
  for (int i = 0; i < kFragments; ++i) {
    const float* const f = fragments[i];
    store_quad(mine + block_z() * part_bytes + (s64)i * threads() * 16,
               {float_bits(f[0]), float_bits(f[1]), float_bits(f[2]), float_bits(f[3])});
  }
  memory_fence();
  barrier();
  u32* const before = (u32*)memory;
  if (thread_id() == 0) *before = atomic_add(counters + block, 1);
  barrier();
  if (*before != (u32)parts - 1) return false;
  memory_fence();
  if (thread_id() == 0) counters[block] = 0;
#pragma unroll
  for (int i = 0; i < kFragments; ++i)
    fragments[i][0] = fragments[i][1] = fragments[i][2] = fragments[i][3] = 0;
  for (int part = 0; part < parts; ++part) {
#pragma unroll
    for (int i = 0; i < kFragments; ++i) {
      const Quad quad = load_quad_fresh(mine + part * part_bytes + (s64)i * threads() * 16);
      fragments[i][0] += bits_float(quad.x);
      fragments[i][1] += bits_float(quad.y);
      fragments[i][2] += bits_float(quad.z);
      fragments[i][3] += bits_float(quad.w);
    }
  }
  return true;
}

#endif  // EDGEBENCH_CUDA_SPLIT_K_CUH_
