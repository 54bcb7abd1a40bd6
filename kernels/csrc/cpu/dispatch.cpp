// The table of instruction sets and the run-time choice. This file is compiled for the base ISA.
#include "dispatch.h"

#include <atomic>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "amx_permission.h"
#include "cpu_x86.h"

namespace edgebench {
namespace {

bool always() { return true; }

#if defined(__x86_64__)
const CpuX86& cpu() {
  static const CpuX86 read = read_cpu_x86();
  return read;
}
#endif
#if defined(EDGEBENCH_HAVE_AVX2)
bool has_avx2() { return cpu().has_avx2; }
#endif
#if defined(EDGEBENCH_HAVE_AVX2_VNNI)
bool has_avx2_vnni() { return cpu().has_avx2_vnni; }
#endif
#if defined(EDGEBENCH_HAVE_AVX512_VNNI)
bool has_avx512_vnni() { return cpu().has_avx512_vnni; }
#endif
#if defined(EDGEBENCH_HAVE_AMX_INT8)
bool has_amx_int8() { return cpu().has_amx_int8 && may_use_tiles(); }
#endif

#if defined(EDGEBENCH_HAVE_NEON_DOTPROD)
// What the kernel says of the CPU; not every C library's headers name the newer bits.
// Elsewhere than on Linux nobody is asked, and plain NEON serves.
#if defined(__linux__)
constexpr unsigned long kHwcapAsimdDp = 1ul << 20;  // AT_HWCAP: sdot, udot
constexpr unsigned long kHwcap2I8mm = 1ul << 13;    // AT_HWCAP2: smmla, usdot
bool has_neon_dotprod() { return (getauxval(AT_HWCAP) & kHwcapAsimdDp) != 0; }
bool has_neon_i8mm() { return has_neon_dotprod() && (getauxval(AT_HWCAP2) & kHwcap2I8mm) != 0; }
#else
bool has_neon_dotprod() { return false; }
bool has_neon_i8mm() { return false; }
#endif
#endif

constexpr Isa kIsas[] = {
    {"scalar", &kScalarOps, always},
#if defined(EDGEBENCH_HAVE_AVX2)
    {"avx2", &kAvx2Ops, has_avx2},
#endif
#if defined(EDGEBENCH_HAVE_AVX2_VNNI)
    {"avx2_vnni", &kAvx2VnniOps, has_avx2_vnni},
#endif
#if defined(EDGEBENCH_HAVE_AVX512_VNNI)
    {"avx512_vnni", &kAvx512VnniOps, has_avx512_vnni},
#endif
#if defined(EDGEBENCH_HAVE_AMX_INT8)
    {"amx_int8", &kAmxInt8Ops, has_amx_int8},
#endif
#if defined(EDGEBENCH_HAVE_NEON)
    {"neon", &kNeonOps, always},
#endif
#if defined(EDGEBENCH_HAVE_NEON_DOTPROD)
    {"neon_dotprod", &kNeonDotprodOps, has_neon_dotprod},
#endif
#if defined(EDGEBENCH_HAVE_NEON_I8MM)
    {"neon_i8mm", &kNeonI8mmOps, has_neon_i8mm},
#endif
};
constexpr int kCount = sizeof(kIsas) / sizeof(kIsas[0]);

std::atomic<int> g_chosen{-1};

int best() {
  int index = kCount - 1;
  while (!kIsas[index].is_supported()) --index;  // scalar always is
  return index;
}

}  // namespace

const Isa* isas(int* count) {
  *count = kCount;
  return kIsas;
}

const Isa& current_isa() {
  int index = g_chosen.load(std::memory_order_relaxed);
  if (index < 0) {
    index = best();
    g_chosen.store(index);
  }
  return kIsas[index];
}

bool force_isa(int index) {
  if (index < 0 || index >= kCount || !kIsas[index].is_supported()) return false;
  g_chosen.store(index);
  return true;
}

const Peak* bf16_peak() {
#if defined(EDGEBENCH_HAVE_AVX512_VNNI)
  const CpuOps* const ops = current_isa().ops;
#if defined(EDGEBENCH_HAVE_AMX_INT8)
  // Also where the kernels are held to AVX-512: torch multiplies bf16 by tiles wherever it can.
  const bool is_wide = ops == &kAmxInt8Ops || ops == &kAvx512VnniOps;
  if (is_wide && cpu().has_amx_bf16 && may_use_tiles()) return &kBf16PeakAmx;
#else
  const bool is_wide = ops == &kAvx512VnniOps;
#endif
#if defined(EDGEBENCH_HAVE_AVX512_BF16)
  if (is_wide && cpu().has_avx512_bf16) return &kBf16PeakAvx512;
#endif
  (void)is_wide;
#endif
  return nullptr;
}

}  // namespace edgebench
