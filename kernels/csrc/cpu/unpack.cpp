#include "unpack.h"

#include <algorithm>

#include "dispatch.h"

namespace edgebench {

void unpack_w4(const PackedW4& weights, Number number, void* y) {
  const CpuOps& ops = *current_isa().ops;
  const auto groups = static_cast<int>(weights.groups);
  const int64_t row_size = weights.k * (number == kBf16 ? sizeof(uint16_t) : sizeof(float));
  HugeBuffer dense;
  if (weights.is_sparse) dense = HugeBuffer(groups * block_bytes(weights.inputs));
  for (int64_t row = 0; row < weights.n; row += kBlockRows) {
    const uint8_t* packed = weights.bytes.data() + row / kBlockRows * weights.row_bytes();
    if (weights.is_sparse) {
      ops.expand(packed, groups, weights.inputs, dense.data());
      packed = dense.data();
    }
    const auto rows = static_cast<int>(std::min<int64_t>(kBlockRows, weights.n - row));
    ops.dequantize({packed, groups, weights.inputs, 0}, rows, weights.k, number,
                   static_cast<uint8_t*>(y) + row * row_size);
  }
}

}  // namespace edgebench
