// The AMX int8 kernels, for the table of this ISA: everything else is AVX-512 VNNI's.
#ifndef EDGEBENCH_CPU_W4_AMX_H_
#define EDGEBENCH_CPU_W4_AMX_H_

#include "ops.h"

namespace edgebench {
namespace amx {

void gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch);
void gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
              uint8_t* scratch);

}  // namespace amx
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_W4_AMX_H_
