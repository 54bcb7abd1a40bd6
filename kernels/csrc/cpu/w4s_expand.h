// From one row of 2:4 blocks to the dense blocks of int4_format.h, written once for every ISA.
//
// Plain loops over 32 rows that each translation unit's compiler makes vectors of. A dense word is
//   zero * 0x11111111 + sum over kept inputs (code - zero) << 4 * place     (modulo 2^32)
// where place is the nibble of int4_format.h: input i of an octet lies in byte i & 3, half i >> 2.
#ifndef EDGEBENCH_CPU_W4S_EXPAND_H_
#define EDGEBENCH_CPU_W4S_EXPAND_H_

#include <string.h>

#include "../int4_sparse_format.h"

namespace edgebench {

// One octet of a span's 32 rows: words[32] of a dense step.
static inline __attribute__((always_inline)) void expand_octet(const uint32_t* __restrict__ index,
                                                               const uint32_t* __restrict__ codes,
                                                               int octet,
                                                               const uint32_t* __restrict__ zero,
                                                               uint32_t* __restrict__ words) {
  for (int row = 0; row < kStripeRows; ++row) {
    const uint32_t code = codes[row] >> (4 * (octet % 2));
    const uint32_t where = index[row] >> (2 * octet);
    uint32_t word = zero[row] * 0x11111111u;
    for (int byte = 0; byte < 4; ++byte) {
      const uint32_t value = (code >> (8 * byte) & 15u) - zero[row];
      word += value << ((where >> (8 * byte) & 3u) * 8 + 4 * (byte / 2));
    }
    words[row] = word;
  }
}

// groups: blocks of the row. dense: groups * block_bytes(inputs) bytes, 64-byte aligned.
static inline __attribute__((always_inline)) void expand_row(const uint8_t* __restrict__ sparse,
                                                             int groups, int inputs,
                                                             uint8_t* __restrict__ dense) {
  for (int g = 0; g < groups; ++g) {
    const uint8_t* const tail = sparse + sparse_code_bytes(inputs);
    for (int stripe = 0; stripe < kStripes; ++stripe) {
      alignas(64) uint32_t zero[kStripeRows], index[kStripeRows], codes[kStripeRows];
      alignas(64) uint32_t words[kStripeRows];
      for (int row = 0; row < kStripeRows; ++row) {
        zero[row] = tail[kScaleBytes + stripe * kStripeRows + row];
      }
      for (int octet = 0; octet < inputs / kStepInputs; ++octet) {
        const uint8_t* const span = sparse + stripe * stripe_bytes(inputs) +
                                    octet / 4 * static_cast<int>(sizeof(SparseSpan));
        memcpy(index, span, sizeof(index));
        memcpy(codes, span + sizeof(index) * (1 + octet % 4 / 2), sizeof(codes));
        expand_octet(index, codes, octet % 4, zero, words);
        memcpy(dense + octet * kStepBytes + stripe * sizeof(words), words, sizeof(words));
      }
    }
    memcpy(dense + code_bytes(inputs), tail, kTailBytes);
    sparse = tail + kTailBytes;
    dense += block_bytes(inputs);
  }
}

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_W4S_EXPAND_H_
