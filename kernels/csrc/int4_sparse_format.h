// The packed layout of 2:4 sparse INT4 weights: of every four inputs two are stored.
//
// Weights [N, K] are cut in the blocks of int4_format.h, 64 output rows x B inputs, and lie in the
// same order. A block is two stripes of 32 rows, one behind the other; a stripe is B/32 spans; a
// span holds 32 rows x 32 inputs as three times 32 words, one word a row each:
//
//     | index[32] u32 | codes[0][32] u32 | codes[1][32] u32 |                    384 bytes
//
// Its 32 inputs are four octets of 8; an octet is two quads of 4, of which each keeps two inputs.
// Byte b of a word stands for the first (b even) or second (b odd) kept input of quad b / 2:
//
//     codes[u], byte b:    | octet 2u+1 : 4 bits | octet 2u : 4 bits |            u = 0, 1
//     index,    byte b:    | octet 3 : 2 | octet 2 : 2 | octet 1 : 2 | octet 0 : 2 |
//                            where in its quad the input lies, 0..3; the first before the second
//
// so that a shift and one operation on bits give the byte shuffle that fetches, from the octet's 8
// activations, the four that a row needs. Scales and zero points follow as in int4_format.h:
//
//     | 2 stripes | scale[64] fp16 | zero[64] u8 |   B = 128: 2 * 1536 + 128 + 64 = 3264 bytes
//                                                    = 3.19 bits per weight (dense: 4.19)
// A quad with fewer than two weights that are not zero keeps zeros, that is its row's zero point.
// Padding: rows past N are all 0; inputs past K are zeros.
#ifndef EDGEBENCH_INT4_SPARSE_FORMAT_H_
#define EDGEBENCH_INT4_SPARSE_FORMAT_H_

#include "int4_format.h"

namespace edgebench {

constexpr int kQuadInputs = 4;   // of these
constexpr int kQuadKept = 2;     // this many are stored
constexpr int kSpanInputs = 32;  // inputs of one span
constexpr int kStripeRows = 32;  // output rows of one span
constexpr int kStripes = kBlockRows / kStripeRows;

struct SparseSpan {
  uint32_t index[kStripeRows];
  uint32_t codes[2][kStripeRows];
};

template <int kInputs>
struct SparseW4Block {
  SparseSpan spans[kStripes][kInputs / kSpanInputs];
  uint16_t scale[kBlockRows];
  uint8_t zero[kBlockRows];
};

static_assert(sizeof(SparseSpan) == 384, "the packed layout is a kernel contract");
static_assert(sizeof(SparseW4Block<128>) == 3264, "the packed layout is a kernel contract");
static_assert(sizeof(SparseW4Block<64>) == 1728, "the packed layout is a kernel contract");
static_assert(sizeof(SparseW4Block<32>) == 960, "the packed layout is a kernel contract");
static_assert(sizeof(SparseW4Block<128>) % 64 == 0 && sizeof(SparseW4Block<64>) % 64 == 0 &&
                  sizeof(SparseW4Block<32>) % 64 == 0,
              "every block starts on a cache line");

// Bytes of one stripe, of both, and of a whole block of `inputs`.
constexpr int stripe_bytes(int inputs) {
  return inputs / kSpanInputs * static_cast<int>(sizeof(SparseSpan));
}
constexpr int sparse_code_bytes(int inputs) { return kStripes * stripe_bytes(inputs); }
constexpr int sparse_block_bytes(int inputs) { return sparse_code_bytes(inputs) + kTailBytes; }

static_assert(sparse_block_bytes(128) == static_cast<int>(sizeof(SparseW4Block<128>)), "same");

}  // namespace edgebench

#endif  // EDGEBENCH_INT4_SPARSE_FORMAT_H_
