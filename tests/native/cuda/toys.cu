// Small kernels that use one primitive each: what holds the emulator itself to account.
#include "../../../kernels/csrc/cuda/prim.cuh"

// y = x reversed in blocks of the block's size, through shared memory by cp.async. x: u32.
EB_KERNEL(128, 1) toy_reverse(const u32* x, u32* y) {
  EB_SHARED(memory);
  const int count = threads(), first = block_x() * count;
  if (thread_id() < count / 4) {
    copy_async((u32*)memory + 4 * thread_id(), x + first + 4 * thread_id());
  }
  copy_commit();
  copy_wait<0>();
  barrier();
  y[first + thread_id()] = ((u32*)memory)[count - 1 - thread_id()];
}

// d = a b + c by one warp. a: fp16 [16, 16], b: fp16 [8, 16] (columns are rows), c, d: fp32 [16,
// 8].
EB_KERNEL(32, 1) toy_mma_f16(const u16* a, const u16* b, const float* c, float* d) {
  EB_SHARED(memory);
  const int lane = lane_id(), g = lane / 4, q = lane % 4;
  copy_async(memory + 16 * lane, a + 8 * lane);
  if (lane < 16) copy_async(memory + 512 + 16 * lane, b + 8 * lane);
  copy_commit();
  copy_wait<0>();
  warp_barrier();
  u32 fa[4], fb[2];
  load_matrix_x4(fa, memory + lane % 16 * 32 + lane / 16 * 16);
  load_matrix_x2(fb, memory + 512 + lane % 8 * 32 + lane / 8 % 2 * 16);
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = c[(g + i / 2 * 8) * 8 + 2 * q + i % 2];
  mma_f16(sum, fa, fb[0], fb[1]);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = sum[i];
}

// d = a b on bytes. a: s8 [16, 32], b: s8 [8, 32] (columns are rows), d: s32 [16, 8].
EB_KERNEL(32, 1) toy_mma_s8(const s8* a, const s8* b, s32* d) {
  const int g = lane_id() / 4, q = lane_id() % 4;
  u32 fa[4], fb[2];
  for (int i = 0; i < 4; ++i) fa[i] = load_word(a + (g + i % 2 * 8) * 32 + 4 * q + i / 2 * 16);
  for (int i = 0; i < 2; ++i) fb[i] = load_word(b + g * 32 + 4 * q + i * 16);
  s32 sum[4] = {0, 0, 0, 0};
  mma_s8(sum, fa, fb[0], fb[1]);
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = sum[i];
}

// y = the transpose of x, fp16 [16, 16], by one ldmatrix.
EB_KERNEL(32, 1) toy_transpose(const u16* x, u16* y) {
  EB_SHARED(memory);
  const int lane = lane_id(), g = lane / 4, q = lane % 4;
  *(Quad*)(memory + 16 * lane) = load_quad(x + 8 * lane);
  warp_barrier();
  u32 r[4];
  load_matrix_x4_transposed(r, memory + lane % 16 * 32 + lane / 16 * 16);
  // Matrix i = rows 8 (i % 2).., columns 8 (i / 2)..
  for (int i = 0; i < 4; ++i) {
    u16* const to = y + (g + i / 2 * 8) * 16 + 2 * q + i % 2 * 8;
    to[0] = (u16)r[i];
    to[1] = (u16)(r[i] >> 16);
  }
}

// y = the transpose of x, fp16 [8, 8], by one movmatrix.
EB_KERNEL(32, 1) toy_movmatrix(const u16* x, u16* y) {
  const int at = lane_id() / 4 * 8 + lane_id() % 4 * 2;
  const u32 pair = transpose_matrix(load_word(x + at));
  y[at] = (u16)pair;
  y[at + 1] = (u16)(pair >> 16);
}

// The sum of x over all blocks: the last block to finish adds the blocks' parts in order. x: fp32,
// parts: fp32 [blocks, 4].
EB_KERNEL(32, 1) toy_sum(const float* x, float* parts, u32* finished, float* sum) {
  float part = x[block_x() * 32 + lane_id()];
  for (int mask = 16; mask > 0; mask /= 2) part += shuffle_xor(part, mask);
  u32 before = 0;
  if (lane_id() == 0) {
    publish_quad(parts + 4 * block_x(), {float_bits(part), 0, 0, 0});
    memory_fence();
    before = atomic_add(finished, 1);
  }
  if (shuffle(before, 0) != (u32)blocks_x() - 1) return;
  if (lane_id() == 0) {
    float total = 0;
    for (int i = 0; i < blocks_x(); ++i) total += load_float_fresh(parts + 4 * i);
    *sum = total;
  }
}
