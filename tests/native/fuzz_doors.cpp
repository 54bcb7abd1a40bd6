// Fuzzes the C doors: a contract written down once more, and every door held against it.
//
// Each input is read as one call: sizes legal, zero, negative and huge, groups right and wrong,
// null and misaligned pointers, scales of every bit pattern, zero points past 15, NaN and infinite
// activations, packed bytes overwritten. The property: the very error that doors.h promises, or the
// right answer (see worst_error); buffers are as long as the contract says and not a byte longer,
// so that AddressSanitizer sees what is read past them.
//
// With clang's -fsanitize=fuzzer libFuzzer calls it; else fuzz_main.cpp does, with seeded bytes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "../../kernels/csrc/cpu/doors.h"
#include "../../kernels/csrc/cpu/half.h"
#include "fuzz_step.h"

namespace {

constexpr int64_t kMostWork = 1 << 15;  // multiply-adds of most calls: hundreds of inputs a second
constexpr int64_t kPoolWork = 1 << 20;  // of some: past what a caller computes without the pool
constexpr double kLevels[] = {127, 32512};

// What the input's bytes choose; zeros when they have run out.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint32_t below(uint32_t count) { return word() % count; }
  bool one_in(uint32_t count) { return below(count) == count - 1; }
  uint32_t word() {
    uint32_t value = 0;
    for (int i = 0; i < 2 && size_ > 0; ++i, --size_) value = value << 8 | *data_++;
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

void demand(bool is_so, const char* what, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
  if (is_so) return;
  std::fprintf(stderr, "fuzz: %s (%lld, %lld, %lld) on %s, %d threads\n", what,
               static_cast<long long>(a), static_cast<long long>(b), static_cast<long long>(c),
               eb_isa(), eb_threads());
  std::abort();
}

int64_t wild_size(Choices& choose) {
  constexpr int64_t kWild[] = {0,
                               -1,
                               -2,
                               -64,
                               INT64_MIN,
                               INT64_MAX,
                               INT64_MAX - 1,
                               (int64_t{1} << 30) + 2,
                               int64_t{1} << 32,
                               int64_t{1} << 62};
  return kWild[choose.below(sizeof(kWild) / sizeof(kWild[0]))];
}

// Exactly `count` items on the heap, `offset` bytes off their alignment.
template <typename Item>
class Exact {
 public:
  Exact(int64_t count, int offset) : bytes_(new uint8_t[count * sizeof(Item) + offset]) {
    at_ = reinterpret_cast<Item*>(bytes_.get() + offset);
  }
  Item* at() const { return at_; }
  void set(int64_t index, Item item) { memcpy(address(index), &item, sizeof item); }
  Item get(int64_t index) const {
    Item item;
    memcpy(&item, address(index), sizeof item);
    return item;
  }

 private:
  uint8_t* address(int64_t index) const {
    return reinterpret_cast<uint8_t*>(at_) + index * static_cast<int64_t>(sizeof(Item));
  }
  std::unique_ptr<uint8_t[]> bytes_;
  Item* at_;
};

struct Case {
  int64_t n, k, group;
  std::vector<double> dense;  // [n, k]
  bool is_tame;               // what was packed is what `dense` says
};

void choose_shape(Choices& choose, Case* c) {
  c->n = 1 + choose.below(choose.one_in(4) ? 200 : 70);
  constexpr int64_t kGroups[] = {32, 64, 128};
  if (choose.one_in(3)) {
    c->k = c->group = 2 * (1 + choose.below(200));
  } else {
    c->group = kGroups[choose.below(3)];
    c->k = c->group * (1 + choose.below(5));
  }
}

// fp16 bits: mostly ordinary, now and then any finite pattern, subnormals and zeros included.
uint16_t finite_half(std::mt19937& random, bool is_any) {
  uint16_t bits = static_cast<uint16_t>(random());
  if (!is_any) return static_cast<uint16_t>((9 << 10) | (bits & 0x83ff));
  while ((bits & 0x7c00) == 0x7c00) bits = static_cast<uint16_t>(random());
  return bits;
}

// Largest error of one output of `levels`: half a step (and the rounding of x * inverse) of each
// activation, blocks of at most 128 inputs sharing the largest |x| of 128 or fewer, plus 2^-18 of
// the absolute sum for float32 sums over at most 13 blocks.
double worst_error(const Case& c, const double* weight, const double* x, double levels) {
  const int64_t fixed = c.group == 32 || c.group == 64 || c.group == 128 ? c.group : 0;
  const int64_t block = fixed ? fixed : c.k % 128 == 0 ? 128 : c.k % 64 == 0 ? 64 : 32;
  double error = 1e-38, size = 0;
  for (int64_t start = 0; start < c.k; start += block) {
    double peak = 1e-30, weights = 0;
    for (int64_t i = start; i < std::min(c.k, start + block); ++i) {
      const double value = std::fabs(x[i]);
      peak = std::max(peak, value);
      weights += std::fabs(weight[i]);
      size += std::fabs(weight[i]) * value;
    }
    error += (0.5 + levels * 0x1p-22) * 1.001 * peak / levels * weights;
  }
  return error + size * 0x1p-18;
}

void check_token(const Case& c, const std::vector<double>& x, const Exact<float>& y, int64_t token,
                 double levels) {
  const bool is_finite =
      std::all_of(x.begin(), x.end(), [](double value) { return std::isfinite(value); });
  for (int64_t row = 0; row < c.n; ++row) {
    const float got = y.get(token * c.n + row);
    if (!is_finite) {
      demand(std::isnan(got), "a token with NaN or infinity must give NaN", c.n, c.k, token);
      continue;
    }
    const double* const weight = c.dense.data() + row * c.k;
    double exact = 0, size = 0;
    for (int64_t i = 0; i < c.k; ++i) {
      exact += weight[i] * x[i];
      size += std::fabs(weight[i] * x[i]);
    }
    if (size > 1e37) continue;  // float32 itself may overflow
    const double error = worst_error(c, weight, x.data(), levels);
    demand(std::fabs(got - exact) <= error, "wrong answer", c.n, c.k, token);
  }
}

void check_answer(const Case& c, const Exact<float>& x, const Exact<float>& y, int64_t m,
                  double levels) {
  std::vector<double> row(c.k);
  for (int64_t token = 0; token < m; ++token) {
    for (int64_t i = 0; i < c.k; ++i) row[i] = x.get(token * c.k + i);
    check_token(c, row, y, token, levels);
  }
}

void fill_activations(Choices& choose, std::mt19937& random, Exact<float>* x, int64_t count) {
  std::normal_distribution<float> normal;
  constexpr float kStrange[] = {0.0f,    -0.0f,  NAN,    INFINITY, -INFINITY,
                                3.4e38f, 1e-45f, 1e-38f, 1e5f,     -1e-30f};
  const float unit = std::ldexp(1.0f, static_cast<int>(choose.below(240)) - 120);
  const uint32_t strange = choose.below(4) == 0 ? 1 + choose.below(8) : 0;
  const float spoiler = kStrange[choose.below(10)];
  for (int64_t i = 0; i < count; ++i) x->set(i, normal(random) * unit);
  for (uint32_t i = 0; i < strange; ++i) x->set(random() % count, spoiler);
}

// The sums of a linear of m tokens, with a bias and between limits, by the pool or not.
void fuzz_layer(Choices& choose, std::mt19937& random, const Case& c, const void* handle,
                int family, int64_t m, const Exact<float>& x, const Exact<float>& sums) {
  const int fault = static_cast<int>(choose.below(24)), alone = static_cast<int>(choose.below(2));
  Exact<float> bias(c.n, fault == 1 ? 1 + choose.below(3) : 0), y(m * c.n, 0);
  fill_activations(choose, random, &bias, c.n);
  const bool has_bias = fault == 1 || choose.one_in(2);
  const float low = fault == 2 ? NAN : -static_cast<float>(choose.below(9));
  const float high = fault == 3 ? low - 1 : choose.one_in(4) ? INFINITY : low + choose.below(9);
  y.set(0, 12345.0f);
  const int code = eb_w4_layer(handle, fault == 4 ? 2 : family, alone,
                               has_bias ? bias.at() : nullptr, low, high, m, x.at(), y.at());
  const int wanted = fault == 1 ? EB_ALIGNMENT : fault >= 2 && fault <= 4 ? EB_SHAPE : EB_OK;
  demand(code == wanted, "layer returned, wanted, fault", code, wanted, fault);
  if (code != EB_OK) {
    demand(y.get(0) == 12345.0f, "a refused call wrote", code);
    return;
  }
  for (int64_t i = 0; i < m * c.n; ++i) {
    const float sum = sums.get(i) + (has_bias ? bias.get(i % c.n) : 0.0f), got = y.get(i);
    const bool is_so =
        std::isnan(sum) ? std::isnan(got) : got == std::min(std::max(sum, low), high);
    demand(is_so, "epilogue", c.n, c.k, i);
  }
}

void fuzz_linear(Choices& choose, std::mt19937& random, const Case& c, const void* handle) {
  const int family = static_cast<int>(choose.below(2));
  const auto door = family ? eb_w4a16_linear : eb_w4a8_linear;
  const int64_t work = choose.one_in(64) ? kPoolWork : kMostWork;
  int64_t m = 1 + choose.below(choose.one_in(4) ? 300 : 20);
  m = std::max<int64_t>(1, std::min(m, work / (c.n * c.k)));
  const int fault = static_cast<int>(choose.below(24));
  Exact<float> x(m * c.k, fault == 5 ? 1 + choose.below(3) : 0);
  Exact<float> y(m * c.n, fault == 6 ? 1 + choose.below(3) : 0);
  fill_activations(choose, random, &x, m * c.k);
  for (int64_t i = 0; i < m * c.n; ++i) y.set(i, 12345.0f);
  const int64_t said = fault == 1 ? wild_size(choose) : m;
  const int code = door(fault == 2 ? nullptr : handle, said, fault == 3 ? nullptr : x.at(),
                        fault == 4 ? nullptr : y.at());
  const int wanted = fault == 1                 ? EB_SHAPE
                     : fault >= 2 && fault <= 4 ? EB_NULL
                     : fault == 5 || fault == 6 ? EB_ALIGNMENT
                                                : EB_OK;
  demand(code == wanted, "linear returned, wanted, fault", code, wanted, fault);
  if (code == EB_OK && c.is_tame) check_answer(c, x, y, m, kLevels[family]);
  if (code != EB_OK) demand(y.get(0) == 12345.0f, "a refused call wrote", code);
  if (code == EB_OK) fuzz_layer(choose, random, c, handle, family, m, x, y);
}

// The weights as numbers, fp32 exactly; refused where a pointer or the number is wrong.
void fuzz_numbers(Choices& choose, const Case& c, const void* handle) {
  const int fault = static_cast<int>(choose.below(16));
  const bool is_narrow = choose.below(2);
  Exact<uint16_t> narrow(is_narrow ? c.n * c.k : 0, fault == 1);
  Exact<float> wide(is_narrow ? 0 : c.n * c.k, fault == 1 ? 1 + choose.below(3) : 0);
  void* const y = is_narrow ? static_cast<void*>(narrow.at()) : wide.at();
  const int number = fault == 2 ? 2 + static_cast<int>(choose.word()) : is_narrow;
  const int code =
      eb_w4_dequantize(fault == 3 ? nullptr : handle, number, fault == 4 ? nullptr : y);
  const int wanted = fault == 1                 ? EB_ALIGNMENT
                     : fault == 2               ? EB_SHAPE
                     : fault == 3 || fault == 4 ? EB_NULL
                                                : EB_OK;
  demand(code == wanted, "dequantize returned, wanted, fault", code, wanted, fault);
  if (code != EB_OK || is_narrow || !c.is_tame) return;
  for (int64_t i = 0; i < c.n * c.k; ++i) demand(wide.get(i) == c.dense[i], "weight", c.n, c.k, i);
}

// Overwrites bytes of the packed weights: any answer will do, but no crash.
void spoil_bytes(std::mt19937& random, void* handle, Case* c) {
  const uint8_t* bytes = nullptr;
  size_t size = 0;
  demand(eb_w4_bytes(handle, &bytes, &size) == EB_OK, "bytes");
  for (int i = 0; i < 200; ++i) const_cast<uint8_t*>(bytes)[random() % size] = random() & 0xff;
  c->is_tame = false;
}

enum Fault { kNone, kNull, kSide, kOddK, kGroup, kScale, kZero, kAlign, kFaults };

int wanted_code(Fault fault) {
  constexpr int kCodes[kFaults] = {EB_OK,    EB_NULL,  EB_SHAPE, EB_SHAPE,
                                   EB_GROUP, EB_SCALE, EB_ZERO,  EB_ALIGNMENT};
  return kCodes[fault];
}

void fuzz_weights(Choices& choose, std::mt19937& random) {
  Case c{};
  choose_shape(choose, &c);
  const auto fault = choose.one_in(3) ? static_cast<Fault>(choose.below(kFaults)) : kNone;
  const int64_t groups = c.k / c.group, count = c.n * groups;
  Exact<uint8_t> qweight(c.n * c.k / 2, 0), zero(count, 0);
  Exact<uint16_t> scale(count, fault == kAlign ? 1 : 0);
  const bool is_any = choose.one_in(4);
  for (int64_t i = 0; i < c.n * c.k / 2; ++i) qweight.set(i, static_cast<uint8_t>(random()));
  for (int64_t i = 0; i < count; ++i) scale.set(i, finite_half(random, is_any));
  for (int64_t i = 0; i < count; ++i) zero.set(i, random() % 16);
  if (fault == kScale) scale.set(random() % count, 0x7c00 | (random() & 0x83ff));
  if (fault == kZero) zero.set(random() % count, static_cast<uint8_t>(16 + random() % 240));
  int64_t n = c.n, k = c.k, group = c.group;
  if (fault == kSide) (choose.below(2) ? n : k) = wild_size(choose);
  if (fault == kOddK) k -= 1;
  if (fault == kGroup) {
    constexpr int64_t kBad[] = {0, -32, 1, 16, 48, 127, 256, INT64_MIN, INT64_MAX, -1};
    group = kBad[choose.below(10)];
    if (group == k) group = k + 2;
  }
  const uint32_t missing = fault == kNull ? 1 + choose.below(4) : 0;
  void* const untouched = &c;
  void* handle = untouched;
  const int code =
      eb_w4_pack(missing == 1 ? nullptr : qweight.at(), missing == 2 ? nullptr : scale.at(),
                 missing == 3 ? nullptr : zero.at(), n, k, group, missing == 4 ? nullptr : &handle);
  demand(code == wanted_code(fault), "pack returned, wanted, fault", code, wanted_code(fault),
         fault);
  if (code != EB_OK) {
    demand(handle == untouched, "a refused pack wrote its handle", code);
    return;
  }
  c.is_tame = true;
  c.dense.resize(c.n * c.k);
  for (int64_t i = 0; i < c.n * c.k; ++i) {
    const int64_t at = i / c.k * groups + i % c.k / c.group;
    const int level = qweight.get(i / 2) >> (i % 2 * 4) & 15;
    c.dense[i] = edgebench::float_of_half(scale.get(at)) * (level - zero.get(at));
  }
  for (uint32_t calls = 1 + choose.below(3); calls > 0; --calls) {
    if (choose.one_in(8)) spoil_bytes(random, handle, &c);
    fuzz_linear(choose, random, c, handle);
    if (choose.one_in(4)) fuzz_numbers(choose, c, handle);
  }
  eb_w4_free(handle);
}

// The settings of the process, right and wrong.
void fuzz_settings(Choices& choose) {
  const int value = choose.below(2) ? static_cast<int>(choose.below(8)) - 2
                                    : static_cast<int>(choose.word() << 16 | choose.word());
  const bool is_isa = eb_isa_supported(value);
  demand((eb_force_isa(value) == EB_OK) == is_isa, "force_isa", value);
  if (value < 1 || value > 256) demand(eb_set_threads(value) == EB_THREADS, "threads", value);
  if (value >= 1 && value < 4) demand(eb_set_threads(value) == EB_OK, "threads", value);
  const bool is_distance = value >= 0 && value <= 1 << 20;
  demand((eb_set_prefetch(value) == EB_OK) == is_distance, "prefetch", value);
  const int family = static_cast<int>(choose.below(2));
  const bool is_few = eb_set_few_tokens(family, value) == EB_OK;
  demand(is_few == (value >= 1), "few tokens", family, value);
  if (is_few) demand(eb_few_tokens(family) <= value, "more tokens than were set", value);
  if (value < 0) demand(eb_set_affinity(&value, 1) == EB_AFFINITY, "affinity", value);
}

void fuzz_ceilings(Choices& choose) {
  void* buffer = nullptr;
  constexpr size_t kUnit = size_t{2} << 20;
  const size_t sizes[] = {0, 1, kUnit - 1, kUnit + 4096, SIZE_MAX, SIZE_MAX - kUnit + 1, kUnit};
  const auto which = choose.below(7);
  const int code = eb_ceiling_buffer(sizes[which], &buffer);
  const int wanted = which == 6 ? EB_OK : which == 5 ? EB_MEMORY : EB_SHAPE;
  demand(code == wanted, "ceiling buffer", code, wanted, which);
  demand(eb_ceiling_buffer(kUnit, nullptr) == EB_NULL, "ceiling buffer, null");
  double value = 0;
  const char* name = nullptr;
  const int kind = static_cast<int>(choose.below(6)) - 1;
  const int64_t budget = choose.below(2) ? 1000 : -static_cast<int64_t>(choose.below(2));
  const int answer = eb_ceiling(kind, buffer, budget, &value, &name);
  if (budget < 1) demand(answer == EB_SHAPE, "budget", answer, budget);
  if (answer == EB_OK) demand(std::isfinite(value) && value > 0 && name, "ceiling", kind);
  demand(eb_ceiling(kind, buffer, 1000, nullptr, &name) == EB_NULL, "ceiling, null", kind);
  eb_ceiling_buffer_free(buffer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choose(data, size);
  std::mt19937 random(choose.word());
  const uint32_t door = choose.below(64);
  if (door == 0) fuzz_ceilings(choose);
  if (door < 8) fuzz_settings(choose);
  // `demand` with its defaults: a pointer to it would have none.
  const auto demanded = [](bool holds, const char* what, auto... values) {
    demand(holds, what, static_cast<int64_t>(values)...);
  };
  if (door < 32) {
    fuzz_weights(choose, random);
  } else if (door < 40) {
    fuzz_step::rows(choose, random, demanded);
  } else {
    const fuzz_step::Decoder decoder(choose.below(3), random);
    for (uint32_t calls = 1 + choose.below(3); calls > 0; --calls) {
      fuzz_step::step(choose, decoder, demanded);
    }
  }
  return 0;
}
