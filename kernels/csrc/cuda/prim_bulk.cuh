// Bulk copies (TMA, sm_90): one thread asks, and the bytes that land are counted in arrivals
// (prim_wgmma.cuh), whose phase ends when all threads and all bytes are there.
//
//     arrive_expecting(full, bytes)    by one of the threads that the phase waits for; bytes may
//                                      land before, but not before the phase before is over
//     copy_bulk(.., full)
//     wait_arrivals(full, parity)      who has waited reads them, and so do products: no fence
//
// A cluster's blocks give each other what they have read: a tile lands at the same place of every
// block that `blocks` names, and counts there. Such a block must have the slot free: siblings tell
// it with arrive_at(). Before the first of all this: arrivals_init by some thread, arrivals_fence
// by the same one, cluster_barrier by all; and none ends before a last cluster_barrier.
#ifndef EDGEBENCH_CUDA_PRIM_BULK_CUH_
#define EDGEBENCH_CUDA_PRIM_BULK_CUH_

#include "prim_cluster.cuh"
#include "prim_wgmma.cuh"

#ifndef EB_EMULATE

// What the driver makes of a matrix in global memory, its tiles and their swizzle: CUtensorMap.
struct __align__(64) TensorMap {
  u64 opaque[16];
};
// A parameter whose address copies take.
#define EB_TENSOR_MAP const __grid_constant__ TensorMap

EB_DEVICE void arrivals_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
EB_DEVICE void arrive_expecting(u64* at, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(at)),
               "r"(bytes)
               : "memory");
}
// At the arrivals of the block of that rank, its own too.
EB_DEVICE void arrive_at(u64* at, int rank) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(
                   sibling_address(at, rank))
               : "memory");
}
// As wait_arrivals, where siblings arrive too.
EB_DEVICE void wait_siblings(u64* at, u32 parity) {
  u32 is_over;
  do {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2; "
        "selp.u32 %0, 1, 0, p; }"
        : "=r"(is_over)
        : "r"(shared_address(at)), "r"(parity)
        : "memory");
  } while (!is_over);
}

// `bytes`, a multiple of 16, from global to this block's shared memory, both 16-byte aligned.
EB_DEVICE void copy_bulk(void* to, const void* from, u32 bytes, u64* arrivals) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(arrivals))
      : "memory");
}
// The tile whose first element is `column` of `row`, to all blocks of the bits of `blocks`;
// elements outside of the matrix are zeros, and count. `to`: 1024-byte aligned, with a 128-byte
// swizzle.
EB_DEVICE void copy_tile(void* to, const TensorMap& of, int column, int row, u64* arrivals,
                         u16 blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
      "l"(&of), "r"(column), "r"(row), "r"(shared_address(arrivals)), "h"(blocks)
      : "memory");
}

#endif  // EB_EMULATE

#endif  // EDGEBENCH_CUDA_PRIM_BULK_CUH_
