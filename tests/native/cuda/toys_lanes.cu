// Toys of what one lane does: bits, half floats, fast functions, and the rarer ways to memory.
#include "../../../kernels/csrc/cuda/prim.cuh"

constexpr int kBitResults = 9;
constexpr int kFloatResults = 8;

// y[i] = what each primitive makes of a[i], b[i], c[i]; y: u32 [n, kBitResults].
EB_KERNEL(32, 1) toy_bits(const u32* a, const u32* b, const u32* c, u32* y) {
  const int i = block_x() * 32 + lane_id();
  const u32 results[kBitResults] = {
      lop3<kAndOr>(a[i], b[i], c[i]),
      lop3<kAndXor>(a[i], b[i], c[i]),
      permute_bytes(a[i], b[i], c[i]),
      (u32)dot_bytes(a[i], b[i], (s32)c[i]),
      half2_add(a[i], b[i]),
      half2_sub(a[i], b[i]),
      half2_mul(a[i], b[i]),
      half2_fma(a[i], b[i], c[i]),
      float_bits(low_half(a[i]) + high_half(b[i])),
  };
  for (int k = 0; k < kBitResults; ++k) y[i * kBitResults + k] = results[k];
}

// y[i] = what each primitive makes of a[i] and b[i]; y: fp32 [n, kFloatResults].
EB_KERNEL(32, 1) toy_floats(const float* a, const float* b, float* y) {
  const int i = block_x() * 32 + lane_id();
  const u32 pair = floats_to_half2(a[i], b[i]);
  const float results[kFloatResults] = {
      (float)float_to_s8(a[i]),
      exp2_fast(a[i]),
      reciprocal_fast(a[i]),
      rsqrt_fast(magnitude(a[i])),
      larger(a[i], b[i]),
      smaller(a[i], b[i]),
      low_half(pair) - high_half(pair),
      half_to_float(float_to_half(a[i])),
  };
  for (int k = 0; k < kFloatResults; ++k) y[i * kFloatResults + k] = results[k];
}

// Two warps hand 512 bytes over through a named barrier, read and written by every rarer way:
// y[i] = x[i ^ 1], fp16 [256]; odd: bit l is whether lane l's x is odd; most: u64, the largest x.
EB_KERNEL(64, 1) toy_memory(const u16* x, u16* y, u32* odd, u64* most) {
  EB_SHARED(memory);
  const int lane = lane_id();
  if (warp_id() == 0) {
    for (int i = 0; i < 4; ++i) copy_async_4(memory + 4 * (lane + 32 * i), x + 2 * (lane + 32 * i));
    copy_async(memory + 512, x, false, lane == 7);  // zeros, by one lane
    copy_commit();
    copy_wait<0>();
    barrier_named(3, 64);
    const u32 bits = ballot(load_short(x + lane) % 2 == 1);
    if (lane == 0) *odd = bits;
  } else {
    atomic_max(most, x[lane]);
    barrier_named(3, 64);
    Quad quad = *(const Quad*)(memory + 16 * lane);
    const Quad same = load_quad(x + 8 * lane);
    if (quad.x == same.x && quad.w == same.w && memory[512] == 0 && memory[527] == 0) {
      quad.x = permute_bytes(quad.x, 0, 0x1032);
      quad.y = permute_bytes(quad.y, 0, 0x1032);
      quad.z = permute_bytes(quad.z, 0, 0x1032);
      quad.w = permute_bytes(quad.w, 0, 0x1032);
      store_quad_once(y + 8 * lane, quad);
    }
  }
}
