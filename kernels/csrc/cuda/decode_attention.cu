// Attention of one new token a row to all that the static cache holds, the context split over
// blocks; with EB_FUSED also the rotation and the append that come before it.
//
// Formula: out[b, h] = sum over t of softmax(q[b, h] . k[b, t] scale)[t] v[b, t], t from starts[b]
// to
//   columns[b], with the keys and values of head h / (heads / kv_heads). Scores, weights' sums and
//   outputs in fp32; weights and queries rounded to fp16 for the tensor cores; kv_cache.cuh for
//   RoPE and cells. A row whose column the cache does not have gets NaN.
//
// Arguments:
//   qkv        fp16 [rows, (heads + 2 kv_heads) EB_HEAD]   with EB_FUSED as the linear made it,
//   else
//                                                          rotated and appended by rope_append
//   cells      EB_BYTES 0: fp16, 1: s8, one layer          kv_cache.cuh; 16-byte aligned
//   scales     fp32, one layer                             null for fp16 cells
//   rotations  fp32 [length, 2, EB_HEAD / 2]               read with EB_FUSED
//   starts     s32 [max_batch]
//   columns    s32 [max_batch]                             where the new token is (EB_FUSED: goes)
//   out        fp16 [rows, heads EB_HEAD]                  8-byte aligned
//   workspace  fp32 [rows][grid y][splits][8][EB_HEAD + 4] 16-byte aligned, in any state; null if
//                                                          splits = 1
//   counters   u32 [rows][grid y]                          zero before and after; null if splits =
//   1 max_batch, heads, kv_heads, length  s32                length: columns of the cache scale
//   fp32                                        of scores: 1 / sqrt(EB_HEAD)
// Macros: EB_HEAD (16 .. 256, a multiple of 16), EB_BYTES 0 1, EB_FUSED 0 1, EB_WARPS,
//   EB_STAGES >= 2, EB_LEAST (tiles that each warp of a block has before a row gets another block).
// Launch: grid (splits, kv_heads ceil(heads / kv_heads / 8), rows), 32 EB_WARPS threads, shared
// bytes
//   as step_geometry.py's decode_attention(). With EB_FUSED and programmatic stream serialization
//   the kernel before must be the one that makes qkv: the cache is read before it has finished.
//
// Picture: a row's columns are cut in tiles of 16 from its first one; tiles go to blocks in
//   stretches of at least EB_LEAST EB_WARPS, so that short contexts take few blocks (merging blocks
//   costs a trip to memory or two) and the others leave at once; in a block they go round the
//   warps, each with a ring of EB_STAGES tiles of its own. With EB_LEAST 1 and EB_WARPS 4:
//
//     columns ->  start                                                     column (the new one)
//       | tile 0 | tile 1 | tile 2 | tile 3 | tile 4 | tile 5 | tile 6 | tile 7 | ti
//       | warp 0   warp 1   warp 2   warp 3 | warp 0   warp 1   warp 2   warp 3 | warp 0
//       |<------------ split 0 ------------>|<------------ split 1 ------------>|<- split 2
//
//   A tile in a warp: attention_tile.cuh. Warps' parts are merged in shared memory, blocks' by the
//   last one to finish, both in order (attention_merge.cuh).
//
// Roofline: 4 EB_HEAD bytes a column and key head (s8: 2 EB_HEAD + 8): Llama-3-8B at 4096 columns
//   16.8 MB a layer, 3.9 us at the 4300 GB/s of an H200. Below some hundred columns it is a launch.
//   Time: not measured alone.
// Idea: queries on the narrow side of the tensor cores; no barrier in the main loop; the newest
//   column never goes through global memory: its warp puts it into the tile, and into the cache.
// Sources: own; online softmax: Milakov and Gimelshein 2018, arXiv 1805.02867; split context:
//   Flash-Decoding (Dao et al., 2023).
#include "attention_merge.cuh"
#include "attention_tile.cuh"

// What a block works at.
template <int kHead, bool kBytes>
struct Work {
  Cache cache;
  const u16* qkv;  // the row's
  const float* rotations;
  int heads;
  int row = 0, kv_head = 0, query = 0, queries = 0;  // the block's first head, and how many
  int start = 0, column = 0;
  int first = 0, tiles = 0, all_tiles = 0;  // the block's stretch of the row's tiles
  int parts = 0;                            // blocks that have a stretch of this row

  EB_DEVICE int first_column(int tile) const { return start + kColumns * tile; }
  EB_DEVICE bool writes() const { return query % (heads / cache.kv_heads) == 0; }
};

EB_DEVICE int load_int_fresh(const s32* from) {
  return (int)float_bits(load_float_fresh((const float*)from));
}

// `least`: tiles that a stretch has, unless the row ends.
template <int kHead, bool kBytes>
EB_DEVICE Work<kHead, kBytes> work_of(const Cache& cache, const u16* qkv, const float* rotations,
                                      const s32* starts, const s32* columns, int heads, int least) {
  Work<kHead, kBytes> work{cache, qkv, rotations, heads};
  const int shared = heads / cache.kv_heads;  // heads that share keys
  const int groups = (shared + kQueries - 1) / kQueries;
  const int before = block_y() % groups * kQueries;
  work.row = block_z();
  work.qkv += (s64)work.row * (heads + 2 * cache.kv_heads) * kHead;
  work.kv_head = block_y() / groups;
  work.query = work.kv_head * shared + before;
  work.queries = shared - before < kQueries ? shared - before : kQueries;
  work.start = load_int_fresh(starts + work.row);
  work.column = load_int_fresh(columns + work.row);
  if (!cache.has(work.start, work.column)) return work;  // all_tiles = 0
  work.all_tiles = (work.column - work.start) / kColumns + 1;
  const int even = (work.all_tiles + blocks_x() - 1) / blocks_x();
  const int stretch = even > least ? even : least;
  work.parts = (work.all_tiles + stretch - 1) / stretch;
  work.first = block_x() * stretch;
  const int left = work.all_tiles - work.first;
  work.tiles = left < stretch ? left : stretch;
  return work;
}

// Starts the copies of a tile that this warp will take; nothing of it past `end` is read.
template <int kHead, bool kBytes>
EB_DEVICE void copy_tile(const Work<kHead, kBytes>& work, int tile, int end, u8* to) {
  using T = Tile<kHead, kBytes>;
  constexpr int kQuads = T::kRowBytes / 16;
  const int first = work.first_column(tile), lane = lane_id();
#pragma unroll
  for (int kind = 0; kind < 2; ++kind) {
    const s64 place = work.cache.place(kind, work.row, work.kv_head, first);
    const u8* const from = work.cache.cells + place * T::kRowBytes;
#pragma unroll
    for (int turn = 0; turn < (kColumns * kQuads + 31) / 32; ++turn) {
      const int quad = lane + 32 * turn, column = quad / kQuads;
      copy_async(to + kind * T::kValuesAt + column * T::kStride + quad % kQuads * 16,
                 from + 16 * quad, first + column < end, column < kColumns);
    }
  }
  if constexpr (kBytes) {
    const int column = first + lane % kColumns;
    const s64 place = work.cache.place(lane / kColumns, work.row, work.kv_head, column);
    copy_async_4(to + T::kScalesAt + 4 * lane, work.cache.scales + place, column < end);
  }
}

// The new token's key and value, into their place in the last tile and into the cache.
template <int kHead, bool kBytes>
EB_DEVICE void append_to_tile(const Work<kHead, kBytes>& work, u8* tile) {
  using T = Tile<kHead, kBytes>;
  const int place = (work.column - work.start) % kColumns;
#pragma unroll
  for (int kind = 0; kind < 2; ++kind) {
    Head<kHead> head;
    head.load(work.qkv + (work.heads + kind * work.cache.kv_heads + work.kv_head) * kHead);
    if (kind == 0) head.rotate(work.rotations, work.column - work.start);
    const Cells<kHead, kBytes> cells(head);
    cells.store(tile + kind * T::kValuesAt + place * T::kStride,
                (float*)(tile + T::kScalesAt) + kind * kColumns + place);
    if (work.writes())
      cells.append(work.cache, work.cache.place(kind, work.row, work.kv_head, work.column));
  }
  warp_barrier();
}

// The block's queries as fp16 rows, rotated if they are not; zeros where there are less than 8.
template <int kHead, bool kBytes, int kWarps, bool kFused>
EB_DEVICE void share_queries(const Work<kHead, kBytes>& work, u8* rows, int stride) {
  for (int query = warp_id(); query < kQueries; query += kWarps) {
    Head<kHead> head = {};
    if (query < work.queries) {
      head.load(work.qkv + (work.query + query) * kHead);
      if (kFused) head.rotate(work.rotations, work.column - work.start);
    }
    head.store((u16*)(rows + query * stride));
  }
}

// Four outputs of a query, divided by their sum, to `out`.
template <bool kBytes>
EB_DEVICE void store_four(const Merged& merged, u16* out) {
  const float by = 1.0f / (kBytes ? merged.sum * kCellLevels : merged.sum);
  const u32 low = floats_to_half2(merged.out[0] * by, merged.out[1] * by);
  const u32 high = floats_to_half2(merged.out[2] * by, merged.out[3] * by);
  *(u64*)out = (u64)high << 32 | low;
}

// The warps' parts in shared memory and, where the row has several blocks, theirs become outputs.
// `flag`: 4 bytes of shared memory.
template <int kHead, bool kBytes, int kWarps>
EB_DEVICE void finish(const Work<kHead, kBytes>& work, const float* shared, u16* out,
                      float* workspace, u32* counters, u32* flag) {
  constexpr int kRow = kHead + 4, kPart = kQueries * kRow, kFours = kHead / 4;
  const s64 block = (s64)work.row * blocks_y() + block_y();
  float* const parts = workspace + block * blocks_x() * kPart;
  for (int i = thread_id(); i < work.queries * kFours; i += threads()) {
    const int query = i / kFours, element = i % kFours * 4;
    const Merged merged = merge<kHead, false>(shared + query * kRow, element, kPart, kWarps);
    if (work.parts == 1) {
      store_four<kBytes>(merged, out + query * kHead + element);
      continue;
    }
    float* const to = parts + block_x() * kPart + query * kRow;
    publish_quad(to + element, {float_bits(merged.out[0]), float_bits(merged.out[1]),
                                float_bits(merged.out[2]), float_bits(merged.out[3])});
    if (element == 0)
      publish_quad(to + kHead, {float_bits(merged.peak), float_bits(merged.sum), 0, 0});
  }
  if (work.parts == 1) return;
  memory_fence();
  barrier();
  if (thread_id() == 0) *flag = atomic_add(counters + block, 1);
  barrier();
  if (*flag != (u32)work.parts - 1) return;
  memory_fence();
  if (thread_id() == 0) counters[block] = 0;
  for (int i = thread_id(); i < work.queries * kFours; i += threads()) {
    const int query = i / kFours, element = i % kFours * 4;
    const Merged merged = merge<kHead, true>(parts + query * kRow, element, kPart, work.parts);
    store_four<kBytes>(merged, out + query * kHead + element);
  }
}

template <int kHead, bool kBytes, bool kFused, int kWarps, int kStages>
EB_DEVICE void attend(const Work<kHead, kBytes>& work, u16* out, float* workspace, u32* counters,
                      float scale) {
  EB_SHARED(memory);
  using T = Tile<kHead, kBytes>;
  constexpr int kQueryStride = 2 * kHead + 16;
  static_assert(kStages * T::kSize >= kQueries * (kHead + 4) * 4, "parts lie where rings were");
  u8* const ring = memory + kQueries * kQueryStride + warp_id() * kStages * T::kSize;
  const int end = kFused ? work.column : work.column + 1;
  const int last = work.first + work.tiles;
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    const int tile = work.first + warp_id() + stage * kWarps;
    if (tile < last) copy_tile(work, tile, end, ring + stage * T::kSize);
    copy_commit();
  }
  if (kFused) grid_dependency_wait();
  share_queries<kHead, kBytes, kWarps, kFused>(work, memory, kQueryStride);
  barrier();
  Attention<kHead, kBytes> attention;
  load_queries<kHead, kBytes>(memory, kQueryStride, attention.queries);
  attention.begin();
  int slot = 0;
  for (int tile = work.first + warp_id(); tile < last; tile += kWarps) {
    copy_wait<kStages - 2>();
    warp_barrier();
    const int next = tile + (kStages - 1) * kWarps;
    const int free = slot == 0 ? kStages - 1 : slot - 1;
    if (next < last) copy_tile(work, next, end, ring + free * T::kSize);
    copy_commit();
    u8* const here = ring + slot * T::kSize;
    if (kFused && tile == work.all_tiles - 1) append_to_tile(work, here);
    attention.take(here, work.column + 1 - work.first_column(tile), scale * kLog2E);
    slot = slot == kStages - 1 ? 0 : slot + 1;
  }
  barrier();
  float* const shared = (float*)(memory + kQueries * kQueryStride);
  attention.share(shared + warp_id() * kQueries * (kHead + 4));
  barrier();
  finish<kHead, kBytes, kWarps>(work, shared, out, workspace, counters, (u32*)memory);
}

template <int kHead, bool kBytes, bool kFused, int kWarps, int kStages, int kLeast>
EB_DEVICE void attend_row(const Cache& cache, const u16* qkv, const float* rotations,
                          const s32* starts, const s32* columns, u16* out, float* workspace,
                          u32* counters, int heads, float scale) {
  grid_dependency_launch();
  if (!kFused) grid_dependency_wait();
  const auto work =
      work_of<kHead, kBytes>(cache, qkv, rotations, starts, columns, heads, kLeast * kWarps);
  out += ((s64)work.row * heads + work.query) * kHead;
  if (work.all_tiles == 0) {
    grid_dependency_wait();
    for (int i = thread_id(); block_x() == 0 && i < work.queries * kHead; i += threads())
      out[i] = 0x7fff;  // NaN
    return;
  }
  if (work.tiles <= 0) return;
  attend<kHead, kBytes, kFused, kWarps, kStages>(work, out, workspace, counters, scale);
}

// No __restrict__ on what the kernel before may still write when this one begins: the compiler
// would read it as if it never changed (ld.global.nc), through caches that keep what was there.
EB_KERNEL(32 * EB_WARPS, 1)
decode_attention(const u16* qkv, u8* cells, float* scales, const float* __restrict__ rotations,
                 const s32* __restrict__ starts, const s32* __restrict__ columns,
                 u16* __restrict__ out, float* __restrict__ workspace, u32* __restrict__ counters,
                 int max_batch, int heads, int kv_heads, int length, float scale) {
  attend_row<EB_HEAD, EB_BYTES != 0, EB_FUSED != 0, EB_WARPS, EB_STAGES, EB_LEAST>(
      {cells, scales, max_batch, kv_heads, length}, qkv, rotations, starts, columns, out, workspace,
      counters, heads, scale);
}
