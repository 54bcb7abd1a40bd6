// The canonical INT4 tensor to layout T16x64, on the device.
//
// Formula: int4_format_cuda.h, byte for byte what edgebench_kernels/cuda/layout.py packs.
//
// Arguments:
//   qweight   u8 [n, k / 2]         low nibble = even k
//   scale     fp16 [n, k / group]
//   zero      u8 [n, k / group]     0 .. 15
//   packed    u8 [ceil(n / 16), bytes of 16 rows]   16-byte aligned
//   n, k      s32                   k even, a multiple of group
//   group     s32                   as quantized: 32, 64, 128 or k
//   pair      s32                   distance of rows to interleave, 0 for none; 2 pair divides n
// Macros: EB_GROUP 32 64 128, the packed group: layout.py's kernel_group(k, group).
// Launch: grid (ceil(blocks along K / 8), ceil(n / 16)), 256 threads.
//
// Picture: a warp writes a block (1 or 2 tiles and their groups): lane l the 16 bytes that lane l
//   of a kernel will read, then lanes 0 .. 15 the scales and zero points of a row each.
// Roofline: once for each model; 1.05 bytes a weight, read byte by byte, which is good enough.
// Sources: own.
#include "w4_rows.cuh"
#include "w4_tile.cuh"

constexpr int kWarps = 8;

// The canonical tensor (edgebench_kernels/formats.py), rows interleaved at distance `pair`.
struct Canonical {
  const u8* qweight;  // [n, k / 2]
  const u16* scale;   // [n, k / group]
  const u8* zero;     // [n, k / group]
  int n, k, group, pair;

  // The group of input `input` in scale and zero, or -1 where there is none.
  EB_DEVICE s64 group_of(int row, int input) const {
    return row < n && input < k ? (s64)row * (k / group) + input / group : -1;
  }
};

// One word of a tile: rows of `lane`, inputs first, first + 1, first + 8, first + 9. Inputs past K
// take the zero point of the last group of their block that exists.
template <int kGroup>
EB_DEVICE u32 word_of(const Canonical& from, int tile_row, int g, int first) {
  u32 word = 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = source_row(tile_row, g + 8 * half, from.pair);
#pragma unroll
    for (int eight = 0; eight < 2; ++eight) {
      const int input = first + 8 * eight;
      u32 codes = 0;
      if (row < from.n && input < from.k) {
        codes = from.qweight[(s64)row * (from.k / 2) + input / 2];
      } else {
        const s64 group = from.group_of(row, input / kGroup * kGroup);
        if (group >= 0) codes = from.zero[group] * 0x11u;
      }
      word |= (codes & 15) << 4 * (half + 2 * eight) | codes >> 4 << 4 * (half + 2 * eight + 4);
    }
  }
  return word;
}

template <int kGroup>
EB_DEVICE void repack(const Canonical& from, u8* to) {
  using Block = t16x64::Block<kGroup>;
  const int lane = lane_id(), g = lane / 4, q = lane % 4;
  const int tiles = (from.k + t16x64::kInputs - 1) / t16x64::kInputs,
            blocks = tiles / Block::kTiles;
  const int index = block_x() * kWarps + warp_id();
  if (index >= blocks) return;
  Block* const block = (Block*)(to + (s64)block_y() * row_bytes<kGroup>(tiles)) + index;
  const int first = index * Block::kTiles * t16x64::kInputs;
#pragma unroll
  for (int i = 0; i < 4 * Block::kTiles; ++i) {
    block->codes[i / 4][lane][i % 4] = word_of<kGroup>(from, block_y(), g, first + 16 * i + 2 * q);
  }
  if (lane >= t16x64::kRows) return;
#pragma unroll
  for (int i = 0; i < Block::kGroups; ++i) {
    const int row = source_row(block_y(), lane, from.pair);
    const s64 group = from.group_of(row, first + i * kGroup);
    const u32 zero = group < 0 ? 0 : from.zero[group];
    block->groups[i].scale[lane % 8][lane / 8] = group < 0 ? 0 : from.scale[group];
    block->groups[i].zero[lane % 8][lane / 8] = (u8)(lane < 8 ? zero : zero << 4);
  }
}

EB_KERNEL(32 * kWarps, 1)
w4_repack(const u8* __restrict__ qweight, const u16* __restrict__ scale,
          const u8* __restrict__ zero, u8* __restrict__ packed, int n, int k, int group, int pair) {
  repack<EB_GROUP>({qweight, scale, zero, n, k, group, pair}, packed);
}
