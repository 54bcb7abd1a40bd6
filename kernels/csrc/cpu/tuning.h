// What a measurement on this machine may change in how kernels run, never in what they compute.
#ifndef EDGEBENCH_CPU_TUNING_H_
#define EDGEBENCH_CPU_TUNING_H_

#include "ops.h"

namespace edgebench {

// How far ahead streaming kernels prefetch, in bytes; 0: not at all.
int prefetch_bytes();
void set_prefetch_bytes(int bytes);

// The most tokens that run straight from the nibbles with the ISA in use; 1: one token only.
int few_tokens(Family family);
// Lowers it; more than the ISA's kernel takes means all it takes. Forcing an ISA keeps it.
void set_few_tokens(Family family, int tokens);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_TUNING_H_
