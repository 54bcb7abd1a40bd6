// Token ids to rows of activations.
//
// Formula: x[m] = table[ids[m]]; an id outside the vocabulary makes a row of NaN, so that no number
//   after it can be taken for an answer.
//
// Arguments:
//   ids     s64 [m], with EB_WIDE 0 s32 [m]
//   table   fp16 [vocabulary, n]     16-byte aligned, n a multiple of 8
//   x       fp16 [m, n], with EB_FLOAT 1 fp32 [m, n]
//   status  u32 [m]                  kBadToken of status.cuh; may be null
//   n, vocabulary  s32
// Macros: EB_WIDE 0 1, EB_FLOAT 0 1.
// Launch: grid (m), 128 threads; any multiple of 32 serves.
//
// Picture: a block copies a row, 16 bytes of the table a thread and turn.
// Roofline: 4 n or 6 n bytes a token; nothing beside a layer. Time: not measured alone.
// Sources: own.
#include "row.cuh"
#include "status.cuh"

template <bool kWide, class Stream>
EB_DEVICE void embed_row(const void* ids, const u16* table, Stream* x, u32* status, int n,
                         int vocabulary) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = block_x();
  const s64 id = kWide ? ((const s64*)ids)[row] : ((const s32*)ids)[row];
  const bool is_token = id >= 0 && id < vocabulary;
  if (!is_token && status != nullptr && thread_id() == 0) status[row] |= kBadToken;
  for (int at = kEight * thread_id(); at < n; at += kEight * threads()) {
    const u32 poison = 0x7fff7fffu;  // NaN
    Quad quad = {poison, poison, poison, poison};
    if (is_token) quad = load_quad(table + id * n + at);
    float v[kEight];
    widen_eight(quad, v);
    store_eight(x + (s64)row * n + at, v);
  }
}

// No __restrict__ on what the kernel before may still write when this one begins: the compiler
// would read it as if it never changed (ld.global.nc), through caches that keep what was there.
EB_KERNEL(1024, 1)
embed(const void* ids, const u16* __restrict__ table, void* __restrict__ x, u32* status, int n,
      int vocabulary) {
#if EB_FLOAT
  embed_row<EB_WIDE != 0>(ids, table, (float*)x, status, n, vocabulary);
#else
  embed_row<EB_WIDE != 0>(ids, table, (u16*)x, status, n, vocabulary);
#endif
}
