// From the canonical tensor to the packed layout of int4_format.h.
#ifndef EDGEBENCH_CPU_PACK_H_
#define EDGEBENCH_CPU_PACK_H_

#include <cstdint>

#include "../int4_sparse_format.h"
#include "huge_buffer.h"

namespace edgebench {

// A packed weight matrix: block rows ceil(n / 64), each of `groups` blocks of `inputs` inputs.
struct PackedW4 {
  int64_t n = 0;
  int64_t k = 0;
  int inputs = 0;          // B
  int64_t groups = 0;      // ceil(k / B)
  bool is_sparse = false;  // blocks of int4_sparse_format.h instead of int4_format.h
  HugeBuffer bytes;

  int64_t block_rows() const { return (n + kBlockRows - 1) / kBlockRows; }
  int64_t row_bytes() const {
    return groups * (is_sparse ? sparse_block_bytes(inputs) : block_bytes(inputs));
  }
};

// The block size that serves a canonical group: itself when 32, 64 or 128; a group that spans a
// whole row is repeated over the largest of 128, 64, 32 that divides K, else over 32 with padded
// inputs.
int block_inputs(int64_t k, int64_t group);

enum class PackError { kNone, kScale, kZero, kPattern };

// The canonical tensor: qweight [n, k/2], scale fp16 [n, k/group], zero [n, k/group].
struct Canonical {
  const uint8_t* qweight;
  const uint16_t* scale;
  const uint8_t* zero;
  int64_t n, k, group;
};

// Scales that are not finite and zero points above 15 have no packed form.
PackError check_canonical(const Canonical& from);

// Sizes and a zero-filled buffer for `from`, dense or sparse. Throws std::bad_alloc.
void size_packed(const Canonical& from, bool is_sparse, PackedW4* packed);

// Packs the dense layout; see check_canonical. Throws std::bad_alloc.
PackError pack_w4(const Canonical& from, PackedW4* packed);

// Packs the 2:4 layout. kPattern: in `place` (row, input) begins a quad of four inputs of which
// more than two are not zero. k must be a multiple of 4. Throws std::bad_alloc.
PackError pack_sparse_w4(const Canonical& from, PackedW4* packed, int64_t place[2]);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_PACK_H_
