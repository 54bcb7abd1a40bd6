// The AMX table: tiles multiply where many tokens share the weights, AVX-512 VNNI does the rest.
// Its ceilings are the tiles' int8 peak, and (for bf16 of the reference) their bf16 peak.
#include "amx.h"
#include "w4_amx.h"
#include "w4_avx2.h"
#include "w4_avx512.h"

namespace edgebench {
namespace {

constexpr int kSums = 4;                    // chains: one tdp in 16 cycles at latency 52 needs 4
constexpr double kTileOps = 2.0 * 16 * 16;  // for each input of a row

void int8_loop(int64_t iterations) {
  amx::configure(64);
  for (int64_t i = 0; i < iterations; ++i) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_release();
}

void bf16_loop(int64_t iterations) {
  amx::configure(64);  // zeros everywhere: no subnormal can slow an add down
  for (int64_t i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

}  // namespace

const CpuOps kAmxInt8Ops = {
    {{avx512::quantize_a8, avx512::gemv_a8, avx512::few_a8, avx512::kFewA8, amx::gemm_a8, 0, 256,
      32, avx512::sparse_gemv_a8},
     {avx512::quantize_a16, avx512::gemv_a16, avx512::few_a16, avx512::kFewA16, amx::gemm_a16, 0,
      256, 16, avx512::sparse_gemv_a16}},
    avx512::read,
    "vmovdqa64 zmm",
    {int8_loop, kTileOps * 64 * kSums, "tdpbssd"},
    {avx512::fp32_loop, avx512::kFp32OpsPerIteration, "vfmadd231ps zmm"},
    &kAvx512StepOps,
    avx512::expand_sparse,
    avx2::dequantize,
};

const Peak kBf16PeakAmx = {bf16_loop, kTileOps * 32 * kSums, "tdpbf16ps"};

}  // namespace edgebench
