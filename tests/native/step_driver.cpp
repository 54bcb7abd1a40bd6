// Drives the doors of the decode step on awkward sizes, for the sanitizers: every buffer ends
// exactly where it must, sequences are ragged, arguments that must be refused are refused.
//
// Each instruction set's logits are held against the scalar one's: both compute the same numbers in
// another order, in float32, through two layers of magnitude 1, so 1e-3 is far above rounding and
// far below any wrong index. Exact values are the business of tests/kernels and tests/engine.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "../../kernels/csrc/cpu/doors.h"

namespace {

constexpr int64_t kLayers = 2, kHeads = 6, kKvHeads = 2, kDim = 8, kHidden = 48, kInner = 80;
constexpr int64_t kVocabulary = 67, kMaxBatch = 3, kMaxLength = 21;
constexpr int64_t kQkv = (kHeads + 2 * kKvHeads) * kDim;
constexpr int64_t kCells = kLayers * 2 * kMaxBatch * kKvHeads * kMaxLength;  // of kDim values each
constexpr uint16_t kHalfOne = 0x3c00;
constexpr int64_t kCellBytes[] = {4, 2, 1};  // by EbCache.cell
constexpr double kTolerance = 1e-3;

void expect(bool is_so, const char* what, int64_t a = 0, int64_t b = 0) {
  if (is_so) return;
  std::fprintf(stderr, "step_driver: %s (%lld, %lld) on %s, %d threads\n", what,
               static_cast<long long>(a), static_cast<long long>(b), eb_isa(), eb_threads());
  std::exit(1);
}

void* pack(int64_t n, int64_t k, std::mt19937& random) {
  const int64_t group = k;  // one for each row
  std::vector<uint8_t> qweight(n * k / 2), zero(n * (k / group), 8);
  std::vector<uint16_t> scale(n * (k / group), 0x2400);  // 2^-6
  for (auto& byte : qweight) byte = static_cast<uint8_t>(random());
  void* handle = nullptr;
  expect(eb_w4_pack(qweight.data(), scale.data(), zero.data(), n, k, group, &handle) == EB_OK,
         "pack", n, k);
  return handle;
}

struct Model {
  std::vector<void*> weights;
  std::vector<float> norm, rotations, scales;
  std::vector<uint16_t> embedding;
  std::vector<uint8_t> cells;
  EbLayer layers[kLayers];
  EbModel model;

  Model(int64_t cell, std::mt19937& random) : norm(kHidden, 1.0f), rotations(kMaxLength * kDim) {
    for (int64_t p = 0; p < kMaxLength; ++p) {
      for (int64_t i = 0; i < kDim / 2; ++i) {
        rotations[p * kDim + i] = std::cos(0.3f * p / (1 + i));
        rotations[p * kDim + kDim / 2 + i] = std::sin(0.3f * p / (1 + i));
      }
    }
    embedding.resize(kVocabulary * kHidden);
    for (auto& half : embedding) {
      half = static_cast<uint16_t>(kHalfOne - 0x400 + random() % 0x400) | (random() % 2 << 15);
    }
    cells.resize(kCells * kDim * kCellBytes[cell]);
    if (cell == 2) scales.resize(kCells);
    for (auto& layer : layers) {
      layer = {keep(pack(kQkv, kHidden, random)),
               keep(pack(kHidden, kHeads * kDim, random)),
               keep(pack(2 * kInner, kHidden, random)),
               keep(pack(kHidden, kInner, random)),
               norm.data(),
               norm.data()};
    }
    const EbCache cache{cells.data(),     cell == 2 ? scales.data() : nullptr,
                        rotations.data(), cell,
                        kLayers,          kMaxBatch,
                        kMaxLength,       kHeads,
                        kKvHeads,         kDim};
    model = {embedding.data(),
             layers,
             norm.data(),
             keep(pack(kVocabulary, kHidden, random)),
             kVocabulary,
             kHidden,
             kInner,
             1e-5f,
             cache};
  }
  ~Model() {
    for (void* handle : weights) eb_w4_free(handle);
  }
  void* keep(void* handle) {
    weights.push_back(handle);
    return handle;
  }
};

// A ragged prefill of three, then steps to the end of the cache; all logits.
std::vector<float> generate(int64_t cell, int family) {
  std::mt19937 random(7);
  Model all(cell, random);
  void* decoder = nullptr;
  expect(eb_decoder_new(&all.model, &decoder) == EB_OK, "decoder refused", cell);
  const std::vector<int32_t> counts{5, 1, 3}, starts{0, 4, 2};
  std::vector<int64_t> prompt(9);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int64_t>(i * 7 % kVocabulary);
  std::vector<float> found;
  std::vector<float> logits(kMaxBatch * kVocabulary);
  std::vector<int64_t> ids(kMaxBatch);
  expect(eb_decoder_step(decoder, family, 1, 3, 4, starts.data(), counts.data(), prompt.data(), 0,
                         logits.data(), ids.data()) == EB_OK,
         "prefill refused", cell, family);
  for (int64_t column = 5; column <= kMaxLength; ++column) {
    found.insert(found.end(), logits.begin(), logits.end());
    const std::vector<int64_t> fixed{column, column + 1, column + 2};  // the same on every ISA
    const int error = eb_decoder_step(decoder, family, 1, 3, column, starts.data(), nullptr,
                                      fixed.data(), 0, logits.data(), ids.data());
    expect(error == (column < kMaxLength ? EB_OK : EB_COLUMN), "step", column, error);
    expect(*std::max_element(ids.begin(), ids.end()) < kVocabulary, "an id past the vocabulary");
  }
  std::vector<float> every(9 * kVocabulary);
  std::vector<int64_t> every_id(9);
  expect(eb_decoder_step(decoder, family, 0, 3, 4, starts.data(), counts.data(), prompt.data(), 1,
                         every.data(), every_id.data()) == EB_OK,
         "every row", cell, family);
  eb_decoder_free(decoder);
  return found;
}

void refuse() {
  std::mt19937 random(8);
  Model all(1, random);
  void* decoder = nullptr;
  const auto refused = [&](const char* what, int expected, void (*spoil)(EbModel&)) {
    EbModel model = all.model;
    spoil(model);
    const int error = eb_decoder_new(&model, &decoder);
    expect(error == expected, what, error, expected);
  };
  refused("no embedding", EB_NULL, [](EbModel& m) { m.embedding = nullptr; });
  refused("no layers", EB_NULL, [](EbModel& m) { m.layers = nullptr; });
  refused("no cells", EB_NULL, [](EbModel& m) { m.cache.cells = nullptr; });
  refused("no scales", EB_NULL, [](EbModel& m) { m.cache.cell = 2; });
  refused("no such cell", EB_SHAPE, [](EbModel& m) { m.cache.cell = 3; });
  refused("heads", EB_SHAPE, [](EbModel& m) { m.cache.kv_heads = 4; });
  refused("dim", EB_SHAPE, [](EbModel& m) { m.cache.dim = 12; });
  refused("hidden", EB_SHAPE, [](EbModel& m) { m.hidden = 64; });
  refused("inner", EB_SHAPE, [](EbModel& m) { m.inner = 96; });
  refused("vocabulary", EB_SHAPE, [](EbModel& m) { m.vocabulary = 68; });
  refused("eps", EB_SHAPE, [](EbModel& m) { m.eps = NAN; });
  expect(eb_decoder_new(nullptr, &decoder) == EB_NULL, "null model");
  expect(eb_decoder_new(&all.model, nullptr) == EB_NULL, "null handle");
  expect(eb_decoder_new(&all.model, &decoder) == EB_OK, "good model");
  const std::vector<int32_t> starts{0, 0, 0, 0};
  const std::vector<int64_t> tokens{1, 2, 3, 4};
  const auto step = [&](int64_t sequences, int64_t column, const std::vector<int64_t>& given) {
    return eb_decoder_step(decoder, 0, 0, sequences, column, starts.data(), nullptr, given.data(),
                           0, nullptr, nullptr);
  };
  expect(step(4, 0, tokens) == EB_SHAPE, "more sequences than the cache has");
  expect(step(0, 0, tokens) == EB_SHAPE, "no sequence");
  expect(step(1, -1, tokens) == EB_COLUMN, "column before the cache");
  expect(step(1, kMaxLength, tokens) == EB_COLUMN, "column after the cache");
  expect(step(1, 0, {kVocabulary}) == EB_TOKEN, "token");
  expect(step(1, 0, {-1}) == EB_TOKEN, "negative token");
  expect(eb_decoder_step(decoder, 2, 0, 1, 0, starts.data(), nullptr, tokens.data(), 0, nullptr,
                         nullptr) == EB_SHAPE,
         "family");
  expect(eb_decoder_step(nullptr, 0, 0, 1, 0, starts.data(), nullptr, tokens.data(), 0, nullptr,
                         nullptr) == EB_NULL,
         "null decoder");
  eb_decoder_free(decoder);
}

// What stands between the linears, at sizes around the lanes and past what runs on one thread.
void rows_alone_and_together() {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  for (const int64_t n : {1, 3, 15, 16, 17, 33, 600}) {
    for (const int64_t rows : {1, 2, 129}) {
      std::vector<float> x(rows * n), delta(rows * n), weight(n, 1.0f), y(rows * n);
      for (auto& value : x) value = normal(random);
      for (const int alone : {0, 1}) {
        expect(eb_add_norm(alone, rows, n, x.data(), delta.data(), weight.data(), 1e-5f,
                           y.data()) == EB_OK,
               "add_norm", rows, n);
        double squares = 0;
        for (int64_t i = 0; i < n; ++i) squares += double{y[i]} * y[i] / n;
        expect(std::fabs(squares - 1) < 0.05 || n == 1, "norm is not 1", rows, n);
        std::vector<float> both(rows * 2 * n, 1.0f), gated(rows * n);
        expect(eb_swiglu(alone, rows, n, both.data(), gated.data()) == EB_OK, "swiglu", rows, n);
        for (const float value : gated) expect(std::fabs(value - 0.7310586f) < 1e-6f, "silu(1)");
      }
      std::vector<int64_t> ids(rows);
      x[rows * n - 1] = 99.0f;
      expect(eb_argmax(rows, n, x.data(), ids.data()) == EB_OK, "argmax", rows, n);
      expect(ids[rows - 1] == n - 1, "the largest is the last", rows, n);
      x[0] = NAN;
      expect(eb_argmax(rows, n, x.data(), ids.data()) == EB_NOT_FINITE, "NaN", rows, n);
    }
  }
}

}  // namespace

int main() {
  for (const int threads : {1, 3}) {
    expect(eb_set_threads(threads) == EB_OK, "threads");
    for (int64_t cell = 0; cell < 3; ++cell) {
      for (const int family : {0, 1}) {
        expect(eb_force_isa(0) == EB_OK, "scalar");
        const std::vector<float> expected = generate(cell, family);
        double peak = 0;
        for (const float value : expected) peak = std::max(peak, double{std::fabs(value)});
        for (int isa = 1; eb_isa_name(isa) != nullptr; ++isa) {
          if (!eb_isa_supported(isa)) continue;
          expect(eb_force_isa(isa) == EB_OK, "isa", isa);
          const std::vector<float> found = generate(cell, family);
          for (size_t i = 0; i < found.size(); ++i) {
            // int8 values and cells are rounded: now and then one falls to the other side.
            const double most = family == 0 || cell == 2 ? 0.05 : kTolerance;
            expect(std::fabs(found[i] - expected[i]) <= most * peak, "logit", i, cell);
          }
        }
      }
    }
  }
  for (int isa = 0; eb_isa_name(isa) != nullptr; ++isa) {
    if (!eb_isa_supported(isa)) continue;
    expect(eb_force_isa(isa) == EB_OK, "isa", isa);
    refuse();
    rows_alone_and_together();
    std::printf("step_driver: %s ok\n", eb_isa());
  }
  std::vector<std::thread> callers;  // each with its own model: the pool serves one at a time
  for (int caller = 0; caller < 3; ++caller) callers.emplace_back([] { generate(1, 1); });
  for (auto& caller : callers) caller.join();
  return 0;
}
