// Proves the library of a wheel on the machine, or the emulated one, that it is for: loads it as
// Python would, and holds w4 linears of every instruction set against plain loops here.
//
//     probe LIBRARY [ISA]      ISA: this one must be among those that run
//
// Bound of an answer: half a step of each activation, the token's largest |x| over 2 * 127 or
// 2 * 32512, times the sum of |w|, and 2^-16 of the absolute sum for float32 addition.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "../../kernels/csrc/cpu/doors.h"
#include "../../kernels/csrc/cpu/half.h"

namespace {

void* g_library = nullptr;

template <typename Door>
Door* door(Door* /*same type as*/, const char* name) {
  void* const found = dlsym(g_library, name);
  if (found == nullptr) std::fprintf(stderr, "probe: no door %s\n", name), std::exit(1);
  return reinterpret_cast<Door*>(found);
}
#define DOOR(name) door(static_cast<decltype(&name)>(nullptr), #name)

void fail(const char* isa, const char* what, int64_t n, int64_t k, int64_t m) {
  std::fprintf(stderr, "probe: %s: %s, N=%lld K=%lld M=%lld\n", isa, what,
               static_cast<long long>(n), static_cast<long long>(k), static_cast<long long>(m));
  std::exit(1);
}

// One linear of each family on random weights [n, k]; returns how many outputs were compared.
int64_t compare(const char* isa, int64_t n, int64_t k, int64_t group, int64_t m) {
  std::mt19937 random(static_cast<uint32_t>(n + k + m));
  std::normal_distribution<float> normal;
  const int64_t groups = k / group;
  std::vector<uint8_t> qweight(n * k / 2), zero(n * groups);
  std::vector<uint16_t> scale(n * groups);
  for (auto& byte : qweight) byte = static_cast<uint8_t>(random());
  for (auto& value : zero) value = random() % 16;
  for (auto& half : scale) half = static_cast<uint16_t>(9 << 10 | random() % 1024);
  void* handle = nullptr;
  if (DOOR(eb_w4_pack)(qweight.data(), scale.data(), zero.data(), n, k, group, &handle) != EB_OK)
    fail(isa, "pack refuses", n, k, m);
  std::vector<float> x(m * k), y(m * n);
  for (auto& value : x) value = normal(random);
  for (const double levels : {127.0, 32512.0}) {
    std::fill(y.begin(), y.end(), NAN);
    const auto linear = levels == 127.0 ? DOOR(eb_w4a8_linear) : DOOR(eb_w4a16_linear);
    if (linear(handle, m, x.data(), y.data()) != EB_OK) fail(isa, "linear refuses", n, k, m);
    for (int64_t at = 0; at < m * n; ++at) {
      const int64_t token = at / n, row = at % n;
      double exact = 0, weights = 0, size = 0, peak = 0;
      for (int64_t i = 0; i < k; ++i) {
        const int64_t g = row * groups + i / group;
        const int code = qweight[(row * k + i) / 2] >> (i % 2 * 4) & 15;
        const double weight = edgebench::float_of_half(scale[g]) * (code - zero[g]);
        const double value = x[token * k + i];
        exact += weight * value;
        weights += std::fabs(weight);
        size += std::fabs(weight * value);
        peak = std::max(peak, std::fabs(value));
      }
      const double bound = 1.02 * weights * peak / (2 * levels) + size * 0x1p-16;
      if (!(std::fabs(y[at] - exact) <= bound)) fail(isa, "wrong answer", n, k, m);
    }
  }
  DOOR(eb_w4_free)(handle);
  return 2 * m * n;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return std::fprintf(stderr, "probe LIBRARY [ISA]\n"), 2;
  g_library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (g_library == nullptr) return std::fprintf(stderr, "probe: %s\n", dlerror()), 1;
  bool is_wanted_there = count < 3;
  const char* name = nullptr;
  for (int isa = 0; (name = DOOR(eb_isa_name)(isa)) != nullptr; ++isa) {
    if (!DOOR(eb_isa_supported)(isa)) continue;
    if (DOOR(eb_force_isa)(isa) != EB_OK) fail(name, "cannot be chosen", 0, 0, 0);
    is_wanted_there |= count > 2 && std::strcmp(name, arguments[2]) == 0;
    int64_t outputs = 0;
    for (const int threads : {1, 2}) {
      if (DOOR(eb_set_threads)(threads) != EB_OK) fail(name, "threads", threads, 0, 0);
      for (const int64_t m : {1, 2, 5, 17, 33}) {
        outputs += compare(name, 70, 256, 128, m) + compare(name, 5, 96, 32, m) +
                   compare(name, 130, 34, 34, m);
      }
      outputs += compare(name, 260, 1024, 128, 3);  // enough work to wake the pool
    }
    std::printf("probe: %s: %lld outputs agree\n", name, static_cast<long long>(outputs));
  }
  if (!is_wanted_there) return std::fprintf(stderr, "probe: no %s here\n", arguments[2]), 1;
  return 0;
}
