// 2:4 blocks to dense ones for AVX2, whose shifts by a count of their own per lane it needs; see
// w4s_expand.h.
#include "ops.h"
#include "w4_avx2.h"
#include "w4s_expand.h"

namespace edgebench {
namespace avx2 {

void expand_sparse(const uint8_t* sparse, int groups, int inputs, uint8_t* dense) {
  expand_row(sparse, groups, inputs, dense);
}

}  // namespace avx2
}  // namespace edgebench
