// From the canonical tensor to the packed layout of int4_format.h.
#ifndef EDGEBENCH_CPU_PACK_H_
#define EDGEBENCH_CPU_PACK_H_

#include <cstdint>

#include "../int4_format.h"
#include "huge_buffer.h"

namespace edgebench {

// A packed weight matrix: block rows ceil(n / 64), each of `groups` blocks of `inputs` inputs.
struct PackedW4 {
  int64_t n = 0;
  int64_t k = 0;
  int inputs = 0;      // B
  int64_t groups = 0;  // ceil(k / B)
  HugeBuffer bytes;

  int64_t block_rows() const { return (n + kBlockRows - 1) / kBlockRows; }
  int64_t row_bytes() const { return groups * block_bytes(inputs); }
};

// The block size that serves a canonical group: itself when 32, 64 or 128; a group that spans a
// whole row is repeated over the largest of 128, 64, 32 that divides K, else over 32 with padded
// inputs.
int block_inputs(int64_t k, int64_t group);

enum class PackError { kNone, kScale, kZero };

// Packs qweight [n, k/2], scale fp16 [n, k/group], zero [n, k/group]. Refuses scales that are not
// finite and zero points above 15. Throws std::bad_alloc.
PackError pack_w4(const uint8_t* qweight, const uint16_t* scale, const uint8_t* zero, int64_t n,
                  int64_t k, int64_t group, PackedW4* packed);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_PACK_H_
