// w4a8 and w4a16 for more than one token, NEON with dotprod: gemm_neon.h over quads and sdot.
#include "quads_neon.h"
#include "w4_neon.h"

namespace edgebench {
namespace neon {

void dot_gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                 uint8_t* scratch) {
  gemm<Quads<OneStepDot>, kA8>(weights, x, first, last, out, scratch);
}

void dot_gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                  uint8_t* scratch) {
  gemm<Quads<OneStepDot>, kA16>(weights, x, first, last, out, scratch);
}

}  // namespace neon
}  // namespace edgebench
