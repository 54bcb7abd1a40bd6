#include "pool_probe.h"

#include <atomic>
#include <chrono>

namespace edgebench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::milliseconds(20);

struct Roll {
  int threads;
  Clock::time_point call;
  std::atomic<int> present{0};
  std::atomic<int64_t> last_ns{0};
};

void answer(void* context, int /*thread*/, uint32_t /*index*/) {
  Roll& roll = *static_cast<Roll*>(context);
  const auto begin = Clock::now();
  const int64_t after_ns = std::chrono::nanoseconds(begin - roll.call).count();
  int64_t last = roll.last_ns.load();
  while (after_ns > last && !roll.last_ns.compare_exchange_weak(last, after_ns)) {
  }
  roll.present.fetch_add(1);
  while (roll.present.load() < roll.threads && Clock::now() - begin < kPatience) {
  }
}

}  // namespace

int64_t pool_wakeup_ns(Pool& pool) {
  Roll roll{pool.threads(), Clock::now()};
  pool.run(static_cast<uint32_t>(pool.threads()), answer, &roll);
  return roll.last_ns.load();
}

}  // namespace edgebench
