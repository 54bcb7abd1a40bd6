// From the words of layout T16x64 to the fragments of tensor cores: nine instructions a word, or
// six.
//
// A nibble put into the low mantissa bits of the half 1024 is the half 1024 + c, so that one
// subtraction leaves c - z, exactly. The upper nibble of a byte lands sixteen times higher, and
// fma(1024 + 16 c, 1/16, -(64 + z)) is c - z too. (Kim et al., "Who says elephants can't run",
// 2022, arXiv 2211.10017, for the constant 1024; both zero points folded in: own.)
#ifndef EDGEBENCH_CUDA_W4_TILE_CUH_
#define EDGEBENCH_CUDA_W4_TILE_CUH_

#include "../int4_format_cuda.h"
#include "prim.cuh"

// ---------------------------------------------------------------------------- places in the layout

// Bytes of a chunk: two tiles of the same rows, with their groups.
template <int kGroup>
EB_DEVICE constexpr int chunk_bytes() {
  using Block = t16x64::Block<kGroup>;
  return t16x64::kChunkInputs / t16x64::kInputs / Block::kTiles * sizeof(Block);
}
// Bytes of 16 rows of `tiles` tiles.
template <int kGroup>
EB_DEVICE constexpr int row_bytes(int tiles) {
  using Block = t16x64::Block<kGroup>;
  return tiles / Block::kTiles * static_cast<int>(sizeof(Block));
}
// Where tile 0 or 1 of a chunk has its codes, and group 0, 1, .. its scales.
template <int kGroup>
EB_DEVICE constexpr int codes_at(int tile) {
  using Block = t16x64::Block<kGroup>;
  return tile / Block::kTiles * sizeof(Block) + tile % Block::kTiles * t16x64::kCodeBytes;
}
template <int kGroup>
EB_DEVICE constexpr int group_at(int group) {
  using Block = t16x64::Block<kGroup>;
  return group / Block::kGroups * sizeof(Block) + Block::kTiles * t16x64::kCodeBytes +
         group % Block::kGroups * t16x64::kGroupBytes;
}
static_assert(codes_at<128>(1) == 512 && group_at<128>(0) == 1024, "codes, then groups");
static_assert(codes_at<32>(1) == 608 && group_at<32>(3) == 608 + 512 + 48, "tile by tile");

// ---------------------------------------------------------------------------------------- decoding

// The constants of one group for the lane's rows g and g + 8, as pairs of equal halves.
struct Zeros {
  u32 low;   // 1024 + z of row g
  u32 high;  // -(64 + z) of row g + 8
};

// `pair`: the two stored bytes {z of row g, 16 z of row g + 8}.
EB_DEVICE Zeros zeros_of(u32 pair) {
  return {permute_bytes(pair, 0xd4d46464, 0x4040), permute_bytes(pair, 0xd4d46464, 0x6161)};
}

// a = the A fragment (c - z) of one word: 16 rows x 16 inputs over the warp.
EB_DEVICE void decode(u32 word, Zeros zeros, u32* a) {
  const u32 upper = word >> 8;
  a[0] = half2_sub(lop3<kAndOr>(word, 0x000f000f, 0x64006400), zeros.low);
  a[1] = half2_fma(lop3<kAndOr>(word, 0x00f000f0, 0x64006400), 0x2c002c00, zeros.high);
  a[2] = half2_sub(lop3<kAndOr>(upper, 0x000f000f, 0x64006400), zeros.low);
  a[3] = half2_fma(lop3<kAndOr>(upper, 0x00f000f0, 0x64006400), 0x2c002c00, zeros.high);
}

// The same raised: 256 + c of row g, 16 + c of row g + 8, a shift and a mask each, six instructions
// a word. What was raised comes off the sums: sum (c - z) x = sum (256 + c) x - (256 + z) sum x.
EB_DEVICE void decode_raised(u32 word, u32* a) {
  const u32 up = word << 2, down = word >> 6;
  a[0] = lop3<kAndOr>(up, 0x003c003c, 0x5c005c00);
  a[1] = lop3<kAndOr>(up, 0x03c003c0, 0x4c004c00);
  a[2] = lop3<kAndOr>(down, 0x003c003c, 0x5c005c00);
  a[3] = lop3<kAndOr>(down, 0x03c003c0, 0x4c004c00);
}
// -(256 + z) and -(16 + z).
EB_DEVICE float lowered_low(Zeros zeros) { return 768.0f - low_half(zeros.low); }
EB_DEVICE float lowered_high(Zeros zeros) { return low_half(zeros.high) + 48.0f; }

// Where lane's row pair has its scales {row g, row g + 8} and its zero points in a group.
EB_DEVICE u32 scales_at(const u8* group, int g) { return *(const u32*)(group + 4 * g); }
EB_DEVICE u32 zeros_at(const u8* group, int g) {
  return *(const u16*)(group + t16x64::kScaleBytes + 2 * g);
}

// a *= the scales of its rows, rounded to fp16; `scales` = {row g, row g + 8}.
EB_DEVICE void scale_fragment(u32 scales, u32* a) {
  const u32 low = permute_bytes(scales, scales, 0x1010);
  const u32 high = permute_bytes(scales, scales, 0x3232);
  a[0] = half2_mul(a[0], low);
  a[1] = half2_mul(a[1], high);
  a[2] = half2_mul(a[2], low);
  a[3] = half2_mul(a[3], high);
}

// ----------------------------------------------------------------------------------------- copying

// Start copying a chunk (128 inputs of 16 rows) to shared memory, by one warp; to and from are the
// lane's own places, 16 bytes apart. Of the last chunk of a row, what lies past `bytes_left`, from
// the chunk's first byte to the row's last, becomes zeros: scale 0.
template <int kGroup>
EB_DEVICE void copy_chunk(u8* to, const u8* from, int bytes_left, bool go) {
  constexpr int kBytes = chunk_bytes<kGroup>();
  const int lane_at = 16 * lane_id();
#pragma unroll
  for (int at = 0; at < kBytes; at += 512) {
    const bool is_inside = at + 512 <= kBytes || lane_at < kBytes - at;
    const bool take = kGroup == 128 || at + lane_at < bytes_left;  // 128: whole chunks only
    copy_async(to + at, from + at, take, go && is_inside);
  }
}

#endif  // EDGEBENCH_CUDA_W4_TILE_CUH_
