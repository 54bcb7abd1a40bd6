// A persistent pool of threads that spin for a moment, then park.
//
// One job at a time: a number of tasks, claimed one by one. Each thread owns a contiguous range and
// walks it from the front, so that memory is read as one sequential stream per thread; who runs out
// steals from the back of the others. The caller takes part and never waits for a worker that has
// not started: it closes the job when no task is left and waits only for those inside it.
#ifndef EDGEBENCH_CPU_POOL_H_
#define EDGEBENCH_CPU_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "huge_buffer.h"

namespace edgebench {

constexpr int kMaxThreads = 256;

// task(context, thread, index): thread in 0..threads-1 names private scratch, index the work.
using TaskFn = void (*)(void* context, int thread, uint32_t index);

class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Hold this around run() and around whatever the tasks share. Concurrent callers queue here.
  std::mutex& mutex() { return mutex_; }

  // All below: with mutex() held. Threads start at the first run that needs them.
  void set_threads(int threads);
  int threads() const { return threads_; }
  // Worker i keeps to cpus[i % size] (the caller's thread is its owner's affair); empty: anywhere.
  void set_affinity(const std::vector<int>& cpus);
  void run(uint32_t tasks, TaskFn task, void* context);
  // At least `bytes` of 64-byte aligned memory that lives with the pool; contents are not kept when
  // it grows. Slot 0 is shared by a job's tasks, slot 1 + thread is private to a thread.
  uint8_t* scratch(int slot, size_t bytes);

 private:
  struct alignas(64) Range {
    std::atomic<uint64_t> span{0};  // begin in the high half, end in the low half
  };

  void start_workers();
  void stop_workers();
  void worker(int thread, uint64_t seen);
  uint64_t wait_for_job(uint64_t seen);
  void work(int thread);
  bool claim_front(int range, uint32_t* index);
  bool claim_back(int range, uint32_t* index);

  std::mutex mutex_;
  int threads_ = 1;
  bool started_ = false;
  std::vector<int> cpus_;
  std::vector<std::thread> workers_;
  std::unique_ptr<Range[]> ranges_;
  std::vector<HugeBuffer> scratch_;
  TaskFn task_ = nullptr;
  void* context_ = nullptr;

  alignas(64) std::atomic<uint64_t> generation_{0};
  alignas(64) std::atomic<int> inside_{0};
  std::atomic<bool> open_{false};
  std::atomic<bool> stop_{false};
  std::atomic<int> parked_{0};
  std::mutex park_mutex_;
  std::condition_variable park_;
};

// The process's pool. A forked child gets a fresh one (its parent's threads do not exist there).
// Never destroyed: parked workers end with the process.
Pool& pool();
// The thread count last set; needs no lock.
int configured_threads();

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_POOL_H_
