// fp16 -> fp32 in plain integer arithmetic, for the code that may use no instruction set.
#ifndef EDGEBENCH_CPU_HALF_H_
#define EDGEBENCH_CPU_HALF_H_

#include <stdint.h>
#include <string.h>

namespace edgebench {

// Exact for every finite fp16, subnormals included.
static inline float float_of_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & 0x1f;
  const uint32_t fraction = half & 0x3ff;
  if (exponent == 0) {  // subnormal: fraction * 2^-24
    const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    return sign ? -value : value;
  }
  const uint32_t widened = exponent == 0x1f ? 0xff : exponent + 112;
  const uint32_t bits = sign | widened << 23 | fraction << 13;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_HALF_H_
