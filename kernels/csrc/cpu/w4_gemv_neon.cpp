// w4a8 and w4a16 for one token, ARMv8.0 NEON: gemv_neon.h over smlal.
#include "gemv_neon.h"
#include "w4_neon.h"

namespace edgebench {
namespace neon {

void gemv_a8(const BlockRow& weights, const Activations& x, int first, int /*last*/, float* out,
             uint8_t* /*scratch*/) {
  gemv<WideningDot, kA8>(weights, x, first, out);
}

void gemv_a16(const BlockRow& weights, const Activations& x, int first, int /*last*/, float* out,
              uint8_t* /*scratch*/) {
  gemv<WideningDot, kA16>(weights, x, first, out);
}

}  // namespace neon
}  // namespace edgebench
