// Timed by the monotonic clock around whole jobs; work is claimed in pieces of tens of
// microseconds, so a thread that starts late or is taken away costs its own share only, as in the
// kernels.
#include "ceilings.h"

#include <atomic>
#include <chrono>

#include "dispatch.h"
#include "pool.h"
#include "tuning.h"

namespace edgebench {
namespace {

constexpr size_t kReadChunk = size_t{128} << 10;
constexpr int64_t kPieceNs = 50'000;
std::atomic<uint64_t> g_sink{0};  // keeps the reads from being optimised away

int64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

struct ReadJob {
  uint64_t (*read)(const uint8_t* bytes, size_t size, int prefetch);
  const uint8_t* buffer;
  int prefetch;
};

void read_task(void* context, int /*thread*/, uint32_t index) {
  const auto& job = *static_cast<const ReadJob*>(context);
  g_sink.fetch_or(job.read(job.buffer + index * kReadChunk, kReadChunk, job.prefetch),
                  std::memory_order_relaxed);
}

struct PeakJob {
  void (*loop)(int64_t iterations);
  int64_t iterations;
};

void peak_task(void* context, int /*thread*/, uint32_t /*index*/) {
  const auto& job = *static_cast<const PeakJob*>(context);
  job.loop(job.iterations);
}

// Iterations of one piece: grown until the loop takes a measurable part of it.
int64_t calibrate(const Peak& peak) {
  int64_t iterations = 16;
  for (;;) {
    const int64_t start = now_ns();
    peak.loop(iterations);
    const int64_t taken = now_ns() - start;
    if (taken > kPieceNs / 2 || iterations > (int64_t{1} << 40)) return iterations;
    iterations *= 2;
  }
}

}  // namespace

double read_bandwidth(const uint8_t* buffer, size_t size, int64_t budget_ns) {
  Pool& threads = pool();
  const std::lock_guard<std::mutex> lock(threads.mutex());
  const auto chunks = static_cast<uint32_t>(size / kReadChunk);
  // With the prefetch that the kernels use, and without: the ceiling is the faster of the two.
  ReadJob jobs[2] = {{current_isa().ops->read, buffer, 0},
                     {current_isa().ops->read, buffer, prefetch_bytes()}};
  threads.run(chunks, read_task, &jobs[0]);  // wakes the workers and touches every page
  int64_t taken[2] = {0, 0};
  int64_t passes = 0;
  do {
    for (int which = 0; which < 2; ++which) {
      const int64_t start = now_ns();
      threads.run(chunks, read_task, &jobs[which]);
      taken[which] += now_ns() - start;
    }
    ++passes;
  } while (taken[0] + taken[1] < budget_ns);
  const double bytes = static_cast<double>(passes) * chunks * kReadChunk;
  return 1e9 * bytes / static_cast<double>(taken[0] < taken[1] ? taken[0] : taken[1]);
}

double arithmetic_peak(const Peak& peak, int64_t budget_ns) {
  Pool& threads = pool();
  const std::lock_guard<std::mutex> lock(threads.mutex());
  PeakJob job{peak.loop, calibrate(peak)};
  const auto pieces = static_cast<uint32_t>(threads.threads() * (1 + budget_ns / kPieceNs));
  threads.run(static_cast<uint32_t>(4 * threads.threads()), peak_task, &job);  // wake the workers
  const int64_t start = now_ns();
  threads.run(pieces, peak_task, &job);
  const int64_t taken = now_ns() - start;
  const double operations = peak.ops_per_iteration * static_cast<double>(job.iterations) * pieces;
  return 1e9 * operations / static_cast<double>(taken);
}

}  // namespace edgebench
