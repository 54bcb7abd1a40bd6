// Small kernels of what prim_wgmma.cuh offers: what holds its emulation to account.
#include "../../../kernels/csrc/cuda/prim_wgmma.cuh"

// The 64 rows of 128 bytes at `b` to shared memory, swizzled, by 128 threads.
EB_DEVICE void copy_rows(u8* to, const u8* b) {
  for (int i = thread_id(); i < 64 * 8; i += threads()) {
    const int row = i / 8, unit = i % 8;
    copy_async(to + row * 128 + (unit ^ row % 8) * 16, b + i * 16);
  }
  copy_commit();
  copy_wait<0>();
  async_fence();
  barrier();
}

// The fragment of rows 16 w .. of warp w, 32 bytes from `at` on, of rows of 128 bytes.
EB_DEVICE void load_fragment(const u8* a, int at, u32* fragment) {
  const int row = warp_id() * 16 + lane_id() / 4;
  for (int i = 0; i < 4; ++i)
    fragment[i] = load_word(a + (row + i % 2 * 8) * 128 + at + i / 2 * 16 + lane_id() % 4 * 4);
}

// Row and token of element i of a lane's D.
EB_DEVICE int place_of(int i) {
  const int row = warp_id() * 16 + lane_id() / 4 + i % 4 / 2 * 8;
  return row * 64 + i / 4 * 8 + lane_id() % 4 * 2 + i % 2;
}

// All products so far, to d [64, 64].
template <class T>
EB_DEVICE void finish(T* sums, T* d) {
  wgmma_commit();
  wgmma_wait<0>();
  settle<32>(sums);
  for (int i = 0; i < 32; ++i) d[place_of(i)] = sums[i];
}

// d = a b + d. a: fp16 [64, 64], b: fp16 [64 tokens, 64], d: fp32 [64, 64].
EB_KERNEL(128, 1) toy_wgmma_f16(const u8* a, const u8* b, float* d) {
  EB_SHARED(memory);
  copy_rows(memory, b);
  float sums[32];
  u32 fragments[4][4];
  for (int i = 0; i < 32; ++i) sums[i] = d[place_of(i)];
  for (int step = 0; step < 4; ++step) load_fragment(a, 32 * step, fragments[step]);
  wgmma_fence();
  for (int step = 0; step < 4; ++step)
    wgmma_f16<64>(sums, fragments[step], matrix_descriptor(memory) + 2 * step, true);
  finish(sums, d);
}

// d = a b. a: s8 [64, 128], b: s8 [64 tokens, 128], d: s32 [64, 64].
EB_KERNEL(128, 1) toy_wgmma_s8(const u8* a, const u8* b, s32* d) {
  EB_SHARED(memory);
  copy_rows(memory, b);
  s32 sums[32];
  u32 fragments[4][4];
  for (int step = 0; step < 4; ++step) load_fragment(a, 32 * step, fragments[step]);
  wgmma_fence();
  for (int step = 0; step < 4; ++step)
    wgmma_s8<64>(sums, fragments[step], matrix_descriptor(memory) + 2 * step, step > 0);
  finish(sums, d);
}

// y = x, u32 [rounds, 32], handed from warp 0 to warp 1 through two slots of shared memory.
EB_KERNEL(64, 1) toy_arrivals(const u32* x, u32* y, int rounds) {
  EB_SHARED(memory);
  u32* const slots = (u32*)memory;
  u64* const full = (u64*)(memory + 256);
  u64* const empty = full + 2;
  if (thread_id() < 4) arrivals_init(full + thread_id(), 32);
  barrier();
  for (int i = 0; i < rounds; ++i) {
    const int slot = i % 2, at = 32 * slot + lane_id();
    const u32 parity = i / 2 % 2;
    if (warp_id() == 0) {
      wait_arrivals(empty + slot, parity ^ 1);
      slots[at ^ 1] = x[32 * i + (lane_id() ^ 1)];
      arrive(full + slot);
    } else {
      wait_arrivals(full + slot, parity);
      y[32 * i + lane_id()] = slots[at];
      arrive(empty + slot);
    }
  }
}
