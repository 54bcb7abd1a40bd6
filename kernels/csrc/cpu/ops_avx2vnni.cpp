// The table of AVX2 with AVX-VNNI: its own GEMM and int8 ceiling, the rest from AVX2.
#include "w4_avx2.h"

namespace edgebench {
namespace {

constexpr int kSums = 12;

void int8_loop(int64_t iterations) {
  asm volatile(
      "vpxor %%ymm14, %%ymm14, %%ymm14\n"
      "vpxor %%ymm15, %%ymm15, %%ymm15\n"
      ".p2align 5\n"
      "1:\n"
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11\n"
      "%{vex%} vpdpbusd %%ymm15, %%ymm14, %%ymm\\r\n"
      ".endr\n"
      "dec %0\n"
      "jnz 1b\n"
      : "+r"(iterations)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm14", "xmm15");
}

}  // namespace

const CpuOps kAvx2VnniOps = {
    {{avx2::quantize_a8, avx2::gemv_a8, nullptr, 1, avx2::dot_gemm_a8, 0},
     {avx2::quantize_a16, avx2::gemv_a16, nullptr, 1, avx2::dot_gemm_a16, 0}},
    avx2::read,
    "vmovdqa ymm",
    {int8_loop, 2.0 * 32 * kSums, "vpdpbusd ymm"},
    {avx2::fp32_loop, avx2::kFp32OpsPerIteration, "vfmadd231ps ymm"},
    &kAvx2StepOps,
    avx2::expand_sparse,
    avx2::dequantize,
};

}  // namespace edgebench
