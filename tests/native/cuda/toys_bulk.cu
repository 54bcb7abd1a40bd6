// A small kernel of what prim_bulk.cuh offers: what holds its emulation to account.
#include "../../../kernels/csrc/cuda/prim_bulk.cuh"

// Each block of a cluster reads 8 rows x 64 columns of x for all of them, from (row + 8 rank,
// column) on, and 64 words of w for itself: y [z][8 blocks rows x 32 + 64] words, unswizzled.
EB_KERNEL(64, 1) toy_bulk(EB_TENSOR_MAP x, const u32* w, u32* y, int row, int column) {
  EB_SHARED(memory);
  const int blocks = cluster_blocks(), rank = cluster_rank(), thread = thread_id();
  u8* const own = memory + 1024 * blocks;
  u64* const full = (u64*)(own + 256);
  if (thread == 0) arrivals_init(full, 1);
  if (thread == 0) arrivals_fence();
  cluster_barrier();
  if (thread == 0) {
    copy_bulk(own, w + 64 * block_z(), 256, full);
    copy_tile(memory + 1024 * rank, x, column, row + 8 * rank, full, (1 << blocks) - 1);
    arrive_expecting(full, 1024 * blocks + 256);
  }
  wait_arrivals(full, 0);
  u32* const to = y + block_z() * (256 * blocks + 64);
  for (int tile = 0; tile < blocks; ++tile) {
    const u8* const from = memory + 1024 * tile + thread / 8 * 128 + (thread ^ thread / 8) % 8 * 16;
    store_quad(to + 256 * tile + 4 * thread, *(const Quad*)from);
  }
  if (thread < 16) store_quad(to + 256 * blocks + 4 * thread, *(const Quad*)(own + 16 * thread));
  cluster_barrier_relaxed();
}
