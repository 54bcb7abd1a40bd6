// The AVX-512 VNNI kernels, for the table of this ISA.
#ifndef EDGEBENCH_CPU_W4_AVX512_H_
#define EDGEBENCH_CPU_W4_AVX512_H_

#include "ops.h"

namespace edgebench {
namespace avx512 {

constexpr int kFewA8 = 12;     // tokens that `few` takes: 12 byte rows
constexpr int kFewA16 = 6;     // two byte rows each
constexpr int kPeakSums = 16;  // independent chains: two a cycle at latency 5 need 10
constexpr double kFp32OpsPerIteration = 2.0 * 16 * kPeakSums;

uint64_t read(const uint8_t* bytes, size_t size, int prefetch);
void fp32_loop(int64_t iterations);

void quantize_a8(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                 const Activations& out);
void quantize_a16(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                  const Activations& out);
void gemv_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch);
void gemv_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
              uint8_t* scratch);
void few_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
            uint8_t* scratch);
void few_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch);
void gemm_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
             uint8_t* scratch);
void gemm_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
              uint8_t* scratch);
void sparse_gemv_a8(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                    uint8_t* scratch);
void sparse_gemv_a16(const BlockRow& weights, const Activations& x, int first, int last, float* out,
                     uint8_t* scratch);
void expand_sparse(const uint8_t* sparse, int groups, int inputs, uint8_t* dense);

}  // namespace avx512
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_W4_AVX512_H_
