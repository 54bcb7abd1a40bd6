// The decode step's row operations on lanes of one float: any machine.
#include <math.h>

#include "half.h"
#include "step_lanes.h"

namespace edgebench {
namespace {

struct OneLane {
  static constexpr int kWidth = 1;
  using Vec = float;
  static Vec zero() { return 0.0f; }
  static Vec set1(float x) { return x; }
  static Vec load(const float* p) { return *p; }
  static Vec load(const uint16_t* p) { return float_of_half(*p); }
  static Vec load(const int8_t* p) { return *p; }
  template <class T>
  static Vec load_part(const T* p, int /*n*/) {
    return load(p);
  }
  static void store(float* p, Vec v) { *p = v; }
  static void store_part(float* p, Vec v, int /*n*/) { *p = v; }
  static void store_cells(float* p, Vec v) { *p = v; }
  static void store_cells(uint16_t* p, Vec v) { *p = half_of_float(v); }
  template <class T>
  static void store_cells_part(T* p, Vec v, int /*n*/) {
    store_cells(p, v);
  }
  static Vec add(Vec a, Vec b) { return a + b; }
  static Vec sub(Vec a, Vec b) { return a - b; }
  static Vec mul(Vec a, Vec b) { return a * b; }
  static Vec div(Vec a, Vec b) { return a / b; }
  static Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
  // As on x86: where either is NaN, b.
  static Vec max(Vec a, Vec b) { return a > b ? a : b; }
  static Vec min(Vec a, Vec b) { return a < b ? a : b; }
  static Vec round(Vec x) { return rintf(x); }
  static Vec scale2(Vec x, Vec n) { return isnan(n) ? x : ldexpf(x, (int)n); }
  static float sum(Vec v) { return v; }
  static float largest(Vec v) { return v; }
  static void sum4(Vec a, Vec b, Vec c, Vec d, float* out) {
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
  }
};

}  // namespace

const StepOps kScalarStepOps = Step<OneLane>::table();

}  // namespace edgebench
