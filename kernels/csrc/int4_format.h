// The packed INT4 layout: one definition for every kernel on every device that reads it.
//
// Weights [N, K] are cut in blocks of 64 output rows x B inputs (B = 32, 64 or 128 = one scale
// group), stored row of blocks by row of blocks, so that a matrix-vector product reads ONE
// sequential stream:
//
//     block(n0, k0)  block(n0, k0+B)  block(n0, k0+2B) ...   block(n0+64, k0) ...
//
// One block is B/8 steps; a step is 64 words, one for each output row, covering 8 inputs:
//
//     codes[step][row], 32 bits, byte b of the word:
//
//       bit 31       24 23       16 15        8 7         0
//          +-----+-----+-----+-----+-----+-----+-----+-----+
//          | k+7 | k+3 | k+6 | k+2 | k+5 | k+1 | k+4 | k+0 |      k = k0 + 8 * step
//          +-----+-----+-----+-----+-----+-----+-----+-----+
//            hi    lo    hi    lo    hi    lo    hi    lo
//
//     word & 0x0f0f0f0f        -> inputs k+0 .. k+3, one per byte
//     (word >> 4) & 0x0f0f0f0f -> inputs k+4 .. k+7, one per byte
//
// so unpacking 8 weights of each of 16 rows (one 512-bit register) is one shift and two masks, four
// neighbouring inputs lie in one 32-bit lane as byte dot products want them, and lanes are output
// rows: no horizontal sum anywhere. Scales and zero points follow the codes inside the block:
//
//     | codes[B/8][64] u32 | scale[64] fp16 | zero[64] u8 |      B = 128: 4096 + 128 + 64 = 4288
//     bytes
//                                                                          = 4.19 bit per weight
// Padding: rows past N have scale 0; inputs past K hold their row's zero point (and meet zero
// activations). Both add exactly nothing.
#ifndef EDGEBENCH_INT4_FORMAT_H_
#define EDGEBENCH_INT4_FORMAT_H_

#include <stddef.h>
#include <stdint.h>

namespace edgebench {

constexpr int kBlockRows = 64;                        // output rows of one block
constexpr int kStepInputs = 8;                        // inputs of one step: 8 nibbles a word
constexpr int kStepBytes = kBlockRows * 4;            // 256: one word for each row
constexpr int kMaxCode = 15;                          // codes and zero points: 0..15
constexpr int kMaxBlockInputs = 128;                  // the largest B
constexpr int kScaleBytes = kBlockRows * 2;           // fp16
constexpr int kTailBytes = kScaleBytes + kBlockRows;  // scales and zero points

template <int kInputs>
struct W4Block {
  uint32_t codes[kInputs / kStepInputs][kBlockRows];
  uint16_t scale[kBlockRows];
  uint8_t zero[kBlockRows];
};

static_assert(sizeof(W4Block<128>) == 4288, "the packed layout is a file and kernel contract");
static_assert(sizeof(W4Block<64>) == 2240, "the packed layout is a file and kernel contract");
static_assert(sizeof(W4Block<32>) == 1216, "the packed layout is a file and kernel contract");
static_assert(sizeof(W4Block<128>) % 64 == 0 && sizeof(W4Block<64>) % 64 == 0 &&
                  sizeof(W4Block<32>) % 64 == 0,
              "every block starts on a cache line");
static_assert(offsetof(W4Block<128>, scale) == 16 * kStepBytes, "scales follow the codes");
static_assert(offsetof(W4Block<128>, zero) == 16 * kStepBytes + kScaleBytes, "zeros come last");

// Bytes of the codes of a block of `inputs`; the scales start there.
constexpr int code_bytes(int inputs) { return inputs / kStepInputs * kStepBytes; }
// Bytes of a whole block of `inputs`.
constexpr int block_bytes(int inputs) { return code_bytes(inputs) + kTailBytes; }

static_assert(block_bytes(128) == static_cast<int>(sizeof(W4Block<128>)), "same size twice");
static_assert(block_bytes(32) == static_cast<int>(sizeof(W4Block<32>)), "same size twice");

}  // namespace edgebench

#endif  // EDGEBENCH_INT4_FORMAT_H_
