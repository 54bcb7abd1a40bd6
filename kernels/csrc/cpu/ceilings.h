// What this machine can do at best: bytes read and operations per second, with the pool's threads.
#ifndef EDGEBENCH_CPU_CEILINGS_H_
#define EDGEBENCH_CPU_CEILINGS_H_

#include <cstddef>
#include <cstdint>

#include "ops.h"

namespace edgebench {

// Bytes per second of reading `buffer` over and over for about `budget_ns`, each thread one
// sequential stream in chunks of 128 KB. size: a multiple of 128 KB.
double read_bandwidth(const uint8_t* buffer, size_t size, int64_t budget_ns);

// Operations per second of the loop run by every thread for about `budget_ns`.
double arithmetic_peak(const Peak& peak, int64_t budget_ns);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_CEILINGS_H_
