// The pool of pool.h: job protocol, parking, fork.
//
// Join protocol. A worker that sees a new generation adds itself to `inside_`, then looks at
// `open_`; the caller clears `open_`, then reads `inside_`. All four are sequentially consistent,
// so either the caller sees the worker and waits for it, or the worker sees the job closed and
// leaves. A pool that waited for every worker instead cost a scheduler quantum (4 ms) a call
// whenever another process held a core.
#include "pool.h"

#include <pthread.h>

#include <chrono>

#include "affinity.h"

namespace edgebench {
namespace {

constexpr auto kSpin = std::chrono::microseconds(100);  // then park: a woken worker costs ~10-50 us
constexpr int kPausesPerClock = 64;                     // look at the clock this rarely
constexpr int kPausesBeforeYield = 2000;

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr uint64_t span_of(uint32_t begin, uint32_t end) {
  return static_cast<uint64_t>(begin) << 32 | end;
}

std::atomic<Pool*> g_pool{nullptr};
std::atomic<int> g_threads{1};  // survives a fork, the threads do not

void replace_pool_in_child() { g_pool.store(nullptr); }

}  // namespace

Pool& pool() {
  Pool* current = g_pool.load(std::memory_order_acquire);
  if (current != nullptr) return *current;
  static const int registered = pthread_atfork(nullptr, nullptr, replace_pool_in_child);
  (void)registered;
  auto* fresh = new Pool();
  fresh->set_threads(g_threads.load());
  if (!g_pool.compare_exchange_strong(current, fresh)) {
    delete fresh;
    return *current;
  }
  return *fresh;
}

int configured_threads() { return g_threads.load(); }

void Pool::set_threads(int threads) {
  if (threads == threads_ && ranges_) return;
  stop_workers();
  ranges_.reset(new Range[threads]);
  threads_ = threads;
  g_threads.store(threads);
}

void Pool::set_affinity(const std::vector<int>& cpus) {
  if (cpus == cpus_) return;
  stop_workers();
  cpus_ = cpus;
}

void Pool::start_workers() {
  if (started_) return;
  started_ = true;
  const uint64_t seen = generation_.load();
  try {
    for (int thread = 1; thread < threads_; ++thread) {
      workers_.emplace_back(&Pool::worker, this, thread, seen);
    }
  } catch (...) {
    stop_workers();
    throw;
  }
}

void Pool::stop_workers() {
  if (!workers_.empty()) {
    stop_.store(true);
    generation_.fetch_add(1);
    {
      const std::lock_guard<std::mutex> lock(park_mutex_);
      park_.notify_all();
    }
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stop_.store(false);
  }
  started_ = false;
}

void Pool::run(uint32_t tasks, TaskFn task, void* context) {
  if (threads_ == 1 || tasks == 1) {
    for (uint32_t index = 0; index < tasks; ++index) task(context, 0, index);
    return;
  }
  start_workers();
  for (int thread = 0; thread < threads_; ++thread) {
    const auto begin = static_cast<uint32_t>(uint64_t{tasks} * thread / threads_);
    const auto end = static_cast<uint32_t>(uint64_t{tasks} * (thread + 1) / threads_);
    ranges_[thread].span.store(span_of(begin, end), std::memory_order_relaxed);
  }
  task_ = task;
  context_ = context;
  open_.store(true);
  generation_.fetch_add(1);
  if (parked_.load() > 0) {
    const std::lock_guard<std::mutex> lock(park_mutex_);
    park_.notify_all();
  }
  work(0);
  open_.store(false);
  for (int pauses = 0; inside_.load() > 0; ++pauses) {
    if (pauses < kPausesBeforeYield) {
      pause_cpu();
    } else {
      std::this_thread::yield();
    }
  }
}

uint8_t* Pool::scratch(int slot, size_t bytes) {
  if (static_cast<size_t>(slot) >= scratch_.size()) scratch_.resize(slot + 1);
  HugeBuffer& buffer = scratch_[slot];
  if (buffer.size() < bytes) {
    buffer = HugeBuffer();  // free first: the two together may not fit
    buffer = HugeBuffer(bytes);
  }
  return buffer.data();
}

void Pool::worker(int thread, uint64_t seen) {
  // A CPU taken away since it was asked for: run anywhere rather than not at all.
  if (!cpus_.empty()) bind_to_cpu(cpus_[thread % cpus_.size()]);
  for (;;) {
    seen = wait_for_job(seen);
    if (stop_.load()) return;
    inside_.fetch_add(1);
    if (open_.load()) work(thread);
    inside_.fetch_sub(1);
  }
}

uint64_t Pool::wait_for_job(uint64_t seen) {
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int pauses = 0; pauses < kPausesPerClock; ++pauses) {
      const uint64_t now = generation_.load(std::memory_order_acquire);
      if (now != seen) return now;
      pause_cpu();
    }
  } while (std::chrono::steady_clock::now() - start < kSpin);
  std::unique_lock<std::mutex> lock(park_mutex_);
  parked_.fetch_add(1);
  park_.wait(lock, [&] { return generation_.load() != seen; });
  parked_.fetch_sub(1);
  return generation_.load();
}

void Pool::work(int thread) {
  uint32_t index = 0;
  while (claim_front(thread, &index)) task_(context_, thread, index);
  for (int other = 1; other < threads_; ++other) {
    const int range = (thread + other) % threads_;
    while (claim_back(range, &index)) task_(context_, thread, index);
  }
}

bool Pool::claim_front(int range, uint32_t* index) {
  std::atomic<uint64_t>& span = ranges_[range].span;
  uint64_t old = span.load(std::memory_order_acquire);
  for (;;) {
    const auto begin = static_cast<uint32_t>(old >> 32);
    const auto end = static_cast<uint32_t>(old);
    if (begin >= end) return false;
    if (span.compare_exchange_weak(old, span_of(begin + 1, end))) {
      *index = begin;
      return true;
    }
  }
}

bool Pool::claim_back(int range, uint32_t* index) {
  std::atomic<uint64_t>& span = ranges_[range].span;
  uint64_t old = span.load(std::memory_order_acquire);
  for (;;) {
    const auto begin = static_cast<uint32_t>(old >> 32);
    const auto end = static_cast<uint32_t>(old);
    if (begin >= end) return false;
    if (span.compare_exchange_weak(old, span_of(begin, end - 1))) {
      *index = end - 1;
      return true;
    }
  }
}

}  // namespace edgebench
