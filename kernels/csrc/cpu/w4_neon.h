// The NEON kernels, for the tables of the ISAs that use them. `dot` marks the dotprod versions,
// `matrix` those of i8mm.
#ifndef EDGEBENCH_CPU_W4_NEON_H_
#define EDGEBENCH_CPU_W4_NEON_H_

#include "ops.h"

namespace edgebench {
namespace neon {

void quantize_a8(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                 const Activations& out);
void quantize_a16(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                  const Activations& out);
void gemv_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch);
void gemv_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
              uint8_t* scratch);
void gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch);
void gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
              uint8_t* scratch);

void dot_gemv_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                 uint8_t* scratch);
void dot_gemv_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                  uint8_t* scratch);
void dot_gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                 uint8_t* scratch);
void dot_gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                  uint8_t* scratch);

void matrix_gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                    uint8_t* scratch);
void matrix_gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                     uint8_t* scratch);

uint64_t read(const uint8_t* bytes, size_t size, int prefetch);
void fp32_loop(int64_t iterations);
constexpr int kPeakSums = 16;  // independent chains: four a cycle at latency 4
constexpr double kFp32OpsPerIteration = 2.0 * 4 * kPeakSums;

}  // namespace neon
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_W4_NEON_H_
