// A GPU's blocks, warps and barriers on one host thread, with every unkind order that is legal.
//
// Each GPU thread is a fiber (ucontext) that runs until it must wait: at a barrier, for the other
// lanes of its warp (a collective), or until something becomes true. The scheduler then picks who
// goes on, by a seeded dice:
//
//   lockstep  warps advance by turns, one stretch between two waits at a time
//   greedy    a warp runs as far ahead as barriers allow before another one moves
//   early     cp.async lands when it is issued          late  ... only when it is waited for
//             a published store is seen at once               ... after a fence, or the grid
//   resident  so many blocks of the grid live at once, in random order; a cluster's always do
//
// Shared memory is an exact-size heap allocation of 0xff bytes (NaN as fp16 and fp32), buffers are
// exact-size heap allocations: under AddressSanitizer an access one byte outside is an error.
// What hardware leaves undefined ends the process with a message that names file and line:
#ifndef EDGEBENCH_TESTS_EMULATOR_H_
#define EDGEBENCH_TESTS_EMULATOR_H_

#include "emulated_state.h"

namespace emulator {

// ------------------------------------------------------------------------------------------ fibers

inline char* take_stack() {
  if (!idle_stacks.empty()) {
    char* const stack = idle_stacks.back();
    idle_stacks.pop_back();
    return stack;
  }
  void* const pages = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) fail(kBadLaunch, "no memory for a thread's stack");
  mprotect(pages, kGuardBytes, PROT_NONE);
  return static_cast<char*>(pages) + kGuardBytes;
}

inline void give_stack(char* stack) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack, kStackBytes);
#endif
  idle_stacks.push_back(stack);
}

// From a thread to the scheduler.
inline void leave() {
  Thread* const me = self;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(me->state == State::kDone ? nullptr : &me->fake_stack,
                                 scheduler_stack, scheduler_stack_bytes);
#endif
  swapcontext(&me->context, &scheduler);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(me->fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

// From the scheduler to a thread, until it waits.
inline void enter(Thread* thread) {
  self = thread;
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, thread->stack, kStackBytes);
#endif
  swapcontext(&scheduler, &thread->context);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  self = nullptr;
}

inline void run_body() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
  launch.body();
  unfenced.insert(unfenced.end(), self->stores.begin(), self->stores.end());
  self->state = State::kDone;
  Cluster& cluster = *self->block->cluster;
  cluster.running -= 1;
  cluster.arrived -= self->has_arrived;
  end_phase_if_complete(cluster);
  leave();
}

// ----------------------------------------------------------------------- what primitives wait with

inline void wait_at_barrier(int id, int count, Site site) {
  self->state = State::kBarrier;
  self->site = site;
  self->barrier = id;
  self->barrier_threads = count;
  leave();
}

// Meet the other lanes (32, or 128 of a warp group); the last to come lets `combine` see them all.
inline void collective(void* payload, Combine combine, Site site, int width = 32) {
  self->state = State::kCollective;
  self->site = site;
  self->payload = payload;
  self->combine = combine;
  self->width = width;
  leave();
}

// For memory barriers and flags: go on at some time after `fact` has become true.
inline void wait_until(std::function<bool()> fact, Site site) {
  self->state = State::kUntil;
  self->site = site;
  self->until = std::move(fact);
  leave();
}

inline void check_aligned(const void* at, size_t bytes, Site site) {
  if (reinterpret_cast<size_t>(at) % bytes != 0) {
    fail(kMisaligned, "misaligned: %p is no multiple of %zu at %s:%d", at, bytes, site.file,
         site.line);
  }
}

inline bool is_shared(const void* at) {
  const auto* const first = self->block->shared;
  return at >= first && at < first + launch.shared_bytes;
}
// Instructions name the space of their address: one of another space is an error on a GPU.
inline void check_global(const void* at, size_t bytes, Site site) {
  check_aligned(at, bytes, site);
  if (is_shared(at)) {
    fail(kWrongSpace, "wrong space: an address in shared memory at %s:%d, which takes a global one",
         site.file, site.line);
  }
}
inline void check_shared(const void* at, size_t bytes, Site site) {
  check_aligned(at, bytes, site);
  if (!is_shared(at)) {
    fail(kWrongSpace, "wrong space: an address outside of shared memory at %s:%d", site.file,
         site.line);
  }
}

// --------------------------------------------------------------------------------------- scheduler

inline const char* name_of(State state) {
  constexpr const char* kNames[] = {"ready", "at the barrier", "at the collective", "waiting",
                                    "done"};
  return kNames[static_cast<int>(state)];
}

inline void report_deadlock(const std::vector<std::unique_ptr<Block>>& live) {
  std::map<std::string, int> where;
  for (const auto& block : live) {
    for (const Thread& thread : block->threads) {
      std::string text = name_of(thread.state);
      if (thread.state != State::kDone) {
        text += " " + std::string(thread.site.file) + ":" + std::to_string(thread.site.line);
      }
      where[text] += 1;
    }
  }
  std::string all;
  for (const auto& [text, count] : where) {
    all += (all.empty() ? "" : ", ") + std::to_string(count) + " " + text;
  }
  fail(kDeadlock, "deadlock: of the threads %s", all.c_str());
}

// Perform the collective that a whole warp (or warp group) has reached.
inline bool meet(Thread* first, int width) {
  std::vector<void*> lanes;
  for (int lane = 0; lane < width; ++lane) {
    const Thread& thread = first[lane];
    if (thread.state != State::kCollective || thread.width != width) return false;
    lanes.push_back(thread.payload);
  }
  for (int lane = 1; lane < width; ++lane) {
    const Thread& thread = first[lane];
    if (!(thread.site == first->site) || thread.combine != first->combine) {
      fail(kDivergence, "divergence: lane 0 at %s:%d, lane %d at %s:%d", first->site.file,
           first->site.line, lane, thread.site.file, thread.site.line);
    }
  }
  if (first->combine != nullptr) first->combine(lanes.data());
  for (int lane = 0; lane < width; ++lane) first[lane].state = State::kReady;
  return true;
}

// Let each lane that can go on run to its next wait, in random order; then meet.
inline bool step(Block* block, int warp) {
  Thread* const lanes = block->threads.data() + warp * 32;
  int order[32];
  for (int i = 0; i < 32; ++i) order[i] = i;
  std::shuffle(order, order + 32, dice);
  bool has_moved = false;
  for (const int lane : order) {
    Thread* const thread = lanes + lane;
    if (thread->state == State::kUntil && thread->until()) thread->state = State::kReady;
    if (thread->state != State::kReady) continue;
    enter(thread);
    has_moved = true;
  }
  if (lanes->state == State::kCollective) {
    const int width = lanes->width;
    const int first = warp / (width / 32) * (width / 32);
    has_moved |= meet(block->threads.data() + first * 32, width);
  }
  return has_moved;
}

inline bool release_barriers(Block* block) {
  std::map<int, std::vector<Thread*>> waiting;
  for (Thread& thread : block->threads) {
    if (thread.state == State::kBarrier) waiting[thread.barrier].push_back(&thread);
  }
  bool has_moved = false;
  for (auto& [id, threads] : waiting) {
    if (static_cast<int>(threads.size()) < threads[0]->barrier_threads) continue;
    for (Thread* const thread : threads) {
      if (id == 0 && !(thread->site == threads[0]->site)) {
        fail(kDivergence, "divergence: one barrier from %s:%d and from %s:%d",
             threads[0]->site.file, threads[0]->site.line, thread->site.file, thread->site.line);
      }
      thread->state = State::kReady;
    }
    has_moved = true;
  }
  return has_moved;
}

inline std::unique_ptr<Block> make_block(int column, int z) {
  auto block = std::make_unique<Block>();
  block->x = column % launch.grid[0];
  block->y = column / launch.grid[0];
  block->z = z;
  if (posix_memalign(reinterpret_cast<void**>(&block->shared), 1024, launch.shared_bytes) != 0) {
    fail(kBadLaunch, "no memory for %d bytes of shared memory", launch.shared_bytes);
  }
  memset(block->shared, 0xff, launch.shared_bytes);
  block->copied.resize(launch.shared_bytes / 16 + 1);
  block->threads = std::vector<Thread>(launch.threads);
  for (int i = 0; i < launch.threads; ++i) {
    Thread* const thread = &block->threads[i];
    thread->block = block.get();
    thread->index = i;
    thread->stack = take_stack();
    getcontext(&thread->context);
    thread->context.uc_stack.ss_sp = thread->stack;
    thread->context.uc_stack.ss_size = kStackBytes;
    thread->context.uc_link = nullptr;
    makecontext(&thread->context, run_body, 0);
  }
  return block;
}

// The blocks of a cluster, which begin together.
inline void make_cluster(int index, std::vector<std::unique_ptr<Block>>& live) {
  const int columns = launch.grid[0] * launch.grid[1];
  const auto cluster = std::make_shared<Cluster>();
  cluster->running = launch.cluster * launch.threads;
  for (int rank = 0; rank < launch.cluster; ++rank) {
    live.push_back(make_block(index % columns, index / columns * launch.cluster + rank));
    live.back()->cluster = cluster;
    cluster->blocks.push_back(live.back().get());
  }
}

inline void end(std::unique_ptr<Block>& block) {
  for (Thread& thread : block->threads) give_stack(thread.stack);
  block->cluster->blocks[block->z % launch.cluster] = nullptr;
  block.reset();
}

inline bool is_done(const std::unique_ptr<Block>& block) {
  return std::all_of(block->threads.begin(), block->threads.end(),
                     [](const Thread& thread) { return thread.state == State::kDone; });
}

// One round: every warp of every live block moves once. Greedy: a quarter of them, as far as they
// can, so that a warp may stand still while others pass barriers; more, if none of those can.
inline bool round_of(const std::vector<std::unique_ptr<Block>>& live) {
  std::vector<std::pair<Block*, int>> warps;
  for (const auto& block : live) {
    for (int warp = 0; warp < launch.threads / 32; ++warp) warps.emplace_back(block.get(), warp);
  }
  std::shuffle(warps.begin(), warps.end(), dice);
  bool has_moved = false;
  const size_t few = launch.is_greedy ? (warps.size() + 3) / 4 : warps.size();
  for (size_t i = 0; i < warps.size() && (i < few || !has_moved); ++i) {
    while (step(warps[i].first, warps[i].second)) {
      has_moved = true;
      if (!launch.is_greedy) break;
    }
  }
  for (const auto& block : live) has_moved |= release_barriers(block.get());
  return has_moved;
}

inline void run(const Launch& what) {
  launch = what;
  if (launch.threads % 32 != 0) fail(kBadLaunch, "threads must be whole warps");
  if (launch.cluster < 1 || launch.grid[2] % launch.cluster != 0)
    fail(kBadLaunch, "a grid must be whole clusters");
  dice.seed(launch.seed);
  std::vector<int> remaining(launch.grid[0] * launch.grid[1] * launch.grid[2] / launch.cluster);
  for (size_t i = 0; i < remaining.size(); ++i) remaining[i] = static_cast<int>(i);
  std::shuffle(remaining.begin(), remaining.end(), dice);
  std::vector<std::unique_ptr<Block>> live;
  while (!remaining.empty() || !live.empty()) {
    while (!remaining.empty() && static_cast<int>(live.size()) < launch.resident) {
      make_cluster(remaining.back(), live);
      remaining.pop_back();
    }
    if (!round_of(live)) report_deadlock(live);
    for (auto& block : live) {
      if (is_done(block)) end(block);
    }
    live.erase(std::remove(live.begin(), live.end(), nullptr), live.end());
  }
  for (const Store& store : unfenced) land(store);
  unfenced.clear();
}

}  // namespace emulator

#endif  // EDGEBENCH_TESTS_EMULATOR_H_
