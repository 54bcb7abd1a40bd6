// The int8 activations' way into shared memory, with their scales: rows of 128 bytes, one for each
// token, of which 16-byte unit u of row t lies at u ^ t % 8: ldmatrix meets every bank once, and it
// is the 128-byte swizzle that wgmma reads (prim_wgmma.cuh).
//
//     stage: | kTokens x 128 codes | kWeightBytes of weights | kScales scales, fp32 |
//
// kScales: of kGroups x kTokens, or 0 where the kernel does not read them there.
#ifndef EDGEBENCH_CUDA_A8_READER_CUH_
#define EDGEBENCH_CUDA_A8_READER_CUH_

#include "../int4_format_cuda.h"
#include "prim.cuh"

// Where the block's copies of codes and their scales read.
template <class S>
struct CodeReader {
  static constexpr u32 kUnits = t16x64::kChunkInputs / 16;  // of a row of codes
  static constexpr u32 kThreads = 32 * S::kWarps, kRowsAtOnce = kThreads / kUnits;
  static_assert(kRowsAtOnce % 8 == 0, "a thread's rows have one swizzle");

  const s8* q;
  const float* sx;
  u32 at;      // the thread's place in its first token's row, in 16 bytes: a register less
  int tokens;  // of the block that exist
  int m, k;

  // Chunk `chunk` to a stage, if `go`.
  EB_DEVICE void copy(u8* stage, int chunk, bool go) const {
    const u32 thread = thread_id(), row = thread / kUnits, unit = thread % kUnits;
    const int count = go ? tokens : 0, inputs_left = k - chunk * t16x64::kChunkInputs;
    u8* const to = stage + row * t16x64::kChunkInputs + (unit ^ row % 8) * 16;
    const s8* from = q + (u64)(at + chunk * kUnits) * 16;
#pragma unroll
    for (int i = 0; i < S::kTokens; i += kRowsAtOnce) {
      copy_async(to + i * t16x64::kChunkInputs, from, 16 * (int)unit < inputs_left,
                 i < count - (int)row);
      from += kRowsAtOnce * k;
    }
    float* const scales = (float*)(stage + S::kCodeBytes + S::kWeightBytes);
#pragma unroll
    for (u32 i = 0; i < S::kScales; i += kThreads) {
      const u32 place = i + thread, token = place % S::kTokens, group = place / S::kTokens;
      const u32 first = S::kTokenScale ? 0 : (chunk * S::kGroups + group) * m;
      const bool take = S::kTokenScale || (int)(group * S::kGroup) < inputs_left;
      if (place < S::kScales && (int)token < count)
        copy_async_4(scales + place, sx + (first + block_x() * S::kTokens + token), take);
    }
    copy_commit();
  }
};

template <class S>
EB_DEVICE CodeReader<S> code_reader(const s8* q, const float* sx, int m, int k) {
  using R = CodeReader<S>;
  const u32 thread = thread_id();
  const int first = block_x() * S::kTokens, token = first + thread / R::kUnits, left = m - first;
  return {q, sx, (u32)token * (k / 16) + thread % R::kUnits, left < S::kTokens ? left : S::kTokens,
          m, k};
}

#endif  // EDGEBENCH_CUDA_A8_READER_CUH_
