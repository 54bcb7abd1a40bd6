// The primitives of kernels/csrc/cuda/prim*.cuh on the emulator: same names, same results, and a
// check wherever a GPU would be undefined.
#ifndef EDGEBENCH_TESTS_EMULATED_PRIM_H_
#define EDGEBENCH_TESTS_EMULATED_PRIM_H_

#include <cmath>

#include "arrivals.h"
#include "emulator.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef int s32;
typedef long long s64;

#define EB_DEVICE inline
#define EB_KERNEL(threads, blocks) void
#define EB_SHARED(name) u8* const name = emulator::self->block->shared

#define EB_SITE_PARAMETER emulator::Site site = emulator::Site::here()

struct alignas(16) Quad {
  u32 x, y, z, w;
};

// ------------------------------------------------------------------------------------------ places

inline int thread_id() { return emulator::self->index; }
inline int lane_id() { return emulator::self->index & 31; }
inline int warp_id() { return emulator::self->index >> 5; }
inline int threads() { return emulator::launch.threads; }
inline int block_x() { return emulator::self->block->x; }
inline int block_y() { return emulator::self->block->y; }
inline int block_z() { return emulator::self->block->z; }
inline int blocks_x() { return emulator::launch.grid[0]; }
inline int blocks_y() { return emulator::launch.grid[1]; }
inline int blocks_z() { return emulator::launch.grid[2]; }

// ---------------------------------------------------------------------------------------- barriers

inline void barrier(EB_SITE_PARAMETER) {
  emulator::wait_at_barrier(0, emulator::launch.threads, site);
}
inline void barrier_named(int id, int count, EB_SITE_PARAMETER) {
  emulator::wait_at_barrier(id, count, site);
}
inline void warp_barrier(EB_SITE_PARAMETER) { emulator::collective(nullptr, nullptr, site); }
inline void memory_fence() { emulator::land_stores(emulator::self); }
inline void grid_dependency_wait() { emulator::arrive(); }
inline void grid_dependency_launch() {}

// ----------------------------------------------------------------------------------- shared memory

inline u32 shared_address(const void* at) {
  return static_cast<u32>(static_cast<const u8*>(at) - emulator::self->block->shared);
}

inline void copy_bytes(void* to, const void* from, int bytes, bool take, emulator::Site site) {
  emulator::check_shared(to, bytes, site);
  emulator::check_aligned(from, bytes, site);
  if (take) emulator::check_global(from, bytes, site);
  const emulator::Copy copy{to, from, bytes, take};
  if (emulator::launch.is_early) {
    emulator::land_shared(copy);
  } else {
    emulator::self->open.push_back(copy);
  }
}
inline void copy_async(void* to, const void* from, bool take = true, bool go = true,
                       EB_SITE_PARAMETER) {
  if (go) copy_bytes(to, from, 16, take, site);
}
inline void copy_async_4(void* to, const void* from, bool take = true, EB_SITE_PARAMETER) {
  copy_bytes(to, from, 4, take, site);
}
inline void copy_commit() {
  emulator::self->groups.push_back(std::move(emulator::self->open));
  emulator::self->open.clear();
}
template <int kPending>
inline void copy_wait() {
  auto& groups = emulator::self->groups;
  for (; static_cast<int>(groups.size()) > kPending; groups.pop_front()) {
    for (const emulator::Copy& copy : groups.front()) emulator::land_shared(copy);
  }
}

// ----------------------------------------------------------------------------------- global memory

template <class T>
inline T load_checked(const void* from, emulator::Site site) {
  emulator::check_global(from, sizeof(T), site);
  T value;
  memcpy(&value, from, sizeof(T));
  return value;
}
inline Quad load_quad(const void* from, EB_SITE_PARAMETER) {
  return load_checked<Quad>(from, site);
}
inline u32 load_word(const void* from, EB_SITE_PARAMETER) { return load_checked<u32>(from, site); }
inline u16 load_short(const void* from, EB_SITE_PARAMETER) { return load_checked<u16>(from, site); }
inline void store_quad(void* to, Quad v, EB_SITE_PARAMETER) {
  emulator::check_global(to, 16, site);
  memcpy(to, &v, 16);
}
inline void store_quad_once(void* to, Quad v, EB_SITE_PARAMETER) { store_quad(to, v, site); }
// Early: seen at once. Late: not before this thread's fence, or the end of the grid.
inline void publish_quad(void* to, Quad v, EB_SITE_PARAMETER) {
  emulator::check_global(to, 16, site);
  emulator::Store store{to, {}};
  memcpy(store.bytes, &v, 16);
  emulator::self->stores.push_back(store);
  if (emulator::launch.is_early) emulator::land_stores(emulator::self);
}
inline Quad load_quad_fresh(const void* from, EB_SITE_PARAMETER) {
  return load_checked<Quad>(from, site);
}
inline float load_float_fresh(const float* from, EB_SITE_PARAMETER) {
  return load_checked<float>(from, site);
}

// Another block may run here: what was stored before is visible, what comes after is not yet.
inline void yield_to_others(emulator::Site site) {
  emulator::wait_until([] { return true; }, site);
}
inline u32 atomic_add(u32* at, u32 by, EB_SITE_PARAMETER) {
  emulator::check_global(at, 4, site);
  yield_to_others(site);
  const u32 before = *at;
  *at += by;
  yield_to_others(site);
  return before;
}
inline u64 atomic_max(u64* at, u64 value, EB_SITE_PARAMETER) {
  emulator::check_global(at, 8, site);
  yield_to_others(site);
  const u64 before = *at;
  *at = std::max(before, value);
  yield_to_others(site);
  return before;
}

#include "emulated_cluster.h"
#include "emulated_math.h"
#include "emulated_warp.h"
#include "emulated_wgmma.h"

#include "emulated_bulk.h"

#endif  // EDGEBENCH_TESTS_EMULATED_PRIM_H_
