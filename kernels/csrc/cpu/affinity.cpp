#include "affinity.h"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace edgebench {

#if defined(__linux__)

bool may_use_cpu(int cpu) {
  cpu_set_t allowed;
  if (cpu < 0 || cpu >= CPU_SETSIZE) return false;
  if (pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed) != 0) return false;
  return CPU_ISSET(cpu, &allowed);
}

bool bind_to_cpu(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  return pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0;
}

#else

bool may_use_cpu(int /*cpu*/) { return false; }
bool bind_to_cpu(int /*cpu*/) { return false; }

#endif

}  // namespace edgebench
