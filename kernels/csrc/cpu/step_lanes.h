// The row operations of a decode step, written once over an instruction set's lanes.
//
// L (see step_avx512.cpp) offers kWidth floats in a Vec with: zero, set1, load of float, half
// (uint16_t) or int8 cells, load_part (n < kWidth, zeros behind), store, store_part, add, sub, mul,
// div, max, min, fma, round, scale2 (x 2^n), sum, largest and sum4.
//
// Attention, per sequence and key-value head: all its queries share one pass over the keys and one
// over the values, both straight through memory. Scores of four columns and two queries are kept in
// registers; the softmax works on scores in scratch. An int8 cache costs nothing but its
// conversion: key scales multiply scores, value scales multiply weights.
// Bound: reads 2 dim cells a column, 4 dim multiply-adds a query and column; at fp16 and two
// queries that is 2 multiply-adds a byte, so the arithmetic of one core and its memory bandwidth
// are about equally far.
#ifndef EDGEBENCH_CPU_STEP_LANES_H_
#define EDGEBENCH_CPU_STEP_LANES_H_

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "step_ops.h"

namespace edgebench {

constexpr float kSmallestCellPeak =
    1e-30f;  // floor of a cell row's peak: keeps levels / peak finite

template <class L>
struct Step {
  using Vec = typename L::Vec;
  static constexpr int kWidth = L::kWidth;

  // exp within 2 ulp on -87.33..88.37, clamped outside; NaN stays NaN. Polynomial: Cephes expf.
  static inline Vec exp(Vec x) {
    x = L::min(L::set1(88.37f), L::max(L::set1(-87.33f), x));
    const Vec n = L::round(L::mul(x, L::set1(1.44269504f)));
    Vec r = L::fma(n, L::set1(-0.693359375f), x);
    r = L::fma(n, L::set1(2.12194440e-4f), r);
    Vec p = L::fma(L::set1(1.9875691500e-4f), r, L::set1(1.3981999507e-3f));
    p = L::fma(p, r, L::set1(8.3334519073e-3f));
    p = L::fma(p, r, L::set1(4.1665795894e-2f));
    p = L::fma(p, r, L::set1(1.6666665459e-1f));
    p = L::fma(p, r, L::set1(5.0000001201e-1f));
    const Vec y = L::add(L::fma(p, L::mul(r, r), r), L::set1(1.0f));
    return L::scale2(y, n);
  }

  static void widen(const uint16_t* x, int64_t n, float* y) {
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) L::store(y + i, L::load(x + i));
    if (i < n) L::store_part(y + i, L::load_part(x + i, (int)(n - i)), (int)(n - i));
  }

  static void add_norm(float* x, const float* delta, const float* weight, float eps, int64_t n,
                       float* y) {
    Vec squares[4] = {L::zero(), L::zero(), L::zero(), L::zero()};
    int64_t i = 0;
    for (int turn = 0; i + kWidth <= n; i += kWidth, turn = (turn + 1) & 3) {
      Vec v = L::load(x + i);
      if (delta != nullptr) {
        v = L::add(v, L::load(delta + i));
        L::store(x + i, v);
      }
      squares[turn] = L::fma(v, v, squares[turn]);
    }
    float sum = L::sum(L::add(L::add(squares[0], squares[1]), L::add(squares[2], squares[3])));
    for (; i < n; ++i) {
      if (delta != nullptr) x[i] += delta[i];
      sum += x[i] * x[i];
    }
    // An overflow must not become a row of zeros.
    const float inverse = isfinite(sum) ? 1.0f / sqrtf(sum / (float)n + eps) : NAN;
    const Vec inverses = L::set1(inverse);
    for (i = 0; i + kWidth <= n; i += kWidth) {
      L::store(y + i, L::mul(L::mul(L::load(x + i), inverses), L::load(weight + i)));
    }
    for (; i < n; ++i) y[i] = x[i] * inverse * weight[i];
  }

  static inline Vec silu_mul(Vec gate, Vec up) {
    const Vec denominator = L::add(L::set1(1.0f), exp(L::sub(L::zero(), gate)));
    return L::mul(L::div(gate, denominator), up);
  }

  static void swiglu(const float* gate_up, int64_t n, float* y) {
    const float* const up = gate_up + n;
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) {
      L::store(y + i, silu_mul(L::load(gate_up + i), L::load(up + i)));
    }
    if (i < n) {
      const int part = (int)(n - i);
      L::store_part(y + i, silu_mul(L::load_part(gate_up + i, part), L::load_part(up + i, part)),
                    part);
    }
  }

  // (a, b) -> (a cos - b sin, b cos + a sin) for the two halves a, b of a head.
  static inline void rotate(float* head, const float* cos, const float* sin, int half) {
    float* const upper = head + half;
    int i = 0;
    for (; i + kWidth <= half; i += kWidth) {
      const Vec a = L::load(head + i), b = L::load(upper + i);
      const Vec c = L::load(cos + i), s = L::load(sin + i);
      L::store(head + i, L::sub(L::mul(a, c), L::mul(b, s)));
      L::store(upper + i, L::fma(b, c, L::mul(a, s)));
    }
    for (; i < half; ++i) {
      const float a = head[i], b = upper[i];
      head[i] = a * cos[i] - b * sin[i];
      upper[i] = b * cos[i] + a * sin[i];
    }
  }

  template <class T>
  static inline void store_cells(const float* x, int dim, T* cells, float* /*scale*/) {
    int i = 0;
    for (; i + kWidth <= dim; i += kWidth) L::store_cells(cells + i, L::load(x + i));
    if (i < dim) L::store_cells_part(cells + i, L::load_part(x + i, dim - i), dim - i);
  }

  // Codes rint(x * 127 / peak), scale peak / 127; a row with NaN or infinity gets the scale NaN.
  static inline void store_cells(const float* x, int dim, int8_t* cells, float* scale) {
    float peak = 0, poison = 0;
    for (int i = 0; i < dim; ++i) {
      const float size = fabsf(x[i]);
      peak = size > peak ? size : peak;
      poison += x[i] * 0.0f;
    }
    const bool is_finite = poison == 0.0f;
    if (!(peak > kSmallestCellPeak)) peak = kSmallestCellPeak;
    const float inverse = kI8Levels / peak;
    for (int i = 0; i < dim; ++i) cells[i] = is_finite ? (int8_t)rintf(x[i] * inverse) : 0;
    *scale = is_finite ? peak / kI8Levels : NAN;
  }

  template <class T>
  static void append(const HeadGroup& g) {
    const int half = g.dim / 2;
    for (int r = 0; r < g.queries; ++r) rotate(g.query + r * g.dim, g.cos, g.sin, half);
    rotate(g.key, g.cos, g.sin, half);
    const int64_t at = g.last * g.dim;
    store_cells(g.key, g.dim, (T*)g.keys + at, g.key_scales + (g.key_scales ? g.last : 0));
    store_cells(g.value, g.dim, (T*)g.values + at, g.value_scales + (g.value_scales ? g.last : 0));
  }

  // scores[q][t] = query q . key t for kQ queries (rows of `dim`) and four columns.
  template <int kQ, class T>
  static inline void dot4(const float* query, const T* keys, int dim, float* scores,
                          int64_t stride) {
    Vec sums[kQ][4];
    for (int q = 0; q < kQ; ++q) {
      for (int t = 0; t < 4; ++t) sums[q][t] = L::zero();
    }
    int i = 0;
    for (; i + kWidth <= dim; i += kWidth) {
      Vec k[4];
      for (int t = 0; t < 4; ++t) k[t] = L::load(keys + t * dim + i);
      for (int q = 0; q < kQ; ++q) {
        const Vec x = L::load(query + q * dim + i);
        for (int t = 0; t < 4; ++t) sums[q][t] = L::fma(x, k[t], sums[q][t]);
      }
    }
    if (i < dim) {
      const int part = dim - i;
      for (int t = 0; t < 4; ++t) {
        const Vec k = L::load_part(keys + t * dim + i, part);
        for (int q = 0; q < kQ; ++q) {
          sums[q][t] = L::fma(L::load_part(query + q * dim + i, part), k, sums[q][t]);
        }
      }
    }
    for (int q = 0; q < kQ; ++q) {
      L::sum4(sums[q][0], sums[q][1], sums[q][2], sums[q][3], scores + q * stride);
    }
  }

  template <class T>
  static inline float dot(const float* query, const T* key, int dim) {
    Vec sum = L::zero();
    int i = 0;
    for (; i + kWidth <= dim; i += kWidth) sum = L::fma(L::load(query + i), L::load(key + i), sum);
    if (i < dim) {
      sum = L::fma(L::load_part(query + i, dim - i), L::load_part(key + i, dim - i), sum);
    }
    return L::sum(sum);
  }

  template <class T>
  static inline void scores_of(const HeadGroup& g, const T* keys, int64_t columns, int64_t stride) {
    int64_t t = 0;
    for (; t + 4 <= columns; t += 4) {
      const T* const four = keys + t * g.dim;
      int q = 0;
      for (; q + 2 <= g.queries; q += 2) {
        dot4<2>(g.query + q * g.dim, four, g.dim, g.scores + q * stride + t, stride);
      }
      if (q < g.queries) {
        dot4<1>(g.query + q * g.dim, four, g.dim, g.scores + q * stride + t, stride);
      }
    }
    for (; t < columns; ++t) {
      for (int q = 0; q < g.queries; ++q) {
        g.scores[q * stride + t] = dot(g.query + q * g.dim, keys + t * g.dim, g.dim);
      }
    }
  }

  // Scores become weights exp(s - max) (times the value scales); returns 1 / sum of exp(s - max).
  static inline float soften(float* scores, int64_t columns, int64_t stride, float scale,
                             const float* key_scales, const float* value_scales) {
    if (key_scales != nullptr) {
      for (int64_t t = 0; t < columns; ++t) scores[t] *= key_scales[t];
    }
    for (int64_t t = columns; t < stride; ++t) scores[t] = -INFINITY;
    Vec largest = L::load(scores);
    for (int64_t t = kWidth; t < stride; t += kWidth) {
      largest = L::max(largest, L::load(scores + t));
    }
    const float peak = L::largest(largest);
    const Vec scales = L::set1(scale), offset = L::set1(-peak * scale);
    Vec sums = L::zero();
    for (int64_t t = 0; t < stride; t += kWidth) {
      const Vec weight = exp(L::fma(L::load(scores + t), scales, offset));
      sums = L::add(sums, weight);
      L::store(scores + t, weight);
    }
    if (value_scales != nullptr) {
      for (int64_t t = 0; t < columns; ++t) scores[t] *= value_scales[t];
    }
    return 1.0f / L::sum(sums);
  }

  // out[q][kV registers] = sum over columns of weight[q][t] * value[t], times inverse[q].
  template <int kQ, int kV, class T>
  static inline void mix(const float* weights, int64_t stride, const T* values, int64_t columns,
                         int dim, const float* inverse, float* out) {
    Vec sums[kQ][kV];
    for (int q = 0; q < kQ; ++q) {
      for (int v = 0; v < kV; ++v) sums[q][v] = L::zero();
    }
    for (int64_t t = 0; t < columns; ++t) {
      const T* const row = values + t * dim;
      Vec cells[kV];
      for (int v = 0; v < kV; ++v) cells[v] = L::load(row + v * kWidth);
      for (int q = 0; q < kQ; ++q) {
        const Vec weight = L::set1(weights[q * stride + t]);
        for (int v = 0; v < kV; ++v) sums[q][v] = L::fma(weight, cells[v], sums[q][v]);
      }
    }
    for (int q = 0; q < kQ; ++q) {
      for (int v = 0; v < kV; ++v) {
        L::store(out + q * dim + v * kWidth, L::mul(sums[q][v], L::set1(inverse[q])));
      }
    }
  }

  template <int kQ, class T>
  static inline void mix_part(const float* weights, int64_t stride, const T* values,
                              int64_t columns, int dim, int part, const float* inverse,
                              float* out) {
    for (int q = 0; q < kQ; ++q) {
      Vec sum = L::zero();
      for (int64_t t = 0; t < columns; ++t) {
        const Vec weight = L::set1(weights[q * stride + t]);
        sum = L::fma(weight, L::load_part(values + t * dim, part), sum);
      }
      L::store_part(out + q * dim, L::mul(sum, L::set1(inverse[q])), part);
    }
  }

  template <int kQ, class T>
  static inline void mix_all(const HeadGroup& g, int q, const T* values, int64_t columns,
                             int64_t stride, const float* inverse) {
    const float* const weights = g.scores + q * stride;
    float* const out = g.out + q * g.dim;
    int i = 0;
    for (; i + 4 * kWidth <= g.dim; i += 4 * kWidth) {
      mix<kQ, 4>(weights, stride, values + i, columns, g.dim, inverse, out + i);
    }
    if (i + 2 * kWidth <= g.dim) {
      mix<kQ, 2>(weights, stride, values + i, columns, g.dim, inverse, out + i);
      i += 2 * kWidth;
    }
    if (i + kWidth <= g.dim) {
      mix<kQ, 1>(weights, stride, values + i, columns, g.dim, inverse, out + i);
      i += kWidth;
    }
    if (i < g.dim) {
      mix_part<kQ>(weights, stride, values + i, columns, g.dim, g.dim - i, inverse, out + i);
    }
  }

  template <class T>
  static void attend(const HeadGroup& g) {
    const int64_t columns = g.last - g.first + 1;
    const int64_t stride = score_stride(columns);
    const T* const keys = (const T*)g.keys + g.first * g.dim;
    const T* const values = (const T*)g.values + g.first * g.dim;
    const float* const key_scales = g.key_scales ? g.key_scales + g.first : nullptr;
    const float* const value_scales = g.value_scales ? g.value_scales + g.first : nullptr;
    scores_of(g, keys, columns, stride);
    for (int q = 0; q < g.queries; q += 2) {
      const int count = g.queries - q < 2 ? 1 : 2;
      float inverse[2];
      for (int one = 0; one < count; ++one) {
        inverse[one] = soften(g.scores + (q + one) * stride, columns, stride, g.scale, key_scales,
                              value_scales);
      }
      if (count == 2) {
        mix_all<2>(g, q, values, columns, stride, inverse);
      } else {
        mix_all<1>(g, q, values, columns, stride, inverse);
      }
    }
  }

  static int64_t argmax(const float* x, int64_t n, float* best) {
    constexpr int64_t kBlock = 256;
    float peak = -INFINITY, poison = 0;
    int64_t found = 0;
    for (int64_t first = 0; first < n; first += kBlock) {
      const int64_t last = first + kBlock < n ? first + kBlock : n;
      Vec largest = L::set1(-INFINITY), zeros = L::zero();
      int64_t i = first;
      for (; i + kWidth <= last; i += kWidth) {
        const Vec v = L::load(x + i);
        largest = L::max(largest, v);
        zeros = L::fma(v, L::zero(), zeros);
      }
      float block = L::largest(largest);
      poison += L::sum(zeros);
      for (; i < last; ++i) {
        block = x[i] > block ? x[i] : block;
        poison += x[i] * 0.0f;
      }
      if (block > peak) {
        peak = block;
        found = first;
      }
    }
    if (poison != 0.0f) return argmax_of_all(x, n, best);  // it is NaN
    while (found + 1 < n && x[found] != peak) ++found;
    *best = peak;
    return found;
  }

  static int64_t argmax_of_all(const float* x, int64_t n, float* best) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (isnan(x[i])) {
        *best = NAN;
        return i;
      }
      if (x[i] > x[found]) found = i;
    }
    *best = x[found];
    return found;
  }

  static constexpr StepOps table() {
    return {widen,
            add_norm,
            swiglu,
            {append<float>, append<uint16_t>, append<int8_t>},
            {attend<float>, attend<uint16_t>, attend<int8_t>},
            argmax};
  }
};

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_STEP_LANES_H_
