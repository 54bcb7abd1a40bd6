// Defaults until `edgebench_kernels.tuning` has measured.
#include "tuning.h"

#include <algorithm>
#include <atomic>

#include "cpu_x86.h"
#include "dispatch.h"

namespace edgebench {
namespace {

constexpr int kUnset = -1;

std::atomic<int> g_prefetch{kUnset};
std::atomic<int> g_few_tokens[2] = {{kUnset}, {kUnset}};

// Software prefetch pays where one core cannot keep enough lines in flight by itself. Measured, one
// thread, 4096 x 4096 from DRAM: Zen 5 (family 26) 0.38 ms without, 0.27 / 0.25 / 0.24 / 0.22 ms
// with 1 / 2 / 4 / 8 KB; Zen 4 (family 25) is fastest without.
int default_prefetch() {
#if defined(__x86_64__)
  constexpr uint32_t kZen5Family = 26;
  const CpuX86 cpu = read_cpu_x86();
  if (cpu.is_amd && cpu.family == kZen5Family) return 8192;
#endif
  return 0;
}

}  // namespace

int prefetch_bytes() {
  int bytes = g_prefetch.load(std::memory_order_relaxed);
  if (bytes == kUnset) {
    bytes = default_prefetch();
    g_prefetch.store(bytes);
  }
  return bytes;
}

void set_prefetch_bytes(int bytes) { g_prefetch.store(bytes); }

int few_tokens(Family family) {
  const int most = current_isa().ops->family[family].few_tokens;
  const int chosen = g_few_tokens[family].load(std::memory_order_relaxed);
  return chosen == kUnset ? most : std::min(chosen, most);
}

void set_few_tokens(Family family, int tokens) { g_few_tokens[family].store(tokens); }

}  // namespace edgebench
