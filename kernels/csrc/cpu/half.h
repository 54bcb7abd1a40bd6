// fp16 <-> fp32 in plain integer arithmetic, for the code that may use no instruction set.
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

// Rounded to nearest, ties to even; beyond 65504 (plus half a step) infinity; NaN stays NaN.
static inline uint16_t half_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t size = bits & 0x7fffffff;
  if (size > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (size >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (size <
      0x38800000) {  // subnormal: adding 0.5 leaves |value| / 2^-24, rounded, in the low bits
    float magnitude;
    memcpy(&magnitude, &size, 4);
    magnitude += 0.5f;
    uint32_t rounded;
    memcpy(&rounded, &magnitude, 4);
    return static_cast<uint16_t>(sign | (rounded - 0x3f000000));
  }
  const uint32_t even = size >> 13 & 1;
  return static_cast<uint16_t>(sign | ((size - 0x38000000 + 0xfff + even) >> 13));
}

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_HALF_H_
