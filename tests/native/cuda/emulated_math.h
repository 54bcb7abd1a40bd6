// prim_math.cuh on the host: half floats by the compiler's _Float16, which rounds to nearest even.
#ifndef EDGEBENCH_TESTS_EMULATED_MATH_H_
#define EDGEBENCH_TESTS_EMULATED_MATH_H_

inline _Float16 half_of(u32 bits) {
  const u16 low = static_cast<u16>(bits);
  _Float16 h;
  memcpy(&h, &low, 2);
  return h;
}
inline u16 bits_of(_Float16 h) {
  u16 bits;
  memcpy(&bits, &h, 2);
  return bits;
}
inline u32 pair_of(_Float16 low, _Float16 high) {
  return bits_of(low) | static_cast<u32>(bits_of(high)) << 16;
}
inline float half_to_float(u16 h) { return static_cast<float>(half_of(h)); }
inline u16 float_to_half(float f) { return bits_of(static_cast<_Float16>(f)); }
inline u32 floats_to_half2(float low, float high) {
  return pair_of(static_cast<_Float16>(low), static_cast<_Float16>(high));
}
inline float low_half(u32 pair) { return half_to_float(static_cast<u16>(pair)); }
inline float high_half(u32 pair) { return half_to_float(static_cast<u16>(pair >> 16)); }
inline u32 half2_add(u32 a, u32 b) {
  return pair_of(half_of(a) + half_of(b), half_of(a >> 16) + half_of(b >> 16));
}
inline u32 half2_sub(u32 a, u32 b) {
  return pair_of(half_of(a) - half_of(b), half_of(a >> 16) - half_of(b >> 16));
}
inline u32 half2_mul(u32 a, u32 b) {
  return pair_of(half_of(a) * half_of(b), half_of(a >> 16) * half_of(b >> 16));
}
inline _Float16 half_fma(_Float16 a, _Float16 b, _Float16 c) {
  return static_cast<_Float16>(static_cast<double>(a) * static_cast<double>(b) +
                               static_cast<double>(c));
}
inline u32 half2_fma(u32 a, u32 b, u32 c) {
  return pair_of(half_fma(half_of(a), half_of(b), half_of(c)),
                 half_fma(half_of(a >> 16), half_of(b >> 16), half_of(c >> 16)));
}

template <int kTable>
inline u32 lop3(u32 a, u32 b, u32 c) {
  u32 r = 0;
  for (int i = 0; i < 8; ++i) {
    if (kTable >> i & 1) r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  }
  return r;
}
inline u32 permute_bytes(u32 a, u32 b, u32 selector) {
  const u64 bytes = static_cast<u64>(b) << 32 | a;
  u32 r = 0;
  for (int i = 0; i < 4; ++i) {
    const u32 nibble = selector >> (4 * i) & 15;
    u32 byte = static_cast<u32>(bytes >> (8 * (nibble & 7))) & 0xff;
    if (nibble & 8) byte = byte & 0x80 ? 0xff : 0;  // prmt's sign mode
    r |= byte << (8 * i);
  }
  return r;
}
inline u32 float_bits(float f) {
  u32 bits;
  memcpy(&bits, &f, 4);
  return bits;
}
inline float bits_float(u32 bits) {
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
inline s32 dot_bytes(u32 a, u32 b, s32 c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<s8>(a >> i) * static_cast<s8>(b >> i);
  return c;
}
inline s32 float_to_s8(float f) {
  if (std::isnan(f)) return 0;
  return static_cast<s32>(std::nearbyint(std::fmin(std::fmax(f, -128.0f), 127.0f)));
}
inline float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal_fast(float x) { return 1.0f / x; }
inline float rsqrt_fast(float x) { return 1.0f / std::sqrt(x); }
inline float larger(float a, float b) { return std::fmax(a, b); }
inline float smaller(float a, float b) { return std::fmin(a, b); }
inline float magnitude(float x) { return std::fabs(x); }

#endif  // EDGEBENCH_TESTS_EMULATED_MATH_H_
