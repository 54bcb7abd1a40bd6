// Leave to use tile registers: Linux grants it to a process that asks.
#ifndef EDGEBENCH_CPU_AMX_PERMISSION_H_
#define EDGEBENCH_CPU_AMX_PERMISSION_H_

namespace edgebench {

// Asks once; true when this process, its threads and its children may execute tile instructions.
// The CPU must have them. False on other systems than Linux.
bool may_use_tiles();

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_AMX_PERMISSION_H_
