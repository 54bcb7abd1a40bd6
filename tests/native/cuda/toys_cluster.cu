// A small kernel of what prim_cluster.cuh offers: what holds its emulation to account.
#include "../../../kernels/csrc/cuda/prim_cluster.cuh"

// y = the sum of x over the blocks of a cluster, each thread's place in a block mirrored, plus the
// block's rank. x, y: u32 [z][x][thread][4].
EB_KERNEL(64, 1) toy_cluster(const u32* x, u32* y) {
  EB_SHARED(memory);
  const int at = ((block_z() * blocks_x() + block_x()) * threads() + thread_id()) * 4;
  *(Quad*)(memory + 16 * thread_id()) = load_quad(x + at);
  cluster_barrier();
  const u8* const from = memory + 16 * (threads() - 1 - thread_id());
  const u32 own = cluster_rank();
  Quad sum = {own, own, own, own};
  for (int rank = 0; rank < cluster_blocks(); ++rank) {
    const Quad more = load_sibling(sibling_address(from, rank));
    sum = {sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w};
  }
  store_quad(y + at, sum);
  cluster_barrier_relaxed();
}
