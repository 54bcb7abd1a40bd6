// The decode step's row operations on 16 lanes, AVX-512 (F, BW, VL, DQ).
#include "avx512.h"
#include "step_lanes.h"

namespace edgebench {
namespace avx512 {
namespace {

struct Lanes {
  static constexpr int kWidth = 16;
  using Vec = __m512;
  static __mmask16 mask(int n) { return (__mmask16)((1u << n) - 1); }
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec set1(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec load(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
  }
  static Vec load(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
  }
  static Vec load_part(const float* p, int n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static Vec load_part(const uint16_t* p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask(n), p));
  }
  static Vec load_part(const int8_t* p, int n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask(n), p)));
  }
  static void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static void store_part(float* p, Vec v, int n) { _mm512_mask_storeu_ps(p, mask(n), v); }
  static __m256i halves(Vec v) {
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static void store_cells(float* p, Vec v) { store(p, v); }
  static void store_cells(uint16_t* p, Vec v) { _mm256_storeu_si256((__m256i*)p, halves(v)); }
  static void store_cells_part(float* p, Vec v, int n) { store_part(p, v, n); }
  static void store_cells_part(uint16_t* p, Vec v, int n) {
    _mm256_mask_storeu_epi16(p, mask(n), halves(v));
  }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
  static Vec round(Vec x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Vec scale2(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
  static float sum(Vec v) { return _mm512_reduce_add_ps(v); }
  static float largest(Vec v) { return _mm512_reduce_max_ps(v); }
  static __m256 folded(Vec v) {
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  }
  static void sum4(Vec a, Vec b, Vec c, Vec d, float* out) {
    const __m256 ab = _mm256_hadd_ps(folded(a), folded(b));
    const __m256 cd = _mm256_hadd_ps(folded(c), folded(d));
    const __m256 all = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
};

}  // namespace
}  // namespace avx512

const StepOps kAvx512StepOps = Step<avx512::Lanes>::table();

}  // namespace edgebench
