// The bf16 ceiling: vdpbf16ps at full width, in one asm block.
#include "ops.h"

namespace edgebench {
namespace {

constexpr int kSums = 16;

void bf16_loop(int64_t iterations) {
  asm volatile(
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,30,31\n"
      "vpxord %%zmm\\r, %%zmm\\r, %%zmm\\r\n"
      ".endr\n"
      ".p2align 5\n"
      "1:\n"
      ".irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
      "vdpbf16ps %%zmm31, %%zmm30, %%zmm\\r\n"
      ".endr\n"
      "dec %0\n"
      "jnz 1b\n"
      : "+r"(iterations)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm30", "xmm31");
}

}  // namespace

const Peak kBf16PeakAvx512 = {bf16_loop, 2.0 * 32 * kSums, "vdpbf16ps zmm"};

}  // namespace edgebench
