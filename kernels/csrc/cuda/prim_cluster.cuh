// Primitives of a GPU kernel, in inline PTX: clusters, whose blocks run at the same time and read
// each other's shared memory (sm_90).
//
// A block's memory may be read by its siblings while that block runs: from a cluster barrier behind
// which all of them have begun, to one before which none has ended. Without a cluster at launch a
// block is alone: rank 0 of 1.
#ifndef EDGEBENCH_CUDA_PRIM_CLUSTER_CUH_
#define EDGEBENCH_CUDA_PRIM_CLUSTER_CUH_

#include "prim.cuh"

#ifndef EB_EMULATE

EB_DEVICE int cluster_rank() {
  u32 r;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return (int)r;
}
EB_DEVICE int cluster_blocks() {
  u32 r;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(r));
  return (int)r;
}

// All threads of the cluster, at the same place of the program; what each stored to its block's
// shared memory before is seen by all after. (arrive.release would be a fence of global memory too,
// MEMBAR.ALL.GPU; the restricted fence is PTX 8.6, NVRTC 12.7.)
EB_DEVICE void cluster_barrier() {
  asm volatile("fence.release.sync_restrict::shared::cta.cluster;" ::: "memory");
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The same, but what was stored need not be seen; what was loaded before has been used.
EB_DEVICE void cluster_barrier_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Where the block of that rank has what `at` is in this one's shared memory.
EB_DEVICE u32 sibling_address(const void* at, int rank) {
  u32 r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(r)
               : "r"(shared_address(at)), "r"(rank));
  return r;
}
// 16 bytes from there.
EB_DEVICE Quad load_sibling(u32 from) {
  Quad v;
  asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(from)
               : "memory");
  return v;
}

#endif  // EB_EMULATE

#endif  // EDGEBENCH_CUDA_PRIM_CLUSTER_CUH_
