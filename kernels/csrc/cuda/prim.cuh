// Primitives of a GPU kernel, in inline PTX: types, places, barriers, shared and global memory.
//
// No CUDA header is included, so NVRTC compiles a kernel from this text alone; half floats are u16
// and pairs of them u32. Kernels call these names and nothing of CUDA's own, because the same
// kernel text is compiled as host C++ too (EB_EMULATE), where tests/native/cuda/emulated_prim.h
// gives every name a second body that checks what hardware does not: alignment, divergence,
// deadlock.
#ifndef EDGEBENCH_CUDA_PRIM_CUH_
#define EDGEBENCH_CUDA_PRIM_CUH_

#ifndef EB_EMULATE

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef int s32;
typedef long long s64;

#define EB_DEVICE __device__ __forceinline__
// A kernel of at most `threads` a block, of which `blocks` shall fit on a multiprocessor.
#define EB_KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
// The block's shared memory as bytes; its size is given at launch.
#define EB_SHARED(name) extern __shared__ __align__(1024) u8 name[]

// 16 bytes, the widest load of a lane.
struct __align__(16) Quad {
  u32 x, y, z, w;
};

// ------------------------------------------------------------------------------------------ places

EB_DEVICE int thread_id() { return threadIdx.x; }
EB_DEVICE int lane_id() { return threadIdx.x & 31; }
EB_DEVICE int warp_id() { return threadIdx.x >> 5; }
EB_DEVICE int threads() { return blockDim.x; }
EB_DEVICE int block_x() { return blockIdx.x; }
EB_DEVICE int block_y() { return blockIdx.y; }
EB_DEVICE int block_z() { return blockIdx.z; }
EB_DEVICE int blocks_x() { return gridDim.x; }
EB_DEVICE int blocks_y() { return gridDim.y; }
EB_DEVICE int blocks_z() { return gridDim.z; }

// ---------------------------------------------------------------------------------------- barriers

// All threads of the block, at the same place of the program.
EB_DEVICE void barrier() { __syncthreads(); }
// `count` threads (a multiple of 32) that name the same barrier 1..15, at any place.
EB_DEVICE void barrier_named(int id, int count) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}
// All lanes of the warp; what they stored to shared memory before is seen by all after.
EB_DEVICE void warp_barrier() { __syncwarp(); }
// What this thread stored before is seen by the whole GPU before anything that it stores after.
EB_DEVICE void memory_fence() { __threadfence(); }

// Programmatic dependent launch (sm_90): wait until the kernel before has finished; let the kernel
// after begin. Without the launch attribute, or on older hardware, both do nothing. Kernels let the
// next one begin first thing: a chain of them may then be resident, each waiting for the one before
// it, so that before its wait a kernel reads only what no kernel of the chain writes.
EB_DEVICE void grid_dependency_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
EB_DEVICE void grid_dependency_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ----------------------------------------------------------------------------------- shared memory

EB_DEVICE u32 shared_address(const void* at) { return (u32)__cvta_generic_to_shared(at); }

// 16 bytes global -> shared without a register; zeros if not `take` (then `from` is not read);
// nothing happens if not `go`, without a branch. No L2 policy (cache_hint): ptxas 13.0 keeps the
// policy and the shared address in one register pair for sm_90, and the GPU stops with an illegal
// instruction (seen on an H200).
EB_DEVICE void copy_async(void* to, const void* from, bool take = true, bool go = true) {
  asm volatile(
      "{ .reg .pred go; setp.ne.u32 go, %3, 0; @go cp.async.cg.shared.global [%0], [%1], 16, %2; "
      "}" ::"r"(shared_address(to)),
      "l"(from), "r"(take ? 16 : 0), "r"((u32)go)
      : "memory");
}
// 4 bytes, for rows that are not 16-byte aligned; through the L1.
EB_DEVICE void copy_async_4(void* to, const void* from, bool take = true) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(take ? 4 : 0)
               : "memory");
}
// Close the group of this thread's copies since the last commit.
EB_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Wait until at most `kPending` of this thread's groups are still under way. Other threads see the
// bytes only after a barrier.
template <int kPending>
EB_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ----------------------------------------------------------------------------------- global memory

// 16, 4 and 2 bytes that nobody writes while the kernel runs.
EB_DEVICE Quad load_quad(const void* from) {
  Quad v;
  asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}
EB_DEVICE u32 load_word(const void* from) {
  u32 v;
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(from));
  return v;
}
EB_DEVICE u16 load_short(const void* from) {
  u16 v;
  asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(v) : "l"(from));
  return v;
}
EB_DEVICE void store_quad(void* to, Quad v) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}
// Stores that will not be read again soon.
EB_DEVICE void store_quad_once(void* to, Quad v) {
  asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}
// 16 bytes for other blocks to read: they are there after this thread's memory_fence().
EB_DEVICE void publish_quad(void* to, Quad v) {
  asm volatile("st.global.cg.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}
// 16 and 4 bytes past the L1, for what other blocks have just written.
EB_DEVICE Quad load_quad_fresh(const void* from) {
  Quad v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}
EB_DEVICE float load_float_fresh(const float* from) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(from) : "memory");
  return v;
}

// The value before; ordered with the memory accesses around it, GPU-wide.
EB_DEVICE u32 atomic_add(u32* at, u32 by) {
  u32 before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(at), "r"(by)
               : "memory");
  return before;
}
EB_DEVICE u64 atomic_max(u64* at, u64 value) {
  u64 before;
  asm volatile("atom.acq_rel.gpu.global.max.u64 %0, [%1], %2;"
               : "=l"(before)
               : "l"(at), "l"(value)
               : "memory");
  return before;
}

#endif  // EB_EMULATE

#include "prim_math.cuh"
#include "prim_warp.cuh"

#endif  // EDGEBENCH_CUDA_PRIM_CUH_
