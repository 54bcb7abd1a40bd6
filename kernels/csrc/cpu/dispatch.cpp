// The table of instruction sets and the run-time choice. This file is compiled for the base ISA.
#include "dispatch.h"

#include <atomic>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace edgebench {
namespace {

bool always() { return true; }

#if defined(EDGEBENCH_HAVE_AVX2)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
#if defined(EDGEBENCH_HAVE_AVX2_VNNI)
// AVX-VNNI (VEX-encoded) is CPUID leaf 7, sub-leaf 1, EAX bit 4; not every compiler knows its name.
bool has_avx2_vnni() {
  if (!has_avx2()) return false;
  uint32_t eax = 7, ebx = 0, ecx = 1, edx = 0;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (eax >> 4 & 1) != 0;
}
#endif
#if defined(EDGEBENCH_HAVE_AVX512_VNNI)
bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif
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
std::atomic<int> g_prefetch{-1};

// Software prefetch pays where one core cannot keep enough lines in flight by itself. Measured, one
// thread, 4096 x 4096 from DRAM: Zen 5 (family 26) 0.38 ms without, 0.27 / 0.25 / 0.24 / 0.22 ms
// with 1 / 2 / 4 / 8 KB; Zen 4 (family 25) is fastest without.
int default_prefetch() {
#if defined(__x86_64__)
  constexpr uint32_t kZen5Family = 26;
  uint32_t eax = 1, ebx = 0, ecx = 0, edx = 0;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  const uint32_t family = (eax >> 8 & 0xf) + ((eax >> 8 & 0xf) == 0xf ? eax >> 20 & 0xff : 0);
  if (__builtin_cpu_is("amd") && family == kZen5Family) return 8192;
#endif
  return 0;
}

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

int prefetch_bytes() {
  int bytes = g_prefetch.load(std::memory_order_relaxed);
  if (bytes < 0) {
    bytes = default_prefetch();
    g_prefetch.store(bytes);
  }
  return bytes;
}

void set_prefetch_bytes(int bytes) { g_prefetch.store(bytes); }

const Peak* bf16_peak() {
#if defined(EDGEBENCH_HAVE_AVX512_BF16)
  if (current_isa().ops == &kAvx512VnniOps && __builtin_cpu_supports("avx512bf16")) {
    return &kBf16PeakAvx512;
  }
#endif
  return nullptr;
}

}  // namespace edgebench
