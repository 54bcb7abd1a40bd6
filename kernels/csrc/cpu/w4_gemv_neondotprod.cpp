// w4a8 and w4a16 for one token, NEON with dotprod: gemv_neon.h over sdot.
#include "gemv_neon.h"
#include "w4_neon.h"

namespace edgebench {
namespace neon {

void dot_gemv_a8(const BlockRow& weights, const Activations& x, int first, int /*last*/, float* out,
                 uint8_t* /*scratch*/) {
  gemv<OneStepDot, kA8>(weights, x, first, out);
}

void dot_gemv_a16(const BlockRow& weights, const Activations& x, int first, int /*last*/,
                  float* out, uint8_t* /*scratch*/) {
  gemv<OneStepDot, kA16>(weights, x, first, out);
}

}  // namespace neon
}  // namespace edgebench
