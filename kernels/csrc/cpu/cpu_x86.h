// What this x86-64 CPU offers and its operating system keeps, read with cpuid and xgetbv.
//
// Not __builtin_cpu_supports: that links to tables of the compiler's run-time library, which the
// clang that builds the wheels (scripts/wheels.sh) does not have; nor does every compiler know
// every feature's name.
#ifndef EDGEBENCH_CPU_CPU_X86_H_
#define EDGEBENCH_CPU_CPU_X86_H_

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdint.h>

namespace edgebench {

struct CpuX86 {
  bool has_avx2 = false;         // with FMA and F16C
  bool has_avx2_vnni = false;    // AVX-VNNI, VEX-encoded
  bool has_avx512_vnni = false;  // with F, BW, VL and DQ
  bool has_avx512_bf16 = false;
  bool has_amx_int8 = false;  // with tiles and AVX-512 VNNI
  bool has_amx_bf16 = false;
  bool is_amd = false;
  uint32_t family = 0;  // 25: Zen 3 and 4, 26: Zen 5
};

// Bits as in Intel's SDM, volume 2A, CPUID, and volume 1, section 13.3 (XCR0).
inline CpuX86 read_cpu_x86() {
  const auto bit = [](uint32_t word, int index) { return (word >> index & 1) != 0; };
  CpuX86 cpu;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx)) return cpu;
  cpu.is_amd = ebx == signature_AMD_ebx && ecx == signature_AMD_ecx && edx == signature_AMD_edx;
  __get_cpuid(1, &eax, &ebx, &ecx, &edx);
  cpu.family = (eax >> 8 & 0xf) + ((eax >> 8 & 0xf) == 0xf ? eax >> 20 & 0xff : 0);
  const bool has_fma = bit(ecx, 12), has_f16c = bit(ecx, 29), has_avx = bit(ecx, 28);
  if (!bit(ecx, 27)) return cpu;  // OSXSAVE: without it nothing wider than SSE is kept
  uint32_t kept = 0, kept_high = 0;
  asm volatile("xgetbv" : "=a"(kept), "=d"(kept_high) : "c"(0));
  constexpr uint32_t kYmm = 0x06, kZmm = 0xe6, kTiles = 0x60000;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return cpu;
  const uint32_t subleaves = eax;
  cpu.has_avx2 = (kept & kYmm) == kYmm && has_avx && has_fma && has_f16c && bit(ebx, 5);
  cpu.has_avx512_vnni = cpu.has_avx2 && (kept & kZmm) == kZmm && bit(ebx, 16) && bit(ebx, 17) &&
                        bit(ebx, 30) && bit(ebx, 31) && bit(ecx, 11);
  const bool has_tiles = cpu.has_avx512_vnni && (kept & kTiles) == kTiles && bit(edx, 24);
  cpu.has_amx_int8 = has_tiles && bit(edx, 25);
  cpu.has_amx_bf16 = has_tiles && bit(edx, 22);
  if (subleaves < 1) return cpu;
  __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx);
  cpu.has_avx2_vnni = cpu.has_avx2 && bit(eax, 4);
  cpu.has_avx512_bf16 = cpu.has_avx512_vnni && bit(eax, 5);
  return cpu;
}

}  // namespace edgebench

#endif  // __x86_64__
#endif  // EDGEBENCH_CPU_CPU_X86_H_
