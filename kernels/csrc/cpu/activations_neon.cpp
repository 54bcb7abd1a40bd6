// Activations fp32 -> int8 (a8) or 16-bit fixed point in two bytes (a16), NEON.
//
// Formula, arguments, handling of NaN and infinity: as in w4_linear_ref.cpp, and the same bits.
// 16 inputs at a time: four registers of int32 become one of bytes.
// Roofline: reads 4 B, writes 1-2 B an input, a small part of the weights' bytes.
#include <math.h>

#include "activation_groups.h"
#include "neon.h"
#include "w4_neon.h"

namespace edgebench {
namespace neon {
namespace {

// 16 values within -128..127 as bytes, in order.
EB_INLINE void store_bytes(uint8_t* to, const int32x4_t v[4], uint8x16_t flip) {
  const int16x8_t low = vqmovn_high_s32(vqmovn_s32(v[0]), v[1]);
  const int16x8_t high = vqmovn_high_s32(vqmovn_s32(v[2]), v[3]);
  const int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(low), high);
  vst1q_u8(to, veorq_u8(vreinterpretq_u8_s8(bytes), flip));
}

struct Isa {
  template <Family kFamily>
  EB_INLINE void quantize_group(const float* x, int inputs, uint8_t flip, uint8_t* bytes,
                                float* scale, int32_t* sum) {
    constexpr float kLevels = kFamily == kA16 ? kA16Levels : kA8Levels;
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
    uint32x4_t largest = vdupq_n_u32(0);
    for (int i = 0; i < inputs; i += kLanes) {
      const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
      largest = vmaxq_u32(largest, vandq_u32(bits, magnitude));
    }
    const uint32_t peak_bits = vmaxvq_u32(largest);
    const bool is_finite = peak_bits < 0x7f800000u;
    float peak;
    memcpy(&peak, &peak_bits, 4);
    if (!(peak > kSmallestPeak)) peak = kSmallestPeak;
    const uint32x4_t keep = vdupq_n_u32(is_finite ? 0xffffffffu : 0);
    const float inverse = kLevels / peak;
    const uint8x16_t flips = vdupq_n_u8(flip);
    int32x4_t total = vdupq_n_s32(0);
    for (int i = 0; i < inputs; i += 4 * kLanes) {
      int32x4_t high[4], low[4];
      for (int part = 0; part < 4; ++part) {
        const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i + kLanes * part));
        const float32x4_t value = vreinterpretq_f32_u32(vandq_u32(bits, keep));
        const int32x4_t v = vcvtnq_s32_f32(vmulq_n_f32(value, inverse));
        total = vaddq_s32(total, v);
        high[part] = v;
        if (kFamily == kA16) {
          high[part] = vshrq_n_s32(vaddq_s32(v, vdupq_n_s32(128)), 8);
          low[part] = vsubq_s32(v, vshlq_n_s32(high[part], 8));
        }
      }
      store_bytes(bytes + i, high, flips);
      if (kFamily == kA16) store_bytes(bytes + inputs + i, low, flips);
    }
    *scale = is_finite ? peak / kLevels : NAN;
    *sum = vaddvq_s32(total);
  }
};

}  // namespace

void quantize_a8(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                 const Activations& out) {
  quantize_groups<Isa, kA8>(x, k, inputs, token, flip, out);
}

void quantize_a16(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                  const Activations& out) {
  quantize_groups<Isa, kA16>(x, k, inputs, token, flip, out);
}

}  // namespace neon
}  // namespace edgebench
