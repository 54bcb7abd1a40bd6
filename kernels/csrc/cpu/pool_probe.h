// How long the pool takes to get all its threads to work.
#ifndef EDGEBENCH_CPU_POOL_PROBE_H_
#define EDGEBENCH_CPU_POOL_PROBE_H_

#include <cstdint>

#include "pool.h"

namespace edgebench {

// One job of as many tasks as threads, in which each waits (20 ms at most) until all have begun:
// the time from the call to the last one's begin. With pool.mutex() held.
int64_t pool_wakeup_ns(Pool& pool);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_POOL_PROBE_H_
