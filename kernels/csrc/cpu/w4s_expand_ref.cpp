// 2:4 blocks to dense ones for the base instruction set; see w4s_expand.h.
#include "ops.h"
#include "w4s_expand.h"

namespace edgebench {

void expand_sparse(const uint8_t* sparse, int groups, int inputs, uint8_t* dense) {
  expand_row(sparse, groups, inputs, dense);
}

}  // namespace edgebench
