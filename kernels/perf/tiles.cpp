// What may run beside AMX's tile products, and what waits: the bounds that w4_gemm_amx.cpp names.
//
//     cd kernels
//     g++ -O2 -std=c++17 -mavx512f -mamx-tile -mamx-int8 perf/tiles.cpp csrc/cpu/amx_permission.cpp
//     ./a.out
//
// Prints ns per block of work alone and beside 8 tile products, medians of 31 rounds in which all
// blocks take turns; from L1, one thread. What overlaps costs the larger of the two, what does not
// their sum. Exit code 3 where the machine has no AMX.
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "../csrc/cpu/amx.h"
#include "../csrc/cpu/amx_permission.h"

namespace {

constexpr int kRounds = 31, kCalls = 4000;

alignas(4096) int8_t memory[3][4096];  // bytes of A, of B, sums

struct Work {
  const char* name;
  void (*run)();
};

// `text` that many times; it may use zmm0 to zmm7, and zmm9, which is zero.
#define REPEAT(count, text)                                                             \
  asm volatile("vpxorq %%zmm9, %%zmm9, %%zmm9\n\t.rept " #count "\n\t" text "\n\t.endr" \
               :                                                                        \
               : "r"(memory[2])                                                         \
               : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm9")
#define EIGHT(op, from)                                                                       \
  op " " from "0\n\t" op " " from "1\n\t" op " " from "2\n\t" op " " from "3\n\t" op " " from \
     "4\n\t" op " " from "5\n\t" op " " from "6\n\t" op " " from "7"

void products() {
  for (int i = 0; i < 2; ++i) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
}

void load_tiles() {
  _tile_loadd(4, memory[0], 64);
  _tile_loadd(5, memory[0] + 1024, 64);
  _tile_loadd(6, memory[1], 64);
  _tile_loadd(7, memory[1] + 1024, 64);
}

void loaded_twice() {
  load_tiles();
  load_tiles();
}

void stored() {
  _tile_stored(0, memory[2], 64);
  _tile_stored(1, memory[2] + 1024, 64);
  _tile_stored(2, memory[2] + 2048, 64);
  _tile_stored(3, memory[2] + 3072, 64);
}

void read_128() { REPEAT(16, EIGHT("vmovaps (%0),", "%%zmm")); }
void written_64() { REPEAT(64, "vmovaps %%zmm9, (%0)"); }
void converted_64() { REPEAT(8, EIGHT("vcvtdq2ps %%zmm9,", "%%zmm")); }
void fused_192() { REPEAT(24, EIGHT("vfmadd231ps %%zmm9, %%zmm9,", "%%zmm")); }
void fused_192_half() { REPEAT(24, EIGHT("vfmadd231ps %%ymm9, %%ymm9,", "%%ymm")); }

constexpr Work kWork[] = {
    {"nothing", [] {}},
    {"8 tile loads", loaded_twice},
    {"4 tile stores", stored},
    {"128 loads of 64 bytes", read_128},
    {"64 stores of 64 bytes", written_64},
    {"64 conversions, 512 bits", converted_64},
    {"192 multiply-adds, 512 bits", fused_192},
    {"192 multiply-adds, 256 bits", fused_192_half},
};
constexpr int kWorks = sizeof(kWork) / sizeof(kWork[0]);

double timed_ns(void (*run)(), bool is_beside) {
  timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (int i = 0; i < kCalls; ++i) {
    if (is_beside) products();
    run();
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  return ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / kCalls;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

int main() {
  if (!edgebench::may_use_tiles()) {
    fputs("expected a CPU with AMX, whose kernel lets programs use it\n", stderr);
    return 3;
  }
  edgebench::amx::configure(edgebench::amx::kMaxRowBytes);
  for (int8_t* byte = memory[0]; byte < memory[2]; ++byte) *byte = (int8_t)rand();
  load_tiles();
  printf("| work | alone ns | beside 8 products ns |\n|---|---|---|\n");
  std::vector<double> times[kWorks][2];
  for (int round = 0; round < kRounds; ++round) {
    for (bool is_beside : {false, true}) {
      for (int i = 0; i < kWorks; ++i) {
        times[i][is_beside].push_back(timed_ns(kWork[i].run, is_beside));
      }
    }
  }
  for (int i = 0; i < kWorks; ++i) {
    printf("| %s | %.1f | %.1f |\n", kWork[i].name, median(times[i][0]), median(times[i][1]));
  }
  _tile_release();
  return 0;
}
