// w4a8 and w4a16 for more than one token, ARMv8.0 NEON: gemm_neon.h over quads and smlal.
#include "quads_neon.h"
#include "w4_neon.h"

namespace edgebench {
namespace neon {

void gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch) {
  gemm<Quads<WideningDot>, kA8>(weights, x, first, last, out, scratch);
}

void gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
              uint8_t* scratch) {
  gemm<Quads<WideningDot>, kA16>(weights, x, first, last, out, scratch);
}

}  // namespace neon
}  // namespace edgebench
