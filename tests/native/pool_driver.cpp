// Drives the thread pool alone, for ThreadSanitizer: every task once, whatever the number of tasks,
// of threads and of callers, and whether the workers spin or are parked.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../../kernels/csrc/cpu/pool.h"

namespace {

struct Job {
  std::unique_ptr<int[]> times;         // plain ints: two threads on one index is a race
  std::unique_ptr<int[]> thread_tasks;  // private to a thread, as the kernels' scratch is
};

void count(void* context, int thread, uint32_t index) {
  auto* job = static_cast<Job*>(context);
  job->times[index] += 1;
  job->thread_tasks[thread] += 1;
}

void expect(bool is_so, const char* what, int threads, uint32_t tasks) {
  if (is_so) return;
  std::fprintf(stderr, "pool_driver: %s (threads=%d tasks=%u)\n", what, threads, tasks);
  std::exit(1);
}

void run_one(edgebench::Pool& pool, int threads, uint32_t tasks) {
  Job job{std::make_unique<int[]>(tasks), std::make_unique<int[]>(edgebench::kMaxThreads)};
  pool.run(tasks, count, &job);
  int total = 0;
  for (uint32_t index = 0; index < tasks; ++index) {
    expect(job.times[index] == 1, "a task ran not exactly once", threads, tasks);
  }
  for (int thread = 0; thread < edgebench::kMaxThreads; ++thread) {
    expect(thread < threads || job.thread_tasks[thread] == 0, "an unknown thread", threads, tasks);
    total += job.thread_tasks[thread];
  }
  expect(total == static_cast<int>(tasks), "tasks were lost", threads, tasks);
}

void callers(edgebench::Pool& pool, int threads) {
  std::vector<std::thread> all;
  for (int caller = 0; caller < 3; ++caller) {
    all.emplace_back([&pool, threads] {
      for (uint32_t tasks = 1; tasks < 60; ++tasks) {
        const std::lock_guard<std::mutex> lock(pool.mutex());
        run_one(pool, threads, tasks);
      }
    });
  }
  for (std::thread& one : all) one.join();
}

}  // namespace

int main() {
  edgebench::Pool& pool = edgebench::pool();
  for (int threads : {1, 2, 3, 8, 2, 1, 5}) {
    {
      const std::lock_guard<std::mutex> lock(pool.mutex());
      pool.set_threads(threads);
      for (uint32_t tasks : {1u, 2u, 3u, 7u, 64u, 1000u}) {
        for (int repeat = 0; repeat < 30; ++repeat) run_one(pool, threads, tasks);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // past the spin: workers park
      }
    }
    callers(pool, threads);
  }
  std::puts("pool_driver: ok");
  return 0;
}
