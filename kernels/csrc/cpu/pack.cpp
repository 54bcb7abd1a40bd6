// The one packer of the CPU layout: plain loops over blocks, steps and rows (see int4_format.h).
#include "pack.h"

#include <cstring>

namespace edgebench {
namespace {

constexpr uint16_t kExponentMask = 0x7c00;  // fp16: all ones means infinity or NaN

// Nibble i of `nibbles` (16 bits) moves to byte i.
uint32_t spread(uint32_t nibbles) {
  const uint32_t pairs = (nibbles | nibbles << 8) & 0x00ff00ff;
  return (pairs | pairs << 4) & 0x0f0f0f0f;
}

// The word of one row and one step: byte b holds input b in its low nibble, input 4 + b in its
// high. Inputs past K take the code `padding`.
uint32_t word_of(const Canonical& from, int64_t row, int64_t first_input, uint32_t padding) {
  const uint8_t* const bytes = from.qweight + row * (from.k / 2) + first_input / 2;
  uint32_t codes = padding * 0x11111111u;
  if (from.k - first_input >= kStepInputs) {
    memcpy(&codes, bytes, 4);
  } else {
    for (int i = 0; 2 * i < from.k - first_input; ++i) {
      codes = (codes & ~(0xffu << (8 * i))) | static_cast<uint32_t>(bytes[i]) << (8 * i);
    }
  }
  return spread(codes & 0xffff) | spread(codes >> 16) << 4;
}

void pack_block(const Canonical& from, int64_t first_row, int64_t first_input, int inputs,
                uint8_t* block) {
  const int64_t groups = from.k / from.group;
  const int64_t group = first_input / from.group;
  uint8_t* const scales = block + code_bytes(inputs);
  uint8_t* const zeros = scales + kScaleBytes;
  for (int lane = 0; lane < kBlockRows && first_row + lane < from.n; ++lane) {
    const int64_t row = first_row + lane;
    const uint8_t zero = from.zero[row * groups + group];
    for (int step = 0; step < inputs / kStepInputs; ++step) {
      const uint32_t word = word_of(from, row, first_input + step * kStepInputs, zero);
      memcpy(block + step * kStepBytes + 4 * lane, &word, 4);
    }
    memcpy(scales + 2 * lane, &from.scale[row * groups + group], 2);
    zeros[lane] = zero;
  }
}

}  // namespace

int block_inputs(int64_t k, int64_t group) {
  if (group == 128 || group == 64 || group == 32) return static_cast<int>(group);
  if (k % 128 == 0) return 128;
  return k % 64 == 0 ? 64 : 32;
}

PackError check_canonical(const Canonical& from) {
  const int64_t count = from.n * (from.k / from.group);
  for (int64_t i = 0; i < count; ++i) {
    if ((from.scale[i] & kExponentMask) == kExponentMask) return PackError::kScale;
    if (from.zero[i] > kMaxCode) return PackError::kZero;
  }
  return PackError::kNone;
}

void size_packed(const Canonical& from, bool is_sparse, PackedW4* packed) {
  packed->n = from.n;
  packed->k = from.k;
  packed->inputs = block_inputs(from.k, from.group);
  packed->groups = (from.k + packed->inputs - 1) / packed->inputs;
  packed->is_sparse = is_sparse;
  packed->bytes = HugeBuffer(packed->block_rows() * packed->row_bytes());  // zero-filled: padding
}

PackError pack_w4(const Canonical& from, PackedW4* packed) {
  const PackError error = check_canonical(from);
  if (error != PackError::kNone) return error;
  size_packed(from, false, packed);
  for (int64_t row = 0; row < packed->block_rows(); ++row) {
    for (int64_t g = 0; g < packed->groups; ++g) {
      uint8_t* const block =
          packed->bytes.data() + row * packed->row_bytes() + g * block_bytes(packed->inputs);
      pack_block(from, row * kBlockRows, g * packed->inputs, packed->inputs, block);
    }
  }
  return PackError::kNone;
}

}  // namespace edgebench
