// The packed INT4 layout of GPU kernels, T16x64: one definition for every kernel that reads it.
//
// No standard header is included, so that NVRTC can read this file (int4_format.h is the CPUs').
// Weights [N, K] are cut in tiles of 16 output rows x 64 inputs; the tiles of the same 16 rows lie
// one behind the other along K, so that a warp reads ONE sequential stream:
//
//     tile(n0, k0)  tile(n0, k0+64)  tile(n0, k0+128) ...    tile(n0+16, k0) ...
//
// A tile's codes are 512 bytes: 16 for each of 32 lanes, which are 4 words of 32 bits, one for each
// step of 16 inputs. With g = lane / 4, q = lane % 4, j = word, k = k0 + 16 j + 2 q:
//
//     bit 31    28 27    24 23    20 19    16 15    12 11     8 7      4 3      0
//        +--------+--------+--------+--------+--------+--------+--------+--------+
//        | g+8    | g      | g+8    | g      | g+8    | g      | g+8    | g      |  row  n0 + ..
//        | k+9    | k+9    | k+1    | k+1    | k+8    | k+8    | k      | k      |  input
//        +--------+--------+--------+--------+--------+--------+--------+--------+
//           a[3].hi  a[2].hi  a[1].hi  a[0].hi  a[3].lo  a[2].lo  a[1].lo  a[0].lo
//
// which is the A fragment of mma.m16n8k16 (prim_warp.cuh), and of wgmma with A in registers:
//
//     word        & 0x000f000f -> a[0]: row g,   inputs k, k+1     one mask, one pair of halves
//     word        & 0x00f000f0 -> a[1]: row g+8, inputs k, k+1     (sixteen times too large)
//     (word >> 8) & 0x000f000f -> a[2]: row g,   inputs k+8, k+9
//     (word >> 8) & 0x00f000f0 -> a[3]: row g+8, inputs k+8, k+9
//     word        & 0x0f0f0f0f -> row g,   inputs k, k+8, k+1, k+9, one per byte, for int8 products
//     (word >> 4) & 0x0f0f0f0f -> row g+8, the same inputs
//
// The groups' scales and zero points follow the codes of their block; a block is one tile where the
// group G is 32 or 64, two tiles where it is 128:
//
//     G = 128:  | codes 512 | codes 512 | group 48 |                1072 bytes = 4.19 bit a weight
//     G = 64:   | codes 512 | group 48 |                             560 bytes = 4.38
//     G = 32:   | codes 512 | group 48 | group 48 |                  608 bytes = 4.75
//
//     group:    | scale[8] of {row g, row g+8} fp16 | zero[8] of {row g: z, row g+8: 16 z} u8 |
//
// The zero points are stored so that one byte permute each makes the fp16 constants of decoding:
// 0x6400 | z is 1024 + z, and 0xd400 | 16 z is -(64 + z). A group that spans all of K is repeated
// over blocks of 128 inputs (64 where K padded to 64 is no multiple of 128). Padding: rows past N
// and groups past K have scale 0 and zero 0; inputs past K hold their group's zero point, and meet
// activations that are 0. Both add exactly nothing. Rows may be interleaved in pairs of distance P
// when packed, so that one lane's accumulators hold both rows of a pair: rows 0..7 of a tile are
// the first of a pair and rows 8..15 the second,
//
//     packed row 16 t + r  <-  f = 8 t + r % 8,   source row  f / P * 2 P + f % P + (r < 8 ? 0 : P)
//
// gate and up of SwiGLU (P = half the rows), or i and i + D/2 of a head for RoPE (P = D/2). P = 0:
// none.
#ifndef EDGEBENCH_INT4_FORMAT_CUDA_H_
#define EDGEBENCH_INT4_FORMAT_CUDA_H_

namespace t16x64 {

constexpr int kRows = 16;          // output rows of a tile
constexpr int kInputs = 64;        // inputs of a tile
constexpr int kCodeBytes = 512;    // of a tile
constexpr int kChunkInputs = 128;  // what kernels read at a time: two tiles
constexpr int kScaleBytes = 32;    // of a group: 16 rows, fp16
constexpr int kGroupBytes = 48;    // scales and zero points

struct Group {
  unsigned short scale[8][2];
  unsigned char zero[8][2];
};

template <int kGroup>
struct Block {
  static constexpr int kTiles = kGroup == 128 ? 2 : 1;
  static constexpr int kGroups = kTiles * kInputs / kGroup;
  unsigned codes[kTiles][32][4];
  Group groups[kGroups];
};

static_assert(sizeof(Group) == kGroupBytes, "the packed layout is a file and kernel contract");
static_assert(sizeof(Block<128>) == 1072, "the packed layout is a file and kernel contract");
static_assert(sizeof(Block<64>) == 560, "the packed layout is a file and kernel contract");
static_assert(sizeof(Block<32>) == 608, "the packed layout is a file and kernel contract");

static_assert(sizeof(Block<128>) % 16 == 0 && sizeof(Block<64>) % 16 == 0 &&
                  sizeof(Block<32>) % 16 == 0,
              "every block starts where 16-byte copies may");

}  // namespace t16x64

#endif  // EDGEBENCH_INT4_FORMAT_CUDA_H_
