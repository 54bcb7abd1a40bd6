// w4a16 and w4a8 for one token over 2:4 sparse weights, AVX-512 VNNI: fewer bytes, memory-bound.
//
// Formula, row n (v = quantized activation; a16: v = 256 * high + low), over the kept inputs only:
//   y[n] = sum_g x_scale[g] * scale[n,g] * (sum_kept code[n,k] v[k] - zero[n,g] * sum_kept v[k])
// A weight that was left out is zero, so the integers equal the dense kernel's, and so do the bits
// of y.
//
// Arguments
//   weights  BlockRow     64 rows, `groups` blocks of B inputs (int4_sparse_format.h)
//   x        Activations  signed bytes (flip 0), [group][token][half][B]
//   out      fp32 [64], 64-byte aligned
//
// Picture: a lane is an output row; an octet is 8 inputs, of which a row keeps four.
//   codes & 0x0f0f0f0f, & 0xf0f0f0f0 -> the kept codes of two octets (the second times 16)
//   (index >> 2 * octet & 0x03030303) | 0x04040000 -> which of the octet's 8 bytes each code meets
//   8 bytes of x, broadcast, vpshufb by that -> 4 bytes a lane, another choice in every row
//   . codes -> products;  . 1 -> sum_kept v, that the zero point multiplies once a group
//
// Roofline: B = 128 reads 3264 B for 64 * 128 weights, the dense layout 4288: at most 1.31 times as
//   fast where reading bounds both. For 16 rows x 16 inputs one token needs 18 instructions on the
//   two vector ports (a16; dense: 12), for 96 B (dense: 128): from L2 it is slower than the dense
//   kernel, from memory a core still computes faster than it reads. Both: kernels/README.md.
//
// The idea: activations are shuffled to the codes, not codes to their places: a dot product of four
//   bytes then covers 8 inputs. 32 rows at a time, so that all sums stay in registers.
//   Tried on Emerald Rapids and lost: 64 rows at a time (spills: 1.20 of dense, not 1.26 to 1.32),
//   32 rows over 64-row steps (1.02 without prefetch), code - zero as signed bytes, prefetching the
//   scales too (1.22, not 1.30).
// Sources: own design; the index of two kept of four is that of sparse tensor cores (Mishra et al.,
//   "Accelerating Sparse Deep Neural Networks", 2021, section 3).
#include "../int4_sparse_format.h"
#include "avx512.h"
#include "w4_avx512.h"
#include "w4s_expand.h"

namespace edgebench {
namespace avx512 {
namespace {

constexpr int kWide = kStripeRows / kLanes;  // registers that cover a stripe's rows: 2

// The distance tuned for dense weights may be too far for these. Measured on Emerald Rapids, two
// threads: 4 and 8 KB 1.32 and 1.30 times as fast as dense, 16 KB 1.24.
constexpr int kFarthestPrefetch = 8192;

// The sums of a stripe, one lane a row; [0]: of the high bytes, where there are two.
template <int kHalves>
struct Sums {
  __m512i low[kHalves][kWide];   // even octets
  __m512i high[kHalves][kWide];  // odd octets, times 16
  __m512i kept[kHalves][kWide];  // activations that met a code
};

// Eight bytes in every 64-bit lane.
EB_INLINE __m512i broadcast_octet(const uint8_t* bytes) {
  int64_t octet;
  memcpy(&octet, bytes, 8);
  return _mm512_set1_epi64(octet);
}

// The shuffle of one octet from a register of index words.
EB_INLINE __m512i shuffle_of(__m512i index, int octet) {
  constexpr int kAndOr = 0xea;  // (a & b) | c
  const __m512i own = octet == 0 ? index : _mm512_srli_epi32(index, 2 * octet);
  return _mm512_ternarylogic_epi32(own, _mm512_set1_epi8(3), _mm512_set1_epi32(0x04040000), kAndOr);
}

// sums += 16 rows x 16 inputs: codes word `u` of register j, activations `bytes`.
template <int kHalves, int kInputs>
EB_INLINE void add_codes(const uint8_t* at, __m512i index, int u, int j, const uint8_t* bytes,
                         Sums<kHalves>* sums) {
  const __m512i word = _mm512_loadu_si512(at);
  const __m512i even = _mm512_and_si512(word, _mm512_set1_epi8(0x0f));
  const __m512i odd = _mm512_and_si512(word, _mm512_set1_epi8((char)0xf0));
  const __m512i near_of = shuffle_of(index, 2 * u), far_of = shuffle_of(index, 2 * u + 1);
  const __m512i ones = _mm512_set1_epi8(1);
#pragma GCC unroll 2
  for (int h = 0; h < kHalves; ++h) {
    const uint8_t* const octets = bytes + h * kInputs;
    const __m512i near = _mm512_shuffle_epi8(broadcast_octet(octets), near_of);
    const __m512i far = _mm512_shuffle_epi8(broadcast_octet(octets + kStepInputs), far_of);
    sums->low[h][j] = dot_bytes(sums->low[h][j], even, near);
    sums->high[h][j] = dot_bytes(sums->high[h][j], odd, far);
    sums->kept[h][j] = dot_bytes(sums->kept[h][j], ones, near);
    sums->kept[h][j] = dot_bytes(sums->kept[h][j], ones, far);
  }
}

template <int kHalves, int kInputs>
EB_INLINE Sums<kHalves> stripe_sums(const uint8_t* stripe, const uint8_t* bytes, int ahead) {
  Sums<kHalves> sums;
  for (int h = 0; h < kHalves; ++h) {
    for (int j = 0; j < kWide; ++j) {
      sums.low[h][j] = sums.high[h][j] = sums.kept[h][j] = _mm512_setzero_si512();
    }
  }
#pragma GCC unroll 1
  for (int s = 0; s < kInputs / kSpanInputs; ++s) {
    const uint8_t* const span = stripe + s * sizeof(SparseSpan);
    const uint8_t* const own = bytes + s * kSpanInputs;
#pragma GCC unroll 2
    for (int j = 0; j < kWide; ++j) {
      const uint8_t* const at = span + 64 * j;
      const __m512i index = _mm512_loadu_si512(at);
      _mm_prefetch((const char*)at + ahead, _MM_HINT_T0);
#pragma GCC unroll 2
      for (int u = 0; u < 2; ++u) {
        const uint8_t* const codes = at + (1 + u) * 4 * kStripeRows;
        _mm_prefetch((const char*)codes + ahead, _MM_HINT_T0);
        add_codes<kHalves, kInputs>(codes, index, u, j, own + 2 * kStepInputs * u, &sums);
      }
    }
  }
  return sums;
}

// sum_kept code v - zero * sum_kept v of one half.
template <int kHalves>
EB_INLINE __m512i total_of(const Sums<kHalves>& sums, int h, int j, __m512i zero) {
  const __m512i products = _mm512_add_epi32(sums.low[h][j], _mm512_srai_epi32(sums.high[h][j], 4));
  return _mm512_sub_epi32(products, _mm512_mullo_epi32(zero, sums.kept[h][j]));
}

// As with few dense tokens, the core has no room to run ahead of its loads by itself: at least the
// next block is asked for.
template <int kInputs>
EB_INLINE int prefetch_distance(int tuned) {
  const int least = sparse_block_bytes(kInputs);
  if (tuned < least) return least;
  return tuned < kFarthestPrefetch ? tuned : kFarthestPrefetch;
}

template <Family kFamily, int kInputs>
EB_INLINE void gemv(const BlockRow& weights, const Activations& x, int token, float* out) {
  constexpr int kHalves = halves_of(kFamily);
  const int ahead = prefetch_distance<kInputs>(weights.prefetch);
  const uint8_t* block = weights.blocks;
  __m512 y[kColumns];
  for (int j = 0; j < kColumns; ++j) y[j] = _mm512_setzero_ps();
  for (int g = 0; g < weights.groups; ++g) {
    const size_t slot = (size_t)g * x.tokens + token;
    const uint8_t* const bytes = x.bytes + slot * kHalves * kInputs;
    const uint8_t* const tail = block + sparse_code_bytes(kInputs);
    const __m512 x_scale = _mm512_set1_ps(x.scale[slot]);
#pragma GCC unroll 2
    for (int stripe = 0; stripe < kStripes; ++stripe) {
      const Sums<kHalves> sums =
          stripe_sums<kHalves, kInputs>(block + stripe * stripe_bytes(kInputs), bytes, ahead);
#pragma GCC unroll 2
      for (int j = 0; j < kWide; ++j) {
        const int column = kWide * stripe + j;
        const __m512i zero = zeros_of(tail, column);
        __m512i total = total_of<kHalves>(sums, 0, j, zero);
        if (kHalves == 2) {
          const __m512i rest = total_of<kHalves>(sums, kHalves - 1, j, zero);
          total = _mm512_add_epi32(_mm512_slli_epi32(total, 8), rest);
        }
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(total), scales_of(tail, column));
        y[column] = _mm512_fmadd_ps(scaled, x_scale, y[column]);
      }
    }
    block = tail + kTailBytes;
  }
  for (int j = 0; j < kColumns; ++j) _mm512_store_ps(out + kLanes * j, y[j]);
}

template <Family kFamily>
EB_INLINE void gemv_any(const BlockRow& weights, const Activations& x, int token, float* out) {
  switch (weights.inputs) {
    case 128:
      return gemv<kFamily, 128>(weights, x, token, out);
    case 64:
      return gemv<kFamily, 64>(weights, x, token, out);
    default:
      return gemv<kFamily, 32>(weights, x, token, out);
  }
}

}  // namespace

void sparse_gemv_a8(const BlockRow& weights, const Activations& x, int first, int /*last*/,
                    float* out, uint8_t* /*scratch*/) {
  gemv_any<kA8>(weights, x, first, out);
}

void sparse_gemv_a16(const BlockRow& weights, const Activations& x, int first, int /*last*/,
                     float* out, uint8_t* /*scratch*/) {
  gemv_any<kA16>(weights, x, first, out);
}

void expand_sparse(const uint8_t* sparse, int groups, int inputs, uint8_t* dense) {
  expand_row(sparse, groups, inputs, dense);
}

}  // namespace avx512
}  // namespace edgebench
