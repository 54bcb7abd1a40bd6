// Small NEON helpers shared by the aarch64 translation units. All always-inline: nothing here may
// become a function that another ISA's code could link to.
#ifndef EDGEBENCH_CPU_NEON_H_
#define EDGEBENCH_CPU_NEON_H_

#include <arm_neon.h>
#include <string.h>

#include "ops.h"

#define EB_INLINE static inline __attribute__((always_inline))

namespace edgebench {
namespace neon {

constexpr int kLanes = 4;                      // 32-bit lanes of a register: output rows
constexpr int kColumns = kBlockRows / kLanes;  // registers that cover a block's 64 rows: 16
constexpr int kLoadInputs = 16;                // activation bytes of one load: two steps

// The 4 scales / zero points of column `j` of a block, given where its scales start.
EB_INLINE float32x4_t scales_of(const uint8_t* tail, int j) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(tail + 2 * kLanes * j)));
}
EB_INLINE uint32x4_t zeros_of(const uint8_t* tail, int j) {
  uint32_t four;
  memcpy(&four, tail + kScaleBytes + kLanes * j, 4);
  const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(four));
  return vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
}

// y += x_scale * scale * total, the one place where integers become floats.
EB_INLINE float32x4_t add_scaled(float32x4_t y, int32x4_t total, float32x4_t scale, float x_scale) {
  return vfmaq_n_f32(y, vmulq_f32(vcvtq_f32_s32(total), scale), x_scale);
}

}  // namespace neon
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_NEON_H_
