// The packer of the 2:4 layout: plain loops over blocks, rows and quads (int4_sparse_format.h).
#include <cstring>

#include "pack.h"

namespace edgebench {
namespace {

struct Quad {
  uint32_t code[kQuadKept];
  uint32_t index[kQuadKept];
};

uint32_t code_of(const Canonical& from, int64_t row, int64_t input) {
  const uint8_t pair = from.qweight[row * (from.k / 2) + input / 2];
  return input % 2 == 0 ? pair & 0x0f : pair >> 4;
}

// The two inputs that a quad keeps, those that are not zero first, then in order; false where more
// than two are not zero.
bool quad_of(const Canonical& from, int64_t row, int64_t first_input, uint32_t zero, Quad* quad) {
  uint32_t codes[kQuadInputs];
  bool is_kept[kQuadInputs];
  int kept = 0;
  for (int i = 0; i < kQuadInputs; ++i) {
    codes[i] = first_input + i < from.k ? code_of(from, row, first_input + i) : zero;
    is_kept[i] = codes[i] != zero;
    kept += is_kept[i];
  }
  if (kept > kQuadKept) return false;
  for (int i = 0; i < kQuadInputs && kept < kQuadKept; ++i) {
    if (is_kept[i]) continue;
    is_kept[i] = true;
    ++kept;
  }
  int slot = 0;
  for (uint32_t i = 0; i < kQuadInputs; ++i) {
    if (is_kept[i]) {
      quad->code[slot] = codes[i];
      quad->index[slot++] = i;
    }
  }
  return true;
}

// Adds a quad to its row's words of a span.
void put(const Quad& quad, int quad_in_span, int row, SparseSpan* span) {
  const int octet = quad_in_span / 2;
  for (int slot = 0; slot < kQuadKept; ++slot) {
    const int byte = quad_in_span % 2 * kQuadKept + slot;
    span->codes[octet / 2][row] |= quad.code[slot] << (8 * byte + 4 * (octet % 2));
    span->index[row] |= quad.index[slot] << (8 * byte + 2 * octet);
  }
}

// One row of a block; the first input of the quad that does not fit, or -1.
int64_t pack_row(const Canonical& from, int64_t row, int64_t first_input, int inputs,
                 uint8_t* block) {
  const auto lane = static_cast<int>(row % kBlockRows);
  const int64_t group = row * (from.k / from.group) + first_input / from.group;
  const uint8_t zero = from.zero[group];
  auto* const spans =
      reinterpret_cast<SparseSpan*>(block + lane / kStripeRows * stripe_bytes(inputs));
  constexpr int kQuads = kSpanInputs / kQuadInputs;
  for (int q = 0; q < inputs / kQuadInputs; ++q) {
    Quad quad;
    if (!quad_of(from, row, first_input + q * kQuadInputs, zero, &quad)) {
      return first_input + q * kQuadInputs;
    }
    put(quad, q % kQuads, lane % kStripeRows, spans + q / kQuads);
  }
  uint8_t* const scales = block + sparse_code_bytes(inputs);
  memcpy(scales + 2 * lane, &from.scale[group], 2);
  scales[kScaleBytes + lane] = zero;
  return -1;
}

}  // namespace

PackError pack_sparse_w4(const Canonical& from, PackedW4* packed, int64_t place[2]) {
  const PackError error = check_canonical(from);
  if (error != PackError::kNone) return error;
  size_packed(from, true, packed);
  for (int64_t row = 0; row < from.n; ++row) {
    uint8_t* const blocks = packed->bytes.data() + row / kBlockRows * packed->row_bytes();
    for (int64_t g = 0; g < packed->groups; ++g) {
      const int64_t input = pack_row(from, row, g * packed->inputs, packed->inputs,
                                     blocks + g * sparse_block_bytes(packed->inputs));
      if (input >= 0) {
        place[0] = row;
        place[1] = input;
        return PackError::kPattern;
      }
    }
  }
  return PackError::kNone;
}

}  // namespace edgebench
