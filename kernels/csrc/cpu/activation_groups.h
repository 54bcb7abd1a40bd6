// The groups of one token, written once for every ISA: the last one padded with zeros, and each
// quantized by Isa::quantize_group<family>(x, inputs, flip, bytes, scale, sum).
#ifndef EDGEBENCH_CPU_ACTIVATION_GROUPS_H_
#define EDGEBENCH_CPU_ACTIVATION_GROUPS_H_

#include <string.h>

#include "ops.h"

namespace edgebench {

// See QuantizeFn.
template <typename Isa, Family kFamily>
static inline __attribute__((always_inline)) void quantize_groups(const float* x, int64_t k,
                                                                  int inputs, int token,
                                                                  uint8_t flip,
                                                                  const Activations& out) {
  float padded[kMaxBlockInputs];
  for (int64_t first = 0, g = 0; first < k; first += inputs, ++g) {
    const int64_t slot = g * out.tokens + token;
    const float* group = x + first;
    if (k - first < inputs) {
      memset(padded, 0, sizeof(padded));
      memcpy(padded, group, sizeof(float) * (k - first));
      group = padded;
    }
    Isa::template quantize_group<kFamily>(group, inputs, flip,
                                          out.bytes + slot * halves_of(kFamily) * inputs,
                                          out.scale + slot, out.sum + slot);
  }
}

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_ACTIVATION_GROUPS_H_
