// The table of NEON with i8mm: its own GEMM and int8 ceiling, one token as with dotprod.
#include "w4_neon.h"

namespace edgebench {
namespace {

void int8_loop(int64_t iterations) {
  asm volatile(
      "movi v30.16b, #0\n"
      "movi v31.16b, #0\n"
      ".p2align 5\n"
      "1:\n"
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "smmla v\\r\\().4s, v30.16b, v31.16b\n"
      ".endr\n"
      "subs %0, %0, #1\n"
      "b.ne 1b\n"
      : "+r"(iterations)
      :
      : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
        "v13", "v14", "v15", "v30", "v31");
}

}  // namespace

const CpuOps kNeonI8mmOps = {
    {{neon::quantize_a8, neon::dot_gemv_a8, nullptr, 1, neon::matrix_gemm_a8, 0},
     {neon::quantize_a16, neon::dot_gemv_a16, nullptr, 1, neon::matrix_gemm_a16, 0}},
    neon::read,
    "ldr q",
    {int8_loop, 2.0 * 32 * neon::kPeakSums, "smmla 16b"},
    {neon::fp32_loop, neon::kFp32OpsPerIteration, "fmla 4s"},
    &kNeonStepOps,
};

}  // namespace edgebench
