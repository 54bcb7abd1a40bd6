// Which instruction set runs: the best of the machine unless a lower one is forced.
#ifndef EDGEBENCH_CPU_DISPATCH_H_
#define EDGEBENCH_CPU_DISPATCH_H_

#include "ops.h"

namespace edgebench {

struct Isa {
  const char* name;
  const CpuOps* ops;
  bool (*is_supported)();
};

// All instruction sets this library was built with, lowest first; `count` of them.
const Isa* isas(int* count);
// The one in use. The first call picks the best that the machine supports.
const Isa& current_isa();
// Forces isas()[index]; false when it does not exist or the machine lacks it.
bool force_isa(int index);
// vdpbf16ps at full width, or null where the machine or the forced ISA lacks it.
const Peak* bf16_peak();

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_DISPATCH_H_
