// The decode step's row operations on 4 lanes, NEON (ARMv8.0): every aarch64 CPU.
#include "neon.h"
#include "step_lanes.h"

namespace edgebench {
namespace neon {
namespace {

struct Lanes {
  static constexpr int kWidth = 4;
  using Vec = float32x4_t;
  static Vec zero() { return vdupq_n_f32(0.0f); }
  static Vec set1(float x) { return vdupq_n_f32(x); }
  static Vec load(const float* p) { return vld1q_f32(p); }
  static Vec load(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static Vec load(const int8_t* p) {
    uint32_t four;
    memcpy(&four, p, sizeof(four));
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
  }
  template <class T>
  static Vec load_part(const T* p, int n) {
    T padded[kWidth] = {};
    memcpy(padded, p, sizeof(T) * n);
    return load(padded);
  }
  static void store(float* p, Vec v) { vst1q_f32(p, v); }
  static void store_part(float* p, Vec v, int n) {
    float padded[kWidth];
    store(padded, v);
    memcpy(p, padded, sizeof(float) * n);
  }
  static void store_cells(float* p, Vec v) { store(p, v); }
  static void store_cells(uint16_t* p, Vec v) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
  }
  template <class T>
  static void store_cells_part(T* p, Vec v, int n) {
    T padded[kWidth];
    store_cells(padded, v);
    memcpy(p, padded, sizeof(T) * n);
  }
  static Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
  static Vec sub(Vec a, Vec b) { return vsubq_f32(a, b); }
  static Vec mul(Vec a, Vec b) { return vmulq_f32(a, b); }
  static Vec div(Vec a, Vec b) { return vdivq_f32(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
  static Vec max(Vec a, Vec b) { return vmaxq_f32(a, b); }
  static Vec min(Vec a, Vec b) { return vminq_f32(a, b); }
  static Vec round(Vec x) { return vrndnq_f32(x); }
  static Vec scale2(Vec x, Vec n) {
    const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
    return vmulq_f32(x, vreinterpretq_f32_s32(exponent));
  }
  static float sum(Vec v) { return vaddvq_f32(v); }
  static float largest(Vec v) { return vmaxvq_f32(v); }
  static void sum4(Vec a, Vec b, Vec c, Vec d, float* out) {
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
  }
};

}  // namespace
}  // namespace neon

const StepOps kNeonStepOps = Step<neon::Lanes>::table();

}  // namespace edgebench
