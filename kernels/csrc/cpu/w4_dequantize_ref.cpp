// Packed weights to numbers for the base instruction set; see w4_dequantize.h.
#include "w4_dequantize.h"

namespace edgebench {
namespace {

// Where input i of a step lies in its word: see int4_format.h.
constexpr uint32_t kNibbleBits[kStepInputs] = {0, 8, 16, 24, 4, 12, 20, 28};

struct Octet {
  static void store(uint32_t word, int32_t zero, float scale, float* y) {
    for (int i = 0; i < kStepInputs; ++i) {
      const auto code = static_cast<int32_t>(word >> kNibbleBits[i] & 15u);
      y[i] = static_cast<float>(code - zero) * scale;
    }
  }

  static void store(uint32_t word, int32_t zero, float scale, uint16_t* y) {
    float exact[kStepInputs];
    store(word, zero, scale, exact);
    for (int i = 0; i < kStepInputs; ++i) {
      uint32_t bits;
      memcpy(&bits, exact + i, sizeof(bits));
      y[i] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  }
};

}  // namespace

void dequantize(const BlockRow& weights, int rows, int64_t k, Number number, void* y) {
  dequantize_as<Octet>(weights, rows, k, number, y);
}

}  // namespace edgebench
