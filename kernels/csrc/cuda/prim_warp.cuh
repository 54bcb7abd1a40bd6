// Primitives of a GPU kernel, in inline PTX: what the 32 lanes of a warp do together.
//
// Every lane must call, at the same place of the program. With g = lane / 4 and q = lane % 4, the
// fragments of `mma` (PTX ISA, "Matrix fragments for mma.m16n8k16" and "m16n8k32"):
//
//     fp16  A[16][16]  a[0] = (g, 2q..2q+1)  a[1] = (g+8, ..)  a[2] = (g, 2q+8..)  a[3] = (g+8,
//     2q+8..)
//           B[16][8]   b0   = (2q..2q+1, g)  b1 = (2q+8.., g)
//     s8    A[16][32]  a[0] = (g, 4q..4q+3)  a[1] = (g+8, ..)  a[2] = (g, 4q+16..)  a[3] = (g+8,
//     ..)
//           B[32][8]   b0   = (4q..4q+3, g)  b1 = (4q+16.., g)
//     both  C[16][8]   c[0] = (g, 2q)  c[1] = (g, 2q+1)  c[2] = (g+8, 2q)  c[3] = (g+8, 2q+1)
#ifndef EDGEBENCH_CUDA_PRIM_WARP_CUH_
#define EDGEBENCH_CUDA_PRIM_WARP_CUH_

#ifndef EB_EMULATE

// ------------------------------------------------------------------------------------ tensor cores

// C += A * B; products exact, sums in fp32.
EB_DEVICE void mma_f16(float* c, const u32* a, u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// C += A * B on signed bytes, exact.
EB_DEVICE void mma_s8(s32* c, const u32* a, u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// C = start + A * B.
EB_DEVICE void mma_s8_from(s32 start, s32* c, const u32* a, u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
      : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(start));
}

// -------------------------------------------------------------------------------------- fragments

// 8x8 matrices of halves from shared memory: lanes 8i..8i+7 give the addresses of matrix i's rows
// (16 bytes each, 16-byte aligned); r[i] of lane 4g + q = row g, halves 2q and 2q+1 of matrix i.
EB_DEVICE void load_matrix_x4(u32* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
EB_DEVICE void load_matrix_x2(u32* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
// The same, each matrix transposed: r[i] of lane 4g + q = rows 2q and 2q+1, half g.
EB_DEVICE void load_matrix_x4_transposed(u32* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
EB_DEVICE void load_matrix_x2_transposed(u32* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// The 8x8 matrix of halves of which lane 4g + q holds row g, halves 2q and 2q+1, transposed.
EB_DEVICE u32 transpose_matrix(u32 pair) {
  u32 r;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(pair));
  return r;
}

// ---------------------------------------------------------------------------------------- shuffles

// The value of lane `from`.
EB_DEVICE u32 shuffle(u32 value, int from) {
  u32 r;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(value), "r"(from));
  return r;
}
// The value of lane (own ^ mask).
EB_DEVICE u32 shuffle_xor(u32 value, int mask) {
  u32 r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;"
               : "=r"(r)
               : "r"(value), "r"(mask));
  return r;
}
EB_DEVICE float shuffle(float value, int from) {
  return __uint_as_float(shuffle(__float_as_uint(value), from));
}
EB_DEVICE float shuffle_xor(float value, int mask) {
  return __uint_as_float(shuffle_xor(__float_as_uint(value), mask));
}
// Bit l: whether lane l's `fact` is true.
EB_DEVICE u32 ballot(bool fact) {
  u32 r;
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %1, 0; vote.sync.ballot.b32 %0, p, 0xffffffff; }"
               : "=r"(r)
               : "r"((u32)fact));
  return r;
}

#endif  // EB_EMULATE

#endif  // EDGEBENCH_CUDA_PRIM_WARP_CUH_
