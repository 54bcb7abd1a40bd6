// The AVX2 table and its ceilings. Peak loops are single asm blocks (GCC 12 spills intrinsic
// loops).
#include "avx2.h"
#include "w4_avx2.h"

namespace edgebench {
namespace avx2 {
namespace {

constexpr int kPairSums = 8;
constexpr int kPairsPerWidening = 8;

// The densest byte arithmetic of AVX2: 8 rounds of vpmaddubsw into 16-bit sums, then one widening,
// as the kernels do. Counting vpmaddubsw + vpmaddwd + vpaddd each time would call half the peak the
// peak.
void int8_loop(int64_t iterations) {
  asm volatile(
      "vpxor %%ymm14, %%ymm14, %%ymm14\n"
      "vpxor %%ymm15, %%ymm15, %%ymm15\n"
      ".p2align 5\n"
      "1:\n"
      ".rept 8\n"
      ".irp r, 0,1,2,3,4,5,6,7\n"
      "vpmaddubsw %%ymm15, %%ymm14, %%ymm13\n"
      "vpaddw %%ymm13, %%ymm\\r, %%ymm\\r\n"
      ".endr\n"
      ".endr\n"
      ".irp r, 0,1,2,3,4,5,6,7\n"
      "vpmaddwd %%ymm14, %%ymm\\r, %%ymm13\n"
      "vpaddd %%ymm13, %%ymm12, %%ymm12\n"
      ".endr\n"
      "dec %0\n"
      "jnz 1b\n"
      : "+r"(iterations)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm12", "xmm13",
        "xmm14", "xmm15");
}

}  // namespace

uint64_t read(const uint8_t* bytes, size_t size, int prefetch) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (size_t i = 0; i < size; i += 128) {
    _mm_prefetch((const char*)bytes + i + prefetch, _MM_HINT_T0);
    _mm_prefetch((const char*)bytes + i + 64 + prefetch, _MM_HINT_T0);
    a = _mm256_or_si256(a, _mm256_load_si256((const __m256i*)(bytes + i)));
    b = _mm256_or_si256(b, _mm256_load_si256((const __m256i*)(bytes + i + 32)));
    c = _mm256_or_si256(c, _mm256_load_si256((const __m256i*)(bytes + i + 64)));
    d = _mm256_or_si256(d, _mm256_load_si256((const __m256i*)(bytes + i + 96)));
  }
  const __m256i all = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
  return (uint64_t)_mm256_extract_epi64(all, 0) | (uint64_t)_mm256_extract_epi64(all, 1) |
         (uint64_t)_mm256_extract_epi64(all, 2) | (uint64_t)_mm256_extract_epi64(all, 3);
}

void fp32_loop(int64_t iterations) {
  asm volatile(
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,14,15\n"
      "vpxor %%ymm\\r, %%ymm\\r, %%ymm\\r\n"  // zeros: no subnormal can slow an add down
      ".endr\n"
      ".p2align 5\n"
      "1:\n"
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11\n"
      "vfmadd231ps %%ymm15, %%ymm14, %%ymm\\r\n"
      ".endr\n"
      "dec %0\n"
      "jnz 1b\n"
      : "+r"(iterations)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm14", "xmm15");
}

}  // namespace avx2

const CpuOps kAvx2Ops = {
    {{avx2::quantize_a8, avx2::gemv_a8, nullptr, 1, avx2::gemm_a8, 0},
     {avx2::quantize_a16, avx2::gemv_a16, nullptr, 1, avx2::gemm_a16, 0}},
    avx2::read,
    "vmovdqa ymm",
    {avx2::int8_loop, 2.0 * 32 * avx2::kPairSums * avx2::kPairsPerWidening,
     "vpmaddubsw ymm (widened every 8)"},
    {avx2::fp32_loop, avx2::kFp32OpsPerIteration, "vfmadd231ps ymm"},
    &kAvx2StepOps,
    avx2::expand_sparse,
    avx2::dequantize,
};

}  // namespace edgebench
