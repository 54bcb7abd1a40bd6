// w4a8 and w4a16, scalar: the twin that every other kernel is held against.
//
// Formula, for one token t and one output row n (v = quantized activation, an integer):
//   y[t,n] = sum over groups g of  x_scale[t,g] * scale[n,g] * ( sum_k code[n,k] v[t,k]
//                                                               - zero[n,g] * sum_k v[t,k] )
// Arguments: BlockRow (64 rows, `groups` blocks of B inputs), Activations; see ops.h.
// Picture: int4_format.h; one loop for each of its dimensions, in its order.
// Roofline: none claimed; it serves machines without SIMD kernels and the tests.
// Range: |sum| <= 128 * 15 * 32512 < 2^26, so int32 never overflows.
#include <math.h>

#include "half.h"
#include "ops.h"

namespace edgebench {
namespace {

float peak_of(const float* x, int64_t count) {
  float peak = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    const float size = fabsf(x[i]);
    if (!(size <= peak)) peak = size;  // keeps a NaN once it has come
    if (peak != peak) break;
  }
  return peak;
}

// v = rint(x * levels / peak), x_scale = peak / levels; ties to even. Where the peak is NaN or
// infinity x_scale is NaN and v zero: the output says so, whatever the instruction set.
template <Family kFamily>
void quantize_group(const float* x, int count, int inputs, float peak, uint8_t flip, uint8_t* high,
                    float* scale, int32_t* sum) {
  constexpr float kLevels = kFamily == kA16 ? kA16Levels : kA8Levels;
  const bool is_finite = peak <= 3.402823466e38f;
  if (!(peak > kSmallestPeak)) peak = kSmallestPeak;
  const float inverse = kLevels / peak;
  int32_t total = 0;
  for (int i = 0; i < inputs; ++i) {
    const float value = i < count && is_finite ? x[i] * inverse : 0.0f;
    const int32_t v = static_cast<int32_t>(rintf(value));
    total += v;
    const int32_t top = kFamily == kA16 ? (v + 128) >> 8 : v;
    high[i] = static_cast<uint8_t>(top) ^ flip;
    if (kFamily == kA16) high[inputs + i] = static_cast<uint8_t>(v - top * 256) ^ flip;
  }
  *scale = is_finite ? peak / kLevels : NAN;
  *sum = total;
}

// One scale for each group, or (kIsPerToken) the same for all of the token's.
template <Family kFamily, bool kIsPerToken = false>
void quantize(const float* x, int64_t k, int inputs, int token, uint8_t flip,
              const Activations& out) {
  const float whole = kIsPerToken ? peak_of(x, k) : 0.0f;
  for (int64_t first = 0, g = 0; first < k; first += inputs, ++g) {
    const int count = k - first < inputs ? static_cast<int>(k - first) : inputs;
    const int64_t slot = g * out.tokens + token;
    const float peak = kIsPerToken ? whole : peak_of(x + first, count);
    quantize_group<kFamily>(x + first, count, inputs, peak, flip,
                            out.bytes + slot * halves_of(kFamily) * inputs, out.scale + slot,
                            out.sum + slot);
  }
}

// sum_k code * v over one block for row `lane`.
template <Family kFamily>
int32_t dot(const uint8_t* block, int inputs, int lane, const int8_t* v) {
  int32_t total = 0;
  for (int step = 0; step < inputs / kStepInputs; ++step) {
    const uint8_t* const word = block + step * kStepBytes + 4 * lane;
    for (int i = 0; i < kStepInputs; ++i) {
      const int32_t code = i < 4 ? word[i] & 0x0f : word[i - 4] >> 4;
      const int input = step * kStepInputs + i;
      const int32_t value = kFamily == kA16 ? v[input] * 256 + v[inputs + input] : v[input];
      total += code * value;
    }
  }
  return total;
}

template <Family kFamily>
void linear(const BlockRow& weights, const Activations& x, int first, int last, float* out,
            uint8_t* /*scratch*/) {
  constexpr int kHalves = halves_of(kFamily);
  const int inputs = weights.inputs;
  for (int i = 0; i < (last - first) * kBlockRows; ++i) out[i] = 0.0f;
  for (int g = 0; g < weights.groups; ++g) {
    const uint8_t* const block = weights.blocks + static_cast<size_t>(g) * block_bytes(inputs);
    const uint8_t* const scales = block + code_bytes(inputs);
    for (int token = first; token < last; ++token) {
      const size_t slot = static_cast<size_t>(g) * x.tokens + token;
      const auto* const v = reinterpret_cast<const int8_t*>(x.bytes + slot * kHalves * inputs);
      for (int lane = 0; lane < kBlockRows; ++lane) {
        uint16_t half;
        memcpy(&half, scales + 2 * lane, 2);
        const int32_t zero = scales[kScaleBytes + lane];
        const int32_t total = dot<kFamily>(block, inputs, lane, v) - zero * x.sum[slot];
        out[(token - first) * kBlockRows + lane] +=
            static_cast<float>(total) * float_of_half(half) * x.scale[slot];
      }
    }
  }
}

uint64_t read(const uint8_t* bytes, size_t size, int /*prefetch*/) {
  uint64_t all = 0;
  for (size_t i = 0; i < size; i += 8) {
    uint64_t word;
    memcpy(&word, bytes + i, 8);
    all |= word;
  }
  return all;
}

// The peaks of compiled plain C: what this file's own loops could reach at best, data in L1.
constexpr int kPeakLength = 4096;
void int8_loop(int64_t iterations) {
  int8_t a[kPeakLength] = {}, b[kPeakLength] = {};
  int32_t total = 0;
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+m"(a), "+m"(b));  // as if they changed: the loop stays
    for (int j = 0; j < kPeakLength; ++j) total += a[j] * b[j];
  }
  asm volatile("" : : "r"(total));  // as if it were used
}

void fp32_loop(int64_t iterations) {
  constexpr int kLanes = 32;  // independent sums: enough to hide the latency of any adder
  float sums[kLanes] = {};
  float factor = 1.0f;
  asm volatile("" : "+m"(factor));
  for (int64_t i = 0; i < iterations; ++i) {
    for (int j = 0; j < kLanes; ++j) sums[j] = sums[j] * factor + factor;
  }
  float total = 0.0f;
  for (float sum : sums) total += sum;
  asm volatile("" : : "m"(total));  // as if it were used
}

}  // namespace

const CpuOps kScalarOps = {
    {{quantize<kA8>, linear<kA8>, nullptr, 1, linear<kA8>, 0},
     {quantize<kA16>, linear<kA16>, nullptr, 1, linear<kA16>, 0}},
    read,
    "64-bit loads (compiled C++)",
    {int8_loop, 2.0 * kPeakLength, "int8 multiply-add (compiled C++)"},
    {fp32_loop, 2.0 * 32, "fp32 multiply-add (compiled C++)"},
};

void quantize_a8_per_token(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                           const Activations& out) {
  quantize<kA8, true>(x, k, inputs, token, flip, out);
}

}  // namespace edgebench
