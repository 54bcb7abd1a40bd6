// What the emulator keeps: threads, blocks, the launch, and what is on its way to memory.
#ifndef EDGEBENCH_TESTS_EMULATED_STATE_H_
#define EDGEBENCH_TESTS_EMULATED_STATE_H_

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

enum Failure {
  kDivergence = 3,
  kDeadlock = 4,
  kMisaligned = 5,
  kBadLaunch = 6,
  kUnordered = 7,
  kWrongSpace = 8,
  kOutsideCluster = 9
};

[[noreturn]] inline void fail(Failure code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "[emulator] ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  fflush(stderr);
  _exit(code);
}

// Where in the kernel a primitive was called.
struct Site {
  const char* file;
  int line;
  // As a default argument: the place of the call.
  static Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  bool operator==(const Site& other) const {
    return line == other.line && strcmp(file, other.file) == 0;
  }
};

enum class State { kReady, kBarrier, kCollective, kUntil, kDone };

// Computes a collective: lane i's operands and results are behind lanes[i].
using Combine = void (*)(void** lanes);

struct Copy {
  void* to;
  const void* from;
  int bytes;
  bool is_taken;
};

inline void land(const Copy& copy) {
  if (copy.is_taken) {
    memcpy(copy.to, copy.from, copy.bytes);
  } else {
    memset(copy.to, 0, copy.bytes);
  }
}

// 16 bytes on their way to other blocks.
struct Store {
  void* to;
  unsigned char bytes[16];
};

struct Block;

struct Thread {
  ucontext_t context;
  char* stack = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
  Block* block = nullptr;
  int index = 0;
  State state = State::kReady;
  Site site{"", 0};
  int barrier = 0, barrier_threads = 0;  // of kBarrier
  void* payload = nullptr;               // of kCollective
  Combine combine = nullptr;
  int width = 32;
  std::function<bool()> until;  // of kUntil
  std::vector<Copy> open;       // copies not yet committed
  std::deque<std::vector<Copy>> groups;
  std::vector<Store> stores;       // not yet seen by others
  std::vector<size_t> copied;      // of its block's `copied`
  bool has_arrived = false;        // at its cluster's barrier, whose phase is not over
  std::shared_ptr<void> products;  // asynchronous ones: emulated_wgmma.h
};

inline void land(const Store& store) { memcpy(store.to, store.bytes, sizeof(store.bytes)); }

inline void land_stores(Thread* thread) {
  for (const Store& store : thread->stores) land(store);
  thread->stores.clear();
}

// Bytes on their way to a block, where `arrivals` counts them when they land.
struct BulkCopy {
  std::function<void()> land;
  const void* arrivals;
};

// Blocks along z that read each other's shared memory, and the barrier of all their threads.
struct Cluster {
  std::vector<Block*> blocks;  // by rank; those that have ended are null
  int running = 0;             // threads that have not ended
  int arrived = 0;             // of the phase
  unsigned phase = 0;
  Site site{"", 0};  // of the first arrival of the phase
};

struct Block {
  int x = 0, y = 0, z = 0;
  std::shared_ptr<Cluster> cluster;
  std::vector<Thread> threads;
  unsigned char* shared = nullptr;
  std::map<const void*, u_int64_t> notes;  // state of primitives that live in shared memory
  // For each 16 bytes of shared memory: 1 + the thread whose cp.async wrote them, until its fence.
  std::vector<int> copied;
  std::map<const void*, long long> awaited;  // bytes of bulk copies, of each phase: emulated_bulk.h
  std::vector<BulkCopy> bulk;                // on their way

  ~Block() { free(shared); }
};

// Over when all threads that have not ended are there.
inline void end_phase_if_complete(Cluster& cluster) {
  if (cluster.running == 0 || cluster.arrived < cluster.running) return;
  cluster.arrived = 0;
  cluster.phase += 1;
  for (Block* const block : cluster.blocks) {
    if (block == nullptr) continue;
    for (Thread& thread : block->threads) thread.has_arrived = false;
  }
}

struct Launch {
  int grid[3] = {1, 1, 1};
  int cluster = 1;  // blocks along z
  int threads = 32;
  int shared_bytes = 0;
  bool is_early = false;
  bool is_greedy = false;
  int resident = 1;
  unsigned seed = 1;
  std::function<void()> body;
};

constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kGuardBytes = 4096;

// What runs now.
inline Launch launch;
inline Thread* self = nullptr;
inline ucontext_t scheduler;
inline const void* scheduler_stack = nullptr;
inline size_t scheduler_stack_bytes = 0;
inline std::vector<char*> idle_stacks;
inline std::mt19937 dice;
inline std::vector<Store> unfenced;  // of threads that are done: seen when the grid is

// Lands in shared memory, where products that read by the other path do not see it before a fence.
inline void land_shared(const Copy& copy) {
  land(copy);
  const size_t unit = (static_cast<unsigned char*>(copy.to) - self->block->shared) / 16;
  self->block->copied.at(unit) = 1 + self->index;
  self->copied.push_back(unit);
}
inline void fence_copies() {
  for (const size_t unit : self->copied) {
    int& writer = self->block->copied[unit];
    if (writer == 1 + self->index) writer = 0;
  }
  self->copied.clear();
}

}  // namespace emulator

#endif  // EDGEBENCH_TESTS_EMULATED_STATE_H_
