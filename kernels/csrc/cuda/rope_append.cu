// Rotates the queries and keys of new tokens, and appends keys and values to the static cache.
//
// Formula: kv_cache.cuh. qkv is overwritten: its queries and keys come out rotated, rounded to
//   fp16; s8 cells are made of the keys before that rounding. A token whose column the cache does
//   not have is left as it is and appended nowhere.
//
// Arguments:
//   qkv        fp16 [m, (heads + 2 kv_heads) EB_HEAD]     queries, keys, values; 4-byte aligned
//   cells      EB_BYTES 0: fp16, 1: s8, one layer         kv_cache.cuh
//   scales     fp32, one layer                            null for fp16 cells
//   rotations  fp32 [length, 2, EB_HEAD / 2]
//   starts     s32 [batch]
//   rows       s32 [m]          the row of the batch of each token; null: token i is of row i
//   columns    s32 [m]          the column of each token
//   max_batch, heads, kv_heads, length  s32
// Macros: EB_HEAD (a multiple of 16), EB_BYTES 0 1.
// Launch: grid (m, ceil((heads + 2 kv_heads) / 4)), 128 threads, no shared memory.
//
// Picture: a warp takes one head of one token (kv_cache.cuh).
// Roofline: 4 to 8 bytes an element of qkv: a launch at m = 1. Time: not measured alone.
// Sources: own; formula: Su et al. 2021, arXiv 2104.09864.
#include "kv_cache.cuh"

constexpr int kWarps = 4;

template <int kHead, bool kBytes>
EB_DEVICE void rope_append_head(u16* qkv, const Cache& cache, const float* rotations,
                                const s32* starts, const s32* rows, const s32* columns, int heads) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int token = block_x(), all = heads + 2 * cache.kv_heads;
  const int index = block_y() * kWarps + warp_id();
  if (index >= all) return;
  const int row = rows == nullptr ? token : rows[token];
  const int column = columns[token], start = starts[row];
  if (!cache.has(start, column)) return;
  u16* const at = qkv + ((s64)token * all + index) * kHead;
  Head<kHead> head;
  head.load(at);
  if (index < heads + cache.kv_heads) {
    head.rotate(rotations, column - start);
    head.store(at);
  }
  if (index < heads) return;
  const int kind = (index - heads) / cache.kv_heads, kv_head = (index - heads) % cache.kv_heads;
  const Cells<kHead, kBytes> cells(head);
  cells.append(cache, cache.place(kind, row, kv_head, column));
}

// No __restrict__ on what the kernel before may still write when this one begins: the compiler
// would read it as if it never changed (ld.global.nc), through caches that keep what was there.
EB_KERNEL(32 * kWarps, 1)
rope_append(u16* qkv, u8* __restrict__ cells, float* __restrict__ scales,
            const float* __restrict__ rotations, const s32* __restrict__ starts,
            const s32* __restrict__ rows, const s32* __restrict__ columns, int max_batch, int heads,
            int kv_heads, int length) {
  const Cache cache{cells, scales, max_batch, kv_heads, length};
  rope_append_head<EB_HEAD, EB_BYTES != 0>(qkv, cache, rotations, starts, rows, columns, heads);
}
