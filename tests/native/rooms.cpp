// Holds every instruction set that this machine (or the emulated one) runs against the scalar one:
// quantized activations bit for bit, linears to rounding.
//
//     rooms [ISA]      ISA: the one that must have been chosen
//
// Linked with the library's object files, for the tables are not among its doors.
//
// Bound of a linear: both add the same exact integers, scaled; only the order and the fusing of
// float32 additions differ, so |difference| <= (groups + 2) 2^-23 sum of the absolute terms, which
// the sum of |scale * x_scale * total| over groups never exceeds by more than w . |x| says.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "../../kernels/csrc/cpu/dispatch.h"
#include "../../kernels/csrc/cpu/doors.h"
#include "../../kernels/csrc/cpu/half.h"
#include "../../kernels/csrc/cpu/ops.h"

namespace {

using edgebench::Activations;
using edgebench::CpuOps;
using edgebench::Family;
using edgebench::kA16;
using edgebench::kA8;

constexpr const char* kInputs[] = {"normal", "outliers", "zeros", "subnormal", "largest"};
constexpr int kInputKinds = sizeof(kInputs) / sizeof(kInputs[0]);
constexpr float kLargest = 3.0e38f;

int64_t checks = 0;

[[noreturn]] void fail(const char* what, const char* isa, const char* inputs, int64_t n, int64_t k,
                       int64_t group, int64_t m) {
  std::fprintf(stderr, "rooms: %s on %s, %s inputs, N=%lld K=%lld G=%lld M=%lld\n", what, isa,
               inputs, static_cast<long long>(n), static_cast<long long>(k),
               static_cast<long long>(group), static_cast<long long>(m));
  std::exit(1);
}

std::vector<float> inputs_of(int kind, int64_t size, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(size, 0.0f);
  for (int64_t i = 0; i < size; ++i) {
    const float value = normal(random);
    if (kind == 0) x[i] = value;
    if (kind == 1) x[i] = i % 61 == 7 ? 1000.0f * value : value;
    if (kind == 2) x[i] = i % 2 == 0 ? 0.0f : -0.0f;
    if (kind == 3) x[i] = value * 1e-40f;
    if (kind == 4) x[i] = std::copysign(kLargest, value);
  }
  return x;
}

struct Quantized {
  std::vector<uint8_t> bytes;
  std::vector<float> scale;
  std::vector<int32_t> sum;

  Quantized(const CpuOps& ops, Family family, uint8_t flip, const std::vector<float>& x, int64_t k,
            int block, int tokens) {
    const int64_t slots = (k + block - 1) / block * tokens;
    bytes.assign(slots * block * edgebench::halves_of(family), 0x55);
    scale.assign(slots, -1.0f);
    sum.assign(slots, -1);
    const Activations out{bytes.data(), scale.data(), sum.data(), tokens};
    for (int t = 0; t < tokens; ++t) {
      ops.family[family].quantize(x.data() + t * k, k, block, t, flip, out);
    }
  }
};

void compare_quantized(const edgebench::Isa& isa) {
  std::mt19937 random(1);
  for (const int64_t k : {34, 128, 200, 416}) {
    for (const int block : {32, 64, 128}) {
      for (int kind = 0; kind < kInputKinds; ++kind) {
        const int tokens = 3;
        const auto x = inputs_of(kind, tokens * k, random);
        for (const Family family : {kA8, kA16}) {
          const uint8_t flip = isa.ops->family[family].flip;
          const Quantized ours(*isa.ops, family, flip, x, k, block, tokens);
          const Quantized twin(edgebench::kScalarOps, family, flip, x, k, block, tokens);
          if (ours.bytes != twin.bytes)
            fail("bytes differ", isa.name, kInputs[kind], 0, k, block, 3);
          if (ours.scale != twin.scale)
            fail("scales differ", isa.name, kInputs[kind], 0, k, block, 3);
          if (ours.sum != twin.sum) fail("sums differ", isa.name, kInputs[kind], 0, k, block, 3);
          checks += static_cast<int64_t>(ours.bytes.size() + 2 * ours.scale.size());
        }
      }
    }
  }
}

struct Weights {
  int64_t n, k, group;
  void* handle = nullptr;
  std::vector<float> size;  // |w| [n, k]

  Weights(int64_t rows, int64_t inputs, int64_t length, bool is_symmetric, std::mt19937& random)
      : n(rows), k(inputs), group(length), size(rows * inputs) {
    const int64_t groups = k / group;
    std::vector<uint8_t> qweight(n * k / 2), zero(n * groups);
    std::vector<uint16_t> scale(n * groups);
    for (auto& byte : qweight) byte = static_cast<uint8_t>(random());
    for (auto& value : zero) value = is_symmetric ? 8 : random() % 16;
    for (auto& half : scale) half = static_cast<uint16_t>(9 << 10 | random() % 1024);
    for (int64_t i = 0; i < n * k; ++i) {
      const int64_t g = i / k * groups + i % k / group;
      // The zero point is subtracted after the products: both count towards rounding.
      size[i] =
          edgebench::float_of_half(scale[g]) * ((qweight[i / 2] >> (i % 2 * 4) & 15) + zero[g]);
    }
    if (eb_w4_pack(qweight.data(), scale.data(), zero.data(), n, k, group, &handle) != EB_OK) {
      fail("pack refuses", eb_isa(), "", n, k, group, 0);
    }
  }
  ~Weights() { eb_w4_free(handle); }
};

void compare_linears(const edgebench::Isa& isa, int index) {
  constexpr int64_t kShapes[][3] = {// N, K, G
                                    {1, 32, 32},    {17, 256, 64}, {64, 128, 128},
                                    {65, 384, 128}, {130, 96, 32}, {5, 200, 200},
                                    {70, 34, 34},   {64, 192, 64}, {33, 1024, 128}};
  std::mt19937 random(2);
  bool is_symmetric = false;
  for (const auto& shape : kShapes) {
    is_symmetric = !is_symmetric;
    const Weights w(shape[0], shape[1], shape[2], is_symmetric, random);
    const auto groups = static_cast<float>(w.k / w.group + w.k / 128 + 3);
    for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 33}) {
      const int kind = static_cast<int>(checks % 4);  // all but those whose answers are infinite
      const auto x = inputs_of(kind, m * w.k, random);
      for (const auto linear : {eb_w4a8_linear, eb_w4a8_token_linear, eb_w4a16_linear}) {
        std::vector<float> ours(m * w.n, NAN), twin(m * w.n, NAN);
        if (eb_force_isa(index) != EB_OK || linear(w.handle, m, x.data(), ours.data()) != EB_OK ||
            eb_force_isa(0) != EB_OK || linear(w.handle, m, x.data(), twin.data()) != EB_OK) {
          fail("a linear refuses", isa.name, kInputs[kind], w.n, w.k, w.group, m);
        }
        for (int64_t at = 0; at < m * w.n; ++at, ++checks) {
          double terms = 0, peak = 0;
          for (int64_t i = 0; i < w.k; ++i) {
            peak = std::fmax(peak, std::fabs(x[at / w.n * w.k + i]));
          }
          for (int64_t i = 0; i < w.k; ++i) {
            // A quantized value is off by at most half of peak / 127.
            terms += w.size[at % w.n * w.k + i] * (std::fabs(x[at / w.n * w.k + i]) + peak / 254);
          }
          const double bound = groups * 0x1p-23 * terms;
          if (!(std::fabs(ours[at] - twin[at]) <= bound)) {
            std::fprintf(stderr, "rooms: %.9g instead of %.9g at row %lld, bound %.3g\n", ours[at],
                         twin[at], static_cast<long long>(at % w.n), bound);
            fail("an output differs", isa.name, kInputs[kind], w.n, w.k, w.group, m);
          }
        }
      }
      ++checks;
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  std::printf("rooms: %s chosen\n", eb_isa());
  if (count > 1 && std::strcmp(eb_isa(), arguments[1]) != 0) {
    return std::fprintf(stderr, "rooms: %s expected\n", arguments[1]), 1;
  }
  for (int index = 1; eb_isa_name(index) != nullptr; ++index) {
    if (!eb_isa_supported(index)) continue;
    if (eb_force_isa(index) != EB_OK) fail("cannot be chosen", eb_isa_name(index), "", 0, 0, 0, 0);
    const edgebench::Isa& isa = edgebench::current_isa();
    const int64_t before = checks;
    compare_quantized(isa);
    compare_linears(isa, index);
    std::printf("rooms: %s: %lld values agree with the scalar path\n", isa.name,
                static_cast<long long>(checks - before));
  }
  return 0;
}
