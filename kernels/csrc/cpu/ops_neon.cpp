// The ARMv8.0 NEON table and its ceilings. Peak loops are single asm blocks, as on x86.
#include "neon.h"
#include "w4_neon.h"

namespace edgebench {
namespace neon {
namespace {

constexpr int kRoundsPerWidening = 16;

// Written out by the preprocessor: clang's assembler expands \() in nested repeats too early.
#define EB_ROUND                                    \
  ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n" \
  "smlal v\\r\\().8h, v30.8b, v31.8b\n"             \
  ".endr\n"
#define EB_FOUR_ROUNDS EB_ROUND EB_ROUND EB_ROUND EB_ROUND

// The densest byte arithmetic of ARMv8.0: 16 rounds of smlal into 16-bit sums, then one widening,
// as the kernels do.
void int8_loop(int64_t iterations) {
  asm volatile(
      "movi v30.16b, #0\n"
      "movi v31.16b, #0\n"
      ".p2align 5\n"
      "1:\n" EB_FOUR_ROUNDS EB_FOUR_ROUNDS EB_FOUR_ROUNDS EB_FOUR_ROUNDS
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "sadalp v29.4s, v\\r\\().8h\n"
      ".endr\n"
      "subs %0, %0, #1\n"
      "b.ne 1b\n"
      : "+r"(iterations)
      :
      : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
        "v13", "v14", "v15", "v29", "v30", "v31");
}

#undef EB_FOUR_ROUNDS
#undef EB_ROUND

}  // namespace

uint64_t read(const uint8_t* bytes, size_t size, int prefetch) {
  uint8x16_t a = vdupq_n_u8(0), b = a, c = a, d = a;
  for (size_t i = 0; i < size; i += 64) {
    __builtin_prefetch(bytes + i + prefetch);
    a = vorrq_u8(a, vld1q_u8(bytes + i));
    b = vorrq_u8(b, vld1q_u8(bytes + i + 16));
    c = vorrq_u8(c, vld1q_u8(bytes + i + 32));
    d = vorrq_u8(d, vld1q_u8(bytes + i + 48));
  }
  const uint64x2_t all = vreinterpretq_u64_u8(vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d)));
  return vgetq_lane_u64(all, 0) | vgetq_lane_u64(all, 1);
}

void fp32_loop(int64_t iterations) {
  asm volatile(
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,30,31\n"
      "movi v\\r\\().16b, #0\n"  // zeros: no subnormal can slow an add down
      ".endr\n"
      ".p2align 5\n"
      "1:\n"
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "fmla v\\r\\().4s, v30.4s, v31.4s\n"
      ".endr\n"
      "subs %0, %0, #1\n"
      "b.ne 1b\n"
      : "+r"(iterations)
      :
      : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
        "v13", "v14", "v15", "v30", "v31");
}

}  // namespace neon

const CpuOps kNeonOps = {
    {{neon::quantize_a8, neon::gemv_a8, nullptr, 1, neon::gemm_a8, 0},
     {neon::quantize_a16, neon::gemv_a16, nullptr, 1, neon::gemm_a16, 0}},
    neon::read,
    "ldr q",
    {neon::int8_loop, 2.0 * 8 * neon::kPeakSums * neon::kRoundsPerWidening,
     "smlal 8h (widened every 16)"},
    {neon::fp32_loop, neon::kFp32OpsPerIteration, "fmla 4s"},
    &kNeonStepOps,
};

}  // namespace edgebench
