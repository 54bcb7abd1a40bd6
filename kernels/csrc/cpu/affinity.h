// Binding threads to CPUs; on systems without it no CPU may be asked for.
#ifndef EDGEBENCH_CPU_AFFINITY_H_
#define EDGEBENCH_CPU_AFFINITY_H_

namespace edgebench {

// True when the calling thread may run on `cpu`.
bool may_use_cpu(int cpu);
// Keeps the calling thread on `cpu`; false when the system refuses.
bool bind_to_cpu(int cpu);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_AFFINITY_H_
