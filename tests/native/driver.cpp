// Drives every door of libedgebench_kernels on awkward shapes, for the sanitizers: odd sizes,
// buffers that end exactly where they must, unaligned pointers, refused arguments, several callers,
// fork.
//
// Answers are compared with a double-precision product of the dequantized weights. With activations
// in steps of peak / L per group (L = 127 for a8, 32512 for a16), each activation is off by at most
// half a step, so |error| <= sum_k |w_k| peak_g / (2 L), and 2^-16 of sum_k |w_k x_k| for fp32
// accumulation over at most 2^8 terms a group, of which no shape here has more than 16.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "../../kernels/csrc/cpu/doors.h"

namespace {

constexpr uint16_t kHalfNan = 0x7e00;
constexpr uint16_t kHalfInfinity = 0x7c00;

std::atomic<int> checks{0};  // several callers count

void expect(bool is_so, const char* what, long a = 0, long b = 0, long c = 0) {
  ++checks;
  if (is_so) return;
  std::fprintf(stderr, "driver: %s (%ld, %ld, %ld) on %s, %d threads\n", what, a, b, c, eb_isa(),
               eb_threads());
  std::exit(1);
}

struct Weights {
  int64_t n, k, group;
  std::vector<uint8_t> qweight, zero;
  std::vector<uint16_t> scale;
  std::vector<double> dense;  // [n, k]

  int pack(void** handle) const {
    return eb_w4_pack(qweight.data(), scale.data(), zero.data(), n, k, group, handle);
  }
  int pack_sparse(int64_t* place, void** handle) const {
    return eb_w4_pack_sparse(qweight.data(), scale.data(), zero.data(), n, k, group, place, handle);
  }
};

// Scales are normal halves 2^-6 (1 + mantissa / 1024), so their value needs no conversion code.
Weights random_weights(int64_t n, int64_t k, int64_t group, std::mt19937& random) {
  Weights w{n, k, group, {}, {}, {}, {}};
  w.qweight.resize(n * k / 2);
  w.zero.resize(n * (k / group));
  w.scale.resize(n * (k / group));
  w.dense.resize(n * k);
  for (auto& byte : w.qweight) byte = static_cast<uint8_t>(random());
  for (auto& zero : w.zero) zero = random() % 16;
  for (auto& scale : w.scale) scale = static_cast<uint16_t>(9 << 10 | random() % 1024);
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t col = 0; col < k; ++col) {
      const int64_t at = row * (k / group) + col / group;
      const int code = w.qweight[(row * k + col) / 2] >> (col % 2 * 4) & 15;
      const double scale = std::ldexp(1.0 + (w.scale[at] & 1023) / 1024.0, -6);
      w.dense[row * k + col] = scale * (code - w.zero[at]);
    }
  }
  return w;
}

// Makes two of every four weights of a row zero, another two in each; k is a multiple of 4.
void prune(Weights* w, std::mt19937& random) {
  for (int64_t row = 0; row < w->n; ++row) {
    for (int64_t col = 0; col < w->k; col += 4) {
      const uint32_t first = random() % 4, second = (first + 1 + random() % 3) % 4;
      for (const int64_t gone : {col + first, col + second}) {
        const uint8_t zero = w->zero[row * (w->k / w->group) + gone / w->group];
        uint8_t& pair = w->qweight[(row * w->k + gone) / 2];
        pair = gone % 2 == 0 ? (pair & 0xf0) | zero : (pair & 0x0f) | zero << 4;
        w->dense[row * w->k + gone] = 0;
      }
    }
  }
}

void check_answer(const Weights& w, const float* x, const float* y, int64_t m, double levels) {
  for (int64_t token = 0; token < m; ++token) {
    const float* const row_x = x + token * w.k;
    double peak = 0;
    for (int64_t col = 0; col < w.k; ++col) peak = std::max<double>(peak, std::fabs(row_x[col]));
    for (int64_t row = 0; row < w.n; ++row) {
      double exact = 0, weight_sum = 0, size = 0;
      for (int64_t col = 0; col < w.k; ++col) {
        const double weight = w.dense[row * w.k + col];
        exact += weight * row_x[col];
        weight_sum += std::fabs(weight);
        size += std::fabs(weight * row_x[col]);
      }
      const double bound = weight_sum * peak / (2 * levels) * 1.001 + size * 0x1p-16 + 1e-30;
      expect(std::fabs(y[token * w.n + row] - exact) <= bound, "wrong answer", w.n, w.k, m);
    }
  }
}

// A layer is the linear's sums y with a bias, between two limits: to the bit, by the pool or not.
void fuse(const Weights& w, const void* handle, int family, int64_t m, const std::vector<float>& x,
          const std::vector<float>& y, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> bias(w.n), z(y.size());
  for (auto& value : bias) value = normal(random);
  for (int alone : {0, 1}) {
    for (const bool has_bias : {false, true}) {
      const float* const added = has_bias ? bias.data() : nullptr;
      std::fill(z.begin(), z.end(), NAN);
      const int error =
          eb_w4_layer(handle, family, alone, added, -0.5f, 1.0f, m, x.data() + 1, z.data() + 1);
      expect(error == EB_OK, "layer", w.n, w.k, m);
      for (int64_t i = 0; i < m * w.n; ++i) {
        const float sum = y[1 + i] + (has_bias ? bias[i % w.n] : 0.0f);
        expect(z[1 + i] == std::min(std::max(sum, -0.5f), 1.0f), "epilogue", w.n, w.k, m);
      }
    }
  }
}

void multiply(const Weights& w, const void* handle, int64_t m, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(m * w.k + 1), y(m * w.n + 1, NAN);  // + 1: pointers aligned to 4 bytes only
  for (auto& value : x) value = normal(random);
  if (m > 2) std::fill_n(x.begin() + 1 + w.k, w.k, 0.0f);  // a token of zeros
  const auto check_layer = [&](int family) { fuse(w, handle, family, m, x, y, random); };
  expect(eb_w4a16_linear(handle, m, x.data() + 1, y.data() + 1) == EB_OK, "w4a16", w.n, w.k, m);
  check_answer(w, x.data() + 1, y.data() + 1, m, 32512);
  check_layer(1);
  expect(eb_w4a8_linear(handle, m, x.data() + 1, y.data() + 1) == EB_OK, "w4a8", w.n, w.k, m);
  check_answer(w, x.data() + 1, y.data() + 1, m, 127);
  check_layer(0);
  expect(eb_w4a8_token_linear(handle, m, x.data() + 1, y.data() + 1) == EB_OK, "w4a8-token", w.n,
         w.k, m);
  check_answer(w, x.data() + 1, y.data() + 1, m, 127);
}

// Packing twice gives the same bytes, padding included.
void check_bytes(const Weights& w, const void* handle) {
  void* again = nullptr;
  expect(w.pack(&again) == EB_OK, "pack again", w.n, w.k, w.group);
  const uint8_t* bytes[2] = {};
  size_t size[2] = {};
  expect(eb_w4_bytes(handle, &bytes[0], &size[0]) == EB_OK, "bytes", w.n, w.k, w.group);
  expect(eb_w4_bytes(again, &bytes[1], &size[1]) == EB_OK, "bytes", w.n, w.k, w.group);
  expect(static_cast<int64_t>(size[0]) >= w.n * w.k / 2, "too few bytes", w.n, w.k, w.group);
  expect(size[0] == size[1] && std::memcmp(bytes[0], bytes[1], size[0]) == 0, "bytes differ", w.n);
  eb_w4_free(again);
}

// The weights as numbers: fp32 exactly, bf16 within half a step, nothing past the end.
void check_numbers(const Weights& w, const void* handle) {
  std::vector<float> wide(w.n * w.k + 1, 12345.0f);
  std::vector<uint16_t> narrow(w.n * w.k + 1, 0x7777);
  expect(eb_w4_dequantize(handle, 0, wide.data()) == EB_OK, "fp32", w.n, w.k, w.group);
  expect(eb_w4_dequantize(handle, 1, narrow.data()) == EB_OK, "bf16", w.n, w.k, w.group);
  expect(wide.back() == 12345.0f && narrow.back() == 0x7777, "past the end", w.n, w.k, w.group);
  for (int64_t i = 0; i < w.n * w.k; ++i) {
    const uint32_t bits = static_cast<uint32_t>(narrow[i]) << 16;
    float rounded;
    std::memcpy(&rounded, &bits, sizeof rounded);
    expect(wide[i] == w.dense[i], "a weight", w.n, w.k, i);
    expect(std::fabs(rounded - w.dense[i]) <= std::fabs(w.dense[i]) * 0x1p-8, "in bf16", w.n, i);
  }
}

void shapes(std::mt19937& random) {
  const int64_t sides[][3] = {{1, 2, 2},      {1, 32, 32},     {5, 64, 32},    {7, 34, 34},
                              {33, 200, 200}, {63, 128, 64},   {64, 128, 128}, {65, 256, 128},
                              {130, 96, 32},  {129, 384, 384}, {200, 1024, 64}};
  for (const auto& side : sides) {
    const Weights w = random_weights(side[0], side[1], side[2], random);
    void* handle = nullptr;
    expect(w.pack(&handle) == EB_OK, "pack", w.n, w.k, w.group);
    check_bytes(w, handle);
    check_numbers(w, handle);
    for (int64_t m : {1, 2, 3, 4, 5, 8, 15, 17, 40}) multiply(w, handle, m, random);
    eb_w4_free(handle);
  }
  eb_w4_free(nullptr);
}

void sparse_shapes(std::mt19937& random) {
  const int64_t sides[][3] = {{1, 4, 4},       {1, 32, 32},    {5, 64, 32},    {33, 200, 200},
                              {63, 128, 64},   {64, 128, 128}, {65, 256, 128}, {130, 96, 32},
                              {129, 384, 384}, {200, 1024, 64}};
  for (const auto& side : sides) {
    Weights w = random_weights(side[0], side[1], side[2], random);
    prune(&w, random);
    int64_t place[2] = {-1, -1};
    void* handle = nullptr;
    expect(w.pack_sparse(place, &handle) == EB_OK, "pack 2:4", w.n, w.k, w.group);
    check_numbers(w, handle);
    for (int64_t m : {1, 2, 5, 17, 40}) multiply(w, handle, m, random);
    eb_w4_free(handle);
    handle = nullptr;
    for (auto& byte : w.qweight) byte = 0x10;    // codes 0 and 1,
    std::fill(w.zero.begin(), w.zero.end(), 2);  // neither of them zero
    expect(w.pack_sparse(place, &handle) == EB_PATTERN, "not 2:4", w.n, w.k, w.group);
    expect(handle == nullptr && place[0] == 0 && place[1] == 0, "its place", place[0], place[1]);
  }
}

void refusals(std::mt19937& random) {
  Weights w = random_weights(3, 64, 32, random);
  void* handle = nullptr;
  expect(eb_w4_pack(nullptr, w.scale.data(), w.zero.data(), 3, 64, 32, &handle) == EB_NULL, "null");
  expect(w.pack(nullptr) == EB_NULL, "null handle");
  for (int64_t group : {0, -32, 16, 48, 256}) {
    w.group = group;
    expect(w.pack(&handle) == EB_GROUP, "group", group);
  }
  w.group = 32;
  for (int64_t k : {int64_t{0}, int64_t{-2}, int64_t{63}, INT64_MAX, INT64_MIN}) {
    w.k = k;
    expect(w.pack(&handle) == EB_SHAPE, "k", k);
  }
  w.k = 64;
  for (uint16_t scale : {kHalfNan, kHalfInfinity}) {
    std::swap(w.scale.back(), scale);
    expect(w.pack(&handle) == EB_SCALE, "scale", scale);
    std::swap(w.scale.back(), scale);
  }
  w.zero.back() = 16;
  expect(w.pack(&handle) == EB_ZERO, "zero point");
  w.zero.back() = 15;
  expect(handle == nullptr && w.pack(&handle) == EB_OK, "mended");
  float x[64] = {}, y[3];
  for (int64_t m : {int64_t{0}, int64_t{-1}, INT64_MAX}) {
    expect(eb_w4a16_linear(handle, m, x, y) == EB_SHAPE, "m", m);
  }
  expect(eb_w4a8_linear(handle, 1, nullptr, y) == EB_NULL, "null x");
  expect(eb_w4a8_token_linear(handle, 1, nullptr, y) == EB_NULL, "null x");
  expect(eb_w4a8_linear(nullptr, 1, x, y) == EB_NULL, "null weights");
  expect(eb_w4_dequantize(handle, 0, nullptr) == EB_NULL, "null numbers");
  expect(eb_w4_dequantize(handle, 2, y) == EB_SHAPE, "no such number");
  auto* const odd = reinterpret_cast<uint8_t*>(y) + 1;
  for (int number : {0, 1}) expect(eb_w4_dequantize(handle, number, odd) == EB_ALIGNMENT, "odd");
  expect(eb_w4_layer(handle, 2, 0, nullptr, 0, 6, 1, x, y) == EB_SHAPE, "family");
  expect(eb_w4_layer(handle, 0, 0, nullptr, 6, 0, 1, x, y) == EB_SHAPE, "limits");
  expect(eb_w4_layer(handle, 0, 0, nullptr, 0, NAN, 1, x, y) == EB_SHAPE, "limits");
  eb_w4_free(handle);
  for (int threads : {0, -1, 1 << 20}) expect(eb_set_threads(threads) == EB_THREADS, "threads");
  for (int isa : {-1, 99}) {
    expect(eb_force_isa(isa) == EB_ISA && eb_isa_name(isa) == nullptr, "isa", isa);
    expect(eb_isa_supported(isa) == 0, "isa supported", isa);
  }
}

void ceilings() {
  void* buffer = nullptr;
  expect(eb_ceiling_buffer(12345, &buffer) == EB_SHAPE, "buffer size");
  expect(eb_ceiling_buffer(size_t{2} << 20, &buffer) == EB_OK, "buffer");
  for (int ceiling : {+EB_READ_BANDWIDTH, +EB_INT8, +EB_BF16, +EB_FP32, 17}) {
    double value = 0;
    const char* instruction = nullptr;
    const int code = eb_ceiling(ceiling, buffer, 1000000, &value, &instruction);
    if (code == EB_UNAVAILABLE) continue;
    expect(code == EB_OK && ceiling != 17, "ceiling", ceiling, code);
    expect(value > 0 && std::isfinite(value) && instruction != nullptr, "its value", ceiling);
  }
  eb_ceiling_buffer_free(buffer);
}

void several_callers() {
  std::vector<std::thread> callers;
  for (unsigned seed = 0; seed < 3; ++seed) {
    callers.emplace_back([seed] {
      std::mt19937 random(seed);
      const Weights w = random_weights(70 + seed, 128, 64, random);
      void* handle = nullptr;
      if (w.pack(&handle) != EB_OK) std::abort();
      std::vector<float> x(9 * 128, 1.0f), y(9 * w.n);
      for (int64_t m = 1; m < 10; ++m) {
        if (eb_w4a16_linear(handle, m, x.data(), y.data()) != EB_OK) std::abort();
        if (eb_w4a8_linear(handle, m, x.data(), y.data()) != EB_OK) std::abort();
        check_answer(w, x.data(), y.data(), m, 127);
      }
      eb_w4_free(handle);
    });
  }
  for (int threads : {2, 4, 1, 3}) expect(eb_set_threads(threads) == EB_OK, "resize while busy");
  for (std::thread& caller : callers) caller.join();
}

void after_fork() {
#if !defined(__SANITIZE_THREAD__)  // TSan refuses threads in a child of a threaded parent
  const pid_t child = fork();
  if (child == 0) {
    std::mt19937 random(7);
    const Weights w = random_weights(130, 64, 32, random);
    void* handle = nullptr;
    if (w.pack(&handle) != EB_OK) _exit(1);
    multiply(w, handle, 5, random);
    _exit(0);
  }
  int status = -1;
  expect(waitpid(child, &status, 0) == child && status == 0, "a forked child multiplies", status);
#endif
}

}  // namespace

int main() {
  std::mt19937 random(1);
  expect(eb_abi_version() >= 1, "ABI version");
  for (int isa = 0; eb_isa_name(isa) != nullptr; ++isa) {
    if (!eb_isa_supported(isa)) {
      std::printf("driver: %s is not on this machine\n", eb_isa_name(isa));
      continue;
    }
    expect(eb_force_isa(isa) == EB_OK, "force", isa);
    for (int threads : {1, 3}) {
      expect(eb_set_threads(threads) == EB_OK && eb_threads() == threads, "threads", threads);
      shapes(random);
      sparse_shapes(random);
      ceilings();
    }
    refusals(random);
    several_callers();
    after_fork();
    std::printf("driver: %s ok, %d checks so far\n", eb_isa(), checks.load());
  }
  return 0;
}
