// Layout T16x64 to fp16 rows, for cuBLAS where many tokens make the weights' bytes cheap.
//
// Formula: y[n, k] = fp16(s[n, G] (c[n, k] - z[n, G])), rounded once: numpy's bits.
//
// Arguments:
//   w         u8, layout T16x64
//   y         fp16 [n, y_stride]    16-byte aligned; columns k .. up to a multiple of 8 become 0
//   n, k      s32                   of the weight matrix
//   pair      s32                   distance of interleaved rows; y has the weight matrix's order
//   y_stride  s32                   a multiple of 8, at least k
// Macros: EB_GROUP 32 64 128.
// Launch: grid (ceil(tiles along K / 8), ceil(n / 16)), 256 threads.
//
// Picture: a warp takes a tile of 16 rows x 64 inputs. Lane 4g + q does not take the 16 bytes that
//   it owns as a fragment, but gathers 8 inputs of a row, of which four lanes' words hold two each,
//   so that each store is 16 bytes of a row and no lane has to ask another one:
//
//     word j of lanes 4g, 4g+1, 4g+2, 4g+3  ->  their a[0]: inputs 16j   .. 16j+7  of row g
//                                               their a[2]: inputs 16j+8 .. 16j+15 of row g
//                                               their a[1] and a[3]: the same of row g + 8
//
//   Inputs 8q .. 8q+7 first, then those 32 further: lanes 4g .. 4g + 3 store 64 bytes of row g one
//   behind the other, whole sectors of the L2. Both lanes of a pair read the same words for it.
//
// Roofline: 2.52 bytes a weight, memory-bound: 28672 x 4096 in 69 us at 4300 GB/s (H200).
//   Time: not measured alone.
// Sources: own.
#include "w4_rows.cuh"
#include "w4_tile.cuh"

constexpr int kWarps = 8;

template <int kGroup>
EB_DEVICE void dequant(const u8* w, u16* y, int n, int k, int pair, int y_stride) {
  const int g = lane_id() / 4, q = lane_id() % 4;
  const int tiles = (k + t16x64::kInputs - 1) / t16x64::kInputs;
  const int tile = block_x() * kWarps + warp_id();
  if (tile >= tiles) return;
  const u8* const chunk =
      w + (s64)block_y() * row_bytes<kGroup>(tiles) + tile / 2 * chunk_bytes<kGroup>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int column = 32 * half + 8 * q;  // of the tile
    const u8* const tail = chunk + group_at<kGroup>((tile % 2 * t16x64::kInputs + column) / kGroup);
    const u32 scales = scales_at(tail, g);
    const Zeros zeros = zeros_of(zeros_at(tail, g));
    u32 a[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const u8* const from = chunk + codes_at<kGroup>(tile % 2) + 16 * (4 * g + i);
      decode(load_word(from + 4 * (column / 16)) >> column % 16, zeros, a[i]);
      scale_fragment(scales, a[i]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = source_row(block_y(), g + 8 * i, pair), first = tile * t16x64::kInputs;
      if (row < n && first + column < k) {
        store_quad(y + (s64)row * y_stride + first + column, {a[0][i], a[1][i], a[2][i], a[3][i]});
      }
    }
  }
}

EB_KERNEL(32 * kWarps, 1)
w4_dequant(const u8* __restrict__ w, u16* __restrict__ y, int n, int k, int pair, int y_stride) {
  dequant<EB_GROUP>(w, y, n, k, pair, y_stride);
}
