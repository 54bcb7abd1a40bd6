// The AVX-512 VNNI table and its ceilings. Peak loops are single asm blocks: GCC 12 spills
// accumulators of intrinsic loops and shows 43 % of the peak.
#include "avx512.h"
#include "w4_avx2.h"
#include "w4_avx512.h"

namespace edgebench {
namespace avx512 {

uint64_t read(const uint8_t* bytes, size_t size, int prefetch) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (size_t i = 0; i < size; i += 256) {
    for (int line = 0; line < 256; line += 64) {
      _mm_prefetch((const char*)bytes + i + line + prefetch, _MM_HINT_T0);
    }
    a = _mm512_or_si512(a, _mm512_load_si512(bytes + i));
    b = _mm512_or_si512(b, _mm512_load_si512(bytes + i + 64));
    c = _mm512_or_si512(c, _mm512_load_si512(bytes + i + 128));
    d = _mm512_or_si512(d, _mm512_load_si512(bytes + i + 192));
  }
  const __m512i all = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
  return (uint64_t)_mm512_reduce_or_epi64(all);
}

void fp32_loop(int64_t iterations) {
  asm volatile(
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,30,31\n"
      "vpxord %%zmm\\r, %%zmm\\r, %%zmm\\r\n"  // zeros: no subnormal can slow an add down
      ".endr\n"
      ".p2align 5\n"
      "1:\n"
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "vfmadd231ps %%zmm31, %%zmm30, %%zmm\\r\n"
      ".endr\n"
      "dec %0\n"
      "jnz 1b\n"
      : "+r"(iterations)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm30", "xmm31");
}

}  // namespace avx512

namespace {

void int8_loop(int64_t iterations) {
  asm volatile(
      "vpxord %%zmm30, %%zmm30, %%zmm30\n"
      "vpxord %%zmm31, %%zmm31, %%zmm31\n"
      ".p2align 5\n"
      "1:\n"
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "vpdpbusd %%zmm31, %%zmm30, %%zmm\\r\n"
      ".endr\n"
      "dec %0\n"
      "jnz 1b\n"
      : "+r"(iterations)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm30", "xmm31");
}

}  // namespace

const CpuOps kAvx512VnniOps = {
    {{avx512::quantize_a8, avx512::gemv_a8, avx512::few_a8, avx512::kFewA8, avx512::gemm_a8, 0x80,
      240, 12, avx512::sparse_gemv_a8},
     {avx512::quantize_a16, avx512::gemv_a16, avx512::few_a16, avx512::kFewA16, avx512::gemm_a16,
      0x80, 240, 12, avx512::sparse_gemv_a16}},
    avx512::read,
    "vmovdqa64 zmm",
    {int8_loop, 2.0 * 64 * avx512::kPeakSums, "vpdpbusd zmm"},
    {avx512::fp32_loop, avx512::kFp32OpsPerIteration, "vfmadd231ps zmm"},
    &kAvx512StepOps,
    avx512::expand_sparse,
    avx2::dequantize,
};

}  // namespace edgebench
