// From one row of blocks of int4_format.h to numbers: the loops, for every ISA's own octet.
//
//   y[row][k] = (code[row][k] - zero[row]) * scale[row]
// which fp32 holds exactly (4 bits times 11), and bf16 rounded to nearest, ties to even.
// Octet::store(word, zero, scale, y) writes the 8 inputs of a word, to float or to uint16_t (bf16).
#ifndef EDGEBENCH_CPU_W4_DEQUANTIZE_H_
#define EDGEBENCH_CPU_W4_DEQUANTIZE_H_

#include <string.h>

#include "half.h"
#include "ops.h"

namespace edgebench {

// y[rows][k]; the blocks' inputs past k and rows past `rows` are padding.
template <typename Octet, typename Number>
static inline __attribute__((always_inline)) void dequantize_row(const BlockRow& weights, int rows,
                                                                 int64_t k,
                                                                 Number* __restrict__ y) {
  const int inputs = weights.inputs;
  for (int row = 0; row < rows; ++row, y += k) {
    const uint8_t* block = weights.blocks;
    for (int64_t at = 0; at < k; block += block_bytes(inputs)) {
      const uint8_t* const scales = block + code_bytes(inputs);
      uint16_t half;
      memcpy(&half, scales + 2 * row, sizeof(half));
      const float scale = float_of_half(half);
      const auto zero = static_cast<int32_t>(scales[kScaleBytes + row]);
      const uint8_t* from = block + 4 * row;
      for (int step = 0; step < inputs / kStepInputs && at < k; ++step, from += kStepBytes) {
        uint32_t word;
        memcpy(&word, from, sizeof(word));
        if (k - at >= kStepInputs) {
          Octet::store(word, zero, scale, y + at);
        } else {
          Number last[kStepInputs];
          Octet::store(word, zero, scale, last);
          memcpy(y + at, last, static_cast<size_t>(k - at) * sizeof(Number));
        }
        at += kStepInputs;
      }
    }
  }
}

// A DequantizeFn.
template <typename Octet>
static inline __attribute__((always_inline)) void dequantize_as(const BlockRow& weights, int rows,
                                                                int64_t k, Number number, void* y) {
  if (number == kBf16) {
    dequantize_row<Octet>(weights, rows, k, static_cast<uint16_t*>(y));
  } else {
    dequantize_row<Octet>(weights, rows, k, static_cast<float*>(y));
  }
}

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_W4_DEQUANTIZE_H_
