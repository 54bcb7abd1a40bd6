// The decode step's row operations on 8 lanes, AVX2 with FMA and F16C.
#include "avx2.h"
#include "step_lanes.h"

namespace edgebench {
namespace avx2 {
namespace {

struct Lanes {
  static constexpr int kWidth = 8;
  using Vec = __m256;
  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec set1(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static Vec load(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
  static Vec load(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
  }
  template <class T>
  static Vec load_part(const T* p, int n) {
    T padded[kWidth] = {};
    memcpy(padded, p, sizeof(T) * n);
    return load(padded);
  }
  static void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  static void store_part(float* p, Vec v, int n) {
    float padded[kWidth];
    store(padded, v);
    memcpy(p, padded, sizeof(float) * n);
  }
  static void store_cells(float* p, Vec v) { store(p, v); }
  static void store_cells(uint16_t* p, Vec v) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  template <class T>
  static void store_cells_part(T* p, Vec v, int n) {
    T padded[kWidth];
    store_cells(padded, v);
    memcpy(p, padded, sizeof(T) * n);
  }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  static Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
  static Vec round(Vec x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Vec scale2(Vec x, Vec n) {
    const __m256i exponent =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(x, _mm256_castsi256_ps(exponent));
  }
  static __m128 folded(Vec v) {
    return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  }
  static float sum(Vec v) {
    const __m128 four = folded(v);
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  static float largest(Vec v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  static void sum4(Vec a, Vec b, Vec c, Vec d, float* out) {
    const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, folded(all));
  }
};

}  // namespace
}  // namespace avx2

const StepOps kAvx2StepOps = Step<avx2::Lanes>::table();

}  // namespace edgebench
