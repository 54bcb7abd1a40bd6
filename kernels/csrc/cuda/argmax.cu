// The most likely token of each row, chosen on the device.
//
// Formula: ids[b] = the lowest v with logits[b, v] = max over v of logits[b, v]. NaN counts as the
//   largest of all, as in torch. A row whose largest logit is NaN or infinite gets kNotFinite.
//
// Arguments:
//   logits    fp16 [rows, n], with EB_FLOAT 1 fp32     16-byte aligned
//   ids       s64 [rows]
//   status    u32 [rows]          kNotFinite of status.cuh
//   best      u64 [rows]          zero before and after
//   counters  u32 [rows]          zero before and after
//   n         s32
// Macros: EB_FLOAT 0 1.
// Launch: grid (parts, rows), 256 threads, 64 bytes of shared memory; any number of parts serves.
//
// Picture: part p of P takes elements 8 (256 (p + P turn) + thread) .. + 7. Its candidates are
//   words of 64 bits, compared as integers:
//
//     bit 63                              32 31                               0
//        | logit, ordered as an unsigned int | ~index: a lower one wins a tie |
//
//   A block's largest is put into best[row] by an atomic max, whose result no order can change; the
//   last block to finish reads it.
// Roofline: 2 n or 4 n bytes a row, 256 KB for 128k tokens. Time: not measured alone.
// Sources: own.
#include "row.cuh"
#include "status.cuh"

constexpr int kWarps = 8;

// A word that is larger for a larger number; -0 and 0 are the same, NaN is the largest.
EB_DEVICE u32 ordered(float value) {
  const u32 bits = float_bits(value + 0.0f);
  if (magnitude(value) != magnitude(value)) return ~0u;
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
constexpr u32 kOrderedInfinity = 0xff800000u;
constexpr u32 kOrderedMinusInfinity = 0x007fffffu;

EB_DEVICE u64 candidate(float value, int index) { return (u64)ordered(value) << 32 | (u32)~index; }
EB_DEVICE u64 larger_of(u64 a, u64 b) { return a > b ? a : b; }

template <class Logit>
EB_DEVICE float logit_at(const Logit* row, int at) {
  if constexpr (sizeof(Logit) == 2) {
    return half_to_float(row[at]);
  } else {
    return row[at];
  }
}

// The largest candidate of this thread's elements; `row` is 16-byte aligned if `n` is whole eights.
template <class Logit>
EB_DEVICE u64 largest_of_part(const Logit* row, int n) {
  u64 best = 0;
  const int stride = kEight * threads() * blocks_x();
  for (int at = element_of(kEight * threads() * block_x(), 0); at < n; at += stride) {
    if (n % kEight == 0) {
      float v[kEight];
      load_eight(row + at, v);
#pragma unroll
      for (int i = 0; i < kEight; ++i) best = larger_of(best, candidate(v[i], at + i));
    } else {
      const int end = at + kEight < n ? at + kEight : n;
      for (int i = at; i < end; ++i) best = larger_of(best, candidate(logit_at(row, i), i));
    }
  }
  return best;
}

// The largest candidate of the block, in thread 0.
EB_DEVICE u64 largest_of_block(u64 best, u64* memory) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    const u32 low = shuffle_xor((u32)best, mask), high = shuffle_xor((u32)(best >> 32), mask);
    best = larger_of(best, (u64)high << 32 | low);
  }
  if (lane_id() == 0) memory[warp_id()] = best;
  barrier();
  best = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) best = larger_of(best, memory[warp]);
  return best;
}

template <class Logit>
EB_DEVICE void argmax_row(const Logit* logits, s64* ids, u32* status, u64* best, u32* counters,
                          int n) {
  EB_SHARED(memory);
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = block_y();
  const u64 mine = largest_of_block(largest_of_part(logits + (s64)row * n, n), (u64*)memory);
  if (thread_id() != 0) return;
  atomic_max(best + row, mine);
  if (atomic_add(counters + row, 1) != (u32)blocks_x() - 1) return;
  const u64 largest = atomic_max(best + row, 0);
  best[row] = 0;
  counters[row] = 0;
  ids[row] = (s64)(u32) ~(u32)largest;
  const u32 value = (u32)(largest >> 32);
  if (value >= kOrderedInfinity || value <= kOrderedMinusInfinity) status[row] |= kNotFinite;
}

// No __restrict__ on what the kernel before may still write when this one begins: the compiler
// would read it as if it never changed (ld.global.nc), through caches that keep what was there.
EB_KERNEL(32 * kWarps, 1)
argmax(const void* logits, s64* __restrict__ ids, u32* __restrict__ status, u64* __restrict__ best,
       u32* __restrict__ counters, int n) {
#if EB_FLOAT
  argmax_row((const float*)logits, ids, status, best, counters, n);
#else
  argmax_row((const u16*)logits, ids, status, best, counters, n);
#endif
}
