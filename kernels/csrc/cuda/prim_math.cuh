// Primitives of a GPU kernel, in inline PTX: half floats in pairs, bits, and fast functions.
#ifndef EDGEBENCH_CUDA_PRIM_MATH_CUH_
#define EDGEBENCH_CUDA_PRIM_MATH_CUH_

// Tables of `lop3`.
constexpr int kAndOr = 0xea;   // (a & b) | c
constexpr int kAndXor = 0x6a;  // (a & b) ^ c

#ifndef EB_EMULATE

// ------------------------------------------------------------------------------------- half floats

EB_DEVICE float half_to_float(u16 h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
EB_DEVICE u16 float_to_half(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
// Two floats rounded to a pair of halves.
EB_DEVICE u32 floats_to_half2(float low, float high) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
EB_DEVICE float low_half(u32 pair) { return half_to_float((u16)pair); }
EB_DEVICE float high_half(u32 pair) { return half_to_float((u16)(pair >> 16)); }
EB_DEVICE u32 half2_add(u32 a, u32 b) {
  u32 r;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
EB_DEVICE u32 half2_sub(u32 a, u32 b) {
  u32 r;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
EB_DEVICE u32 half2_mul(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
// a * b + c, rounded once.
EB_DEVICE u32 half2_fma(u32 a, u32 b, u32 c) {
  u32 r;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}

// -------------------------------------------------------------------------------------------- bits

// Any function of three bits: kTable's bit 4a + 2b + c is the result.
template <int kTable>
EB_DEVICE u32 lop3(u32 a, u32 b, u32 c) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(r) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return r;
}
// Byte i of the result is byte `selector` nibble i of the eight bytes b:a (a is bytes 0..3).
EB_DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) {
  u32 r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}
EB_DEVICE u32 float_bits(float f) { return __float_as_uint(f); }
EB_DEVICE float bits_float(u32 bits) { return __uint_as_float(bits); }
// c + the dot product of four signed bytes.
EB_DEVICE s32 dot_bytes(u32 a, u32 b, s32 c) {
  s32 r;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
// The nearest integer in -128..127, ties to even.
EB_DEVICE s32 float_to_s8(float f) {
  s32 r;
  asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(r) : "f"(f));
  return r;
}

// a * b + c, rounded once.
EB_DEVICE float multiply_add(float a, float b, float c) {
  float r;
  asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(r) : "f"(a), "f"(b), "f"(c));
  return r;
}

// --------------------------------------------------------------------------------- fast functions

// Relative error about 2^-22.
EB_DEVICE float exp2_fast(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
EB_DEVICE float reciprocal_fast(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
EB_DEVICE float rsqrt_fast(float x) {
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
// The larger (smaller); a NaN loses against a number.
EB_DEVICE float larger(float a, float b) {
  float r;
  asm("max.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
EB_DEVICE float smaller(float a, float b) {
  float r;
  asm("min.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
EB_DEVICE float magnitude(float x) { return __uint_as_float(__float_as_uint(x) & 0x7fffffffu); }

#endif  // EB_EMULATE

#endif  // EDGEBENCH_CUDA_PRIM_MATH_CUH_
