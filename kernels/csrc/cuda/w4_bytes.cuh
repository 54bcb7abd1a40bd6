// From the words of layout T16x64 to signed bytes c - z for integer tensor cores: six instructions
// a word.
//
// word & 0x0f0f0f0f are the codes of row g, inputs k, k+8, k+1, k+9, one per byte; those of row g+8
// are the upper nibbles. With 0x80 - z added a byte is 0x80 + (c - z), between 0x71 and 0x8f, so
// that no byte borrows from another one; flipping its top bit leaves the signed byte c - z.
//
// A step of 32 inputs, two words, is the A fragment of mma.m16n8k32 and of wgmma.m64nNk32, if
// activations lie in memory in the same order:
//
//     byte      0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15    of each 16 inputs
//     input     0  8  1  9  2 10  3 11  4 12  5 13  6 14  7 15
//
// (Masked nibbles that are moved into the range of signed bytes: as Zhang et al., LiquidGEMM, arXiv
// 2509.01229, and Lin et al., QServe, arXiv 2405.04532, do with scales; zero points alone: own.)
#ifndef EDGEBENCH_CUDA_W4_BYTES_CUH_
#define EDGEBENCH_CUDA_W4_BYTES_CUH_

#include "w4_tile.cuh"

// What is added to the codes of one group: 0x80 - z in each byte, of rows g and g + 8.
struct ByteZeros {
  u32 low, high;
};

// `pair`: the two stored bytes {z of row g, 16 z of row g + 8}.
EB_DEVICE ByteZeros byte_zeros_of(u32 pair) {
  return {0x80808080 - permute_bytes(pair, 0, 0x0000),
          0x80808080 - (permute_bytes(pair, 0, 0x1111) >> 4)};
}

// a = the A fragment (c - z) of two words: 16 rows x 32 inputs over the warp.
EB_DEVICE void decode_bytes(u32 first, u32 second, ByteZeros zeros, u32* a) {
  a[0] = ((first & 0x0f0f0f0f) + zeros.low) ^ 0x80808080;
  a[1] = (((first & 0xf0f0f0f0) >> 4) + zeros.high) ^ 0x80808080;
  a[2] = ((second & 0x0f0f0f0f) + zeros.low) ^ 0x80808080;
  a[3] = (((second & 0xf0f0f0f0) >> 4) + zeros.high) ^ 0x80808080;
}

// Steps first .. first + kCount - 1 of a chunk's four, with the zero points of the first one's
// group. `tile`: the chunk's first byte in shared memory.
template <int kGroup, int kCount>
EB_DEVICE void decode_steps(const u8* tile, int first, u32 (*a)[4]) {
  const int group = first * 32 / kGroup;
  const ByteZeros zeros = byte_zeros_of(zeros_at(tile + group_at<kGroup>(group), lane_id() / 4));
#pragma unroll
  for (int step = 0; step < kCount; ++step) {
    const int pair = first + step;  // of words
    const u64 words =
        *(const u64*)(tile + codes_at<kGroup>(pair / 2) + 16 * lane_id() + pair % 2 * 8);
    decode_bytes((u32)words, (u32)(words >> 32), zeros, a[step]);
  }
}

// All steps of the group `group` of a chunk.
template <int kGroup>
EB_DEVICE void decode_group(const u8* tile, int group, u32 (*a)[4]) {
  decode_steps<kGroup, kGroup / 32>(tile, group * (kGroup / 32), a);
}

#endif  // EDGEBENCH_CUDA_W4_BYTES_CUH_
