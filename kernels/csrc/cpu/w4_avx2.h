// The AVX2 kernels, for the tables of the ISAs that use them. `dot` marks the AVX-VNNI versions.
#ifndef EDGEBENCH_CPU_W4_AVX2_H_
#define EDGEBENCH_CPU_W4_AVX2_H_

#include "ops.h"

namespace edgebench {
namespace avx2 {

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

void dot_gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                 uint8_t* scratch);
void dot_gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                  uint8_t* scratch);

uint64_t read(const uint8_t* bytes, size_t size, int prefetch);
void fp32_loop(int64_t iterations);
constexpr double kFp32OpsPerIteration = 2.0 * 8 * 12;
void expand_sparse(const uint8_t* sparse, int groups, int inputs, uint8_t* dense);
void dequantize(const BlockRow& weights, int rows, int64_t k, Number number, void* y);

}  // namespace avx2
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_W4_AVX2_H_
