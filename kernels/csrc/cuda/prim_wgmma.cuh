// Products of a warp group (wgmma) and what orders them, in inline PTX: sm_90a only.
//
// D[64 rows][tokens] (+)= A[64][k] B[k][tokens] by 128 threads, warps 4 i .. 4 i + 3. Warp w of
// them has rows 16 w .. 16 w + 15: its A and D are fragments of mma (prim_warp.cuh), k = 16 halfs
// or 32 bytes,
//
//     d[4 e + i] = c[i] of tokens 8 e .. 8 e + 7
//
// and B is read from shared memory, where every token is a row of 128 bytes, of which a step takes
// 32:
//
//     token t, 16-byte unit u of its row:   first byte + 128 t + 16 (u ^ t % 8)
//
// (PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate": K-major, 128-byte swizzle.)
// Products are asynchronous: a kernel
//
//     1. writes A, zeroes or reads D          then wgmma_fence()
//     2. issues products                      then wgmma_commit()
//     3. touches neither A nor D nor B until  wgmma_wait<..>(), then settle(d)
//
// B is read by another path than a thread's own loads and stores: whoever has written it (cp.async,
// after copy_wait) calls async_fence() before the barrier behind which products read it.
#ifndef EDGEBENCH_CUDA_PRIM_WGMMA_CUH_
#define EDGEBENCH_CUDA_PRIM_WGMMA_CUH_

#include "prim.cuh"

// The descriptor of the rows at `at`, 1024-byte aligned (a step further: + 2 for each 32 bytes).
//   bits 0..13 address / 16, 16..29 unused with this swizzle, 32..45 bytes between 8 rows / 16,
//   62..63 swizzle: 1 = 128 bytes
EB_DEVICE u64 matrix_descriptor(const void* at) {
  return (u64)1 << 62 | (u64)(1024 / 16) << 32 | (u64)1 << 16 | shared_address(at) >> 4;
}

#ifndef EB_EMULATE

// ------------------------------------------------------------------------------------------- order

EB_DEVICE void async_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
EB_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
EB_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most `kPending` groups are under way.
template <int kPending>
EB_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// What is read of d behind this is read behind the wait before it.
template <int kCount>
EB_DEVICE void settle(float* d) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i]));
}
template <int kCount>
EB_DEVICE void settle(s32* d) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i]));
}

// Registers of a thread, by all threads of a warp group: fewer, so that another one may have more.
template <int kCount>
EB_DEVICE void registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
EB_DEVICE void registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// ---------------------------------------------------------------------------------------- arrivals

// A barrier in shared memory (8 bytes) at which arriving and waiting are two things. A phase ends
// when `count` threads have arrived; then the next one begins.
EB_DEVICE void arrivals_init(u64* at, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(at)), "r"(count)
               : "memory");
}
EB_DEVICE void arrive(u64* at) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(at)) : "memory");
}
// Until the phase of this parity is over: 0 for the first, third, .. phase, 1 for the others.
EB_DEVICE void wait_arrivals(u64* at, u32 parity) {
  u32 is_over;
  do {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
        "selp.u32 %0, 1, 0, p; }"
        : "=r"(is_over)
        : "r"(shared_address(at)), "r"(parity)
        : "memory");
  } while (!is_over);
}

// ---------------------------------------------------------------------------------------- products

#define EB_LIST_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define EB_LIST_16 EB_LIST_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define EB_LIST_32 \
  EB_LIST_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define EB_LIST_64                                                                        \
  EB_LIST_32                                                                              \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48" \
  ", %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define EB_LIST_128                                                                          \
  EB_LIST_64                                                                                 \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80"    \
  ", %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97"    \
  ", %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112" \
  ", %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126"     \
  ", %127"
#define EB_OUT_8(kind, d, i)                                                                  \
  kind(d[i]), kind(d[i + 1]), kind(d[i + 2]), kind(d[i + 3]), kind(d[i + 4]), kind(d[i + 5]), \
      kind(d[i + 6]), kind(d[i + 7])
#define EB_OUT_16(kind, d, i) EB_OUT_8(kind, d, i), EB_OUT_8(kind, d, i + 8)
#define EB_OUT_32(kind, d, i) EB_OUT_16(kind, d, i), EB_OUT_16(kind, d, i + 16)
#define EB_OUT_64(kind, d, i) EB_OUT_32(kind, d, i), EB_OUT_32(kind, d, i + 32)
#define EB_OUT_128(kind, d, i) EB_OUT_64(kind, d, i), EB_OUT_64(kind, d, i + 64)

// One product. p: whether D is added to; operands: what follows D's `n` registers.
#define EB_WGMMA(shape, n, a0, a1, a2, a3, b, add, scales, kind, d)                \
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %" #add                             \
               ", 0; "                                                             \
               "wgmma.mma_async.sync.aligned." shape " {" EB_LIST_##n              \
               "}, "                                                               \
               "{%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b ", p" scales "; }" \
               : EB_OUT_##n(kind, d, 0)                                            \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(rows), "r"((u32)adds))

// D (+)= A B in fp16, sums in fp32: 64 rows x kTokens, 16 inputs. d: float [kTokens / 2]; `rows`:
// the descriptor of B; without `adds` D is not read.
template <int kTokens>
EB_DEVICE void wgmma_f16(float* d, const u32* a, u64 rows, bool adds) {
#define EB_FLOAT "+f"
  if constexpr (kTokens == 16) {
    EB_WGMMA("m64n16k16.f32.f16.f16", 8, 8, 9, 10, 11, 12, 13, ", 1, 1, 0", EB_FLOAT, d);
  } else if constexpr (kTokens == 32) {
    EB_WGMMA("m64n32k16.f32.f16.f16", 16, 16, 17, 18, 19, 20, 21, ", 1, 1, 0", EB_FLOAT, d);
  } else if constexpr (kTokens == 64) {
    EB_WGMMA("m64n64k16.f32.f16.f16", 32, 32, 33, 34, 35, 36, 37, ", 1, 1, 0", EB_FLOAT, d);
  } else if constexpr (kTokens == 128) {
    EB_WGMMA("m64n128k16.f32.f16.f16", 64, 64, 65, 66, 67, 68, 69, ", 1, 1, 0", EB_FLOAT, d);
  } else {
    static_assert(kTokens == 256, "16, 32, 64, 128 or 256 tokens");
    EB_WGMMA("m64n256k16.f32.f16.f16", 128, 128, 129, 130, 131, 132, 133, ", 1, 1, 0", EB_FLOAT, d);
  }
#undef EB_FLOAT
}

// The same on signed bytes, exact: 32 inputs.
template <int kTokens>
EB_DEVICE void wgmma_s8(s32* d, const u32* a, u64 rows, bool adds) {
#define EB_INT "+r"
  if constexpr (kTokens == 64) {
    EB_WGMMA("m64n64k32.s32.s8.s8", 32, 32, 33, 34, 35, 36, 37, "", EB_INT, d);
  } else {
    static_assert(kTokens == 128, "64 or 128 tokens");
    EB_WGMMA("m64n128k32.s32.s8.s8", 64, 64, 65, 66, 67, 68, 69, "", EB_INT, d);
  }
#undef EB_INT
}

#undef EB_WGMMA
#undef EB_OUT_128
#undef EB_OUT_64
#undef EB_OUT_32
#undef EB_OUT_16
#undef EB_OUT_8
#undef EB_LIST_128
#undef EB_LIST_64
#undef EB_LIST_32
#undef EB_LIST_16
#undef EB_LIST_8

#endif  // EB_EMULATE

#endif  // EDGEBENCH_CUDA_PRIM_WGMMA_CUH_
