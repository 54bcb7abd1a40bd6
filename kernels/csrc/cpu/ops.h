// What one instruction set offers: a table of plain functions, one translation unit per ISA and op.
//
// ISA translation units are compiled with their own flags and must include nothing but C headers,
// intrinsics and the headers of this folder: an inline function of the C++ library compiled with
// AVX-512 could be the copy that the linker keeps for every machine.
#ifndef EDGEBENCH_CPU_OPS_H_
#define EDGEBENCH_CPU_OPS_H_

#include <stddef.h>
#include <stdint.h>

#include "../int4_format.h"
#include "step_ops.h"

namespace edgebench {

// How activations become int8: a8 is one byte for each input; a16 is a 16-bit fixed-point value v
// cut in two bytes, v = 256 * high + low, which two byte dot products recombine exactly.
enum Family { kA8 = 0, kA16 = 1 };
constexpr int halves_of(Family family) { return family == kA16 ? 2 : 1; }
constexpr float kA8Levels = 127.0f;      // |q| <= 127
constexpr float kA16Levels = 32512.0f;   // 256 * 127: then high stays within +-127
constexpr float kSmallestPeak = 1e-30f;  // floor of a group's peak: keeps levels / peak finite

// One row of 64 outputs: `groups` blocks one behind the other.
struct BlockRow {
  const uint8_t* blocks;
  int groups;
  int inputs;    // B of each block
  int prefetch;  // how many bytes ahead one-token kernels prefetch; 0: the line they are about to
                 // load
};

// Quantized activations of `tokens` tokens, all groups.
//   bytes  [group][token][half][B]   high half first; each byte xored with `flip` (0 or 0x80)
//   scale  [group][token]            x ~ scale * v
//   sum    [group][token]            sum of v over the group
struct Activations {
  uint8_t* bytes;
  float* scale;
  int32_t* sum;
  int tokens;
};

// Quantizes one token's row x[k] into slot `token` of `out`, padding the last group with zeros.
using QuantizeFn = void (*)(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                            const Activations& out);

// One scale for all of a token's groups; the same on every instruction set (it is a small part of a
// product, and per-group scales are as fast and more exact).
void quantize_a8_per_token(const float* x, int64_t k, int inputs, int token, uint8_t flip,
                           const Activations& out);

// out[(t - first) * 64 + row] = the 64 outputs of tokens first <= t < last.
// scratch: kScratchBytes, 64-byte aligned, private to the thread. out: 64-byte aligned.
using LinearFn = void (*)(const BlockRow& weights, const Activations& x, int first, int last,
                          float* out, uint8_t* scratch);
constexpr size_t kScratchBytes = 20480;

// One row of 2:4 blocks (int4_sparse_format.h) to dense ones: groups * block_bytes(inputs) bytes.
using ExpandFn = void (*)(const uint8_t* sparse, int groups, int inputs, uint8_t* dense);
void expand_sparse(const uint8_t* sparse, int groups, int inputs, uint8_t* dense);

// What weights are dequantized to.
enum Number { kF32 = 0, kBf16 = 1 };

// The first `rows` of a row of dense blocks as numbers: y[rows][k].
using DequantizeFn = void (*)(const BlockRow& weights, int rows, int64_t k, Number number, void* y);
void dequantize(const BlockRow& weights, int rows, int64_t k, Number number, void* y);

struct FamilyOps {
  QuantizeFn quantize;
  LinearFn gemv;            // one token, straight from the nibbles; activations signed (flip 0)
  LinearFn few;             // 2..few_tokens tokens, straight from the nibbles; signed
  int few_tokens;           // 1 when `few` is absent
  LinearFn gemm;            // any number of tokens, weights of a group unpacked once
  uint8_t flip;             // what gemm wants its activation bytes xored with
  int most_tokens = 240;    // of one call of gemm: its fp32 tile [240][64] is 60 KB, well inside L2
  int token_multiple = 12;  // no token tile of gemm is cut by a chunk border
  // One token straight from 2:4 blocks; null: they are expanded, and `gemv` serves.
  LinearFn sparse_gemv = nullptr;
};

// A loop that does nothing but the arithmetic whose peak it measures.
struct Peak {
  void (*loop)(int64_t iterations);
  double ops_per_iteration;  // one multiply and one add count as two
  const char* instruction;
};

struct CpuOps {
  FamilyOps family[2];  // indexed by Family
  // Reads `size` bytes (a multiple of 4096, 64-byte aligned), prefetching `prefetch` bytes ahead.
  uint64_t (*read)(const uint8_t* bytes, size_t size, int prefetch);
  const char* read_instruction;
  Peak int8;
  Peak fp32;
  const StepOps* step = &kScalarStepOps;
  ExpandFn expand = expand_sparse;
  DequantizeFn dequantize = edgebench::dequantize;
};

extern const CpuOps kScalarOps;
#if defined(__x86_64__)
extern const CpuOps kAvx2Ops;
extern const CpuOps kAvx2VnniOps;
extern const CpuOps kAvx512VnniOps;
extern const CpuOps kAmxInt8Ops;
extern const Peak kBf16PeakAvx512;
extern const Peak kBf16PeakAmx;
#elif defined(__aarch64__)
extern const CpuOps kNeonOps;
extern const CpuOps kNeonDotprodOps;
extern const CpuOps kNeonI8mmOps;
#endif

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_OPS_H_
