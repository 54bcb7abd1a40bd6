// Fuzzing of the decode step's doors: a small decoder, ragged sequences, every argument right or
// wrong; the very error promised, and buffers that end exactly where they must.
#ifndef EDGEBENCH_TESTS_FUZZ_STEP_H_
#define EDGEBENCH_TESTS_FUZZ_STEP_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "../../kernels/csrc/cpu/doors.h"

namespace fuzz_step {

constexpr int64_t kHeads = 2, kKvHeads = 1, kDim = 8, kHidden = 16, kInner = 32, kVocabulary = 11;
constexpr int64_t kMaxBatch = 3, kMaxLength = 9;
constexpr int64_t kCells = 2 * kMaxBatch * kKvHeads * kMaxLength;  // one layer
constexpr int64_t kCellBytes[] = {4, 2, 1};

class Decoder {
 public:
  Decoder(int64_t cell, std::mt19937& random)
      : norm_(kHidden, 1.0f),
        rotations_(kMaxLength * kDim, 0.5f),
        scales_(kCells),
        embedding_(kVocabulary * kHidden),
        cells_(kCells * kDim * kCellBytes[cell]) {
    for (auto& half : embedding_) half = static_cast<uint16_t>(random() & 0x83ff) | 9 << 10;
    constexpr int64_t kQkv = (kHeads + 2 * kKvHeads) * kDim;
    layer_ = {pack(kQkv, kHidden, random),
              pack(kHidden, kHeads * kDim, random),
              pack(2 * kInner, kHidden, random),
              pack(kHidden, kInner, random),
              norm_.data(),
              norm_.data()};
    const EbCache cache{cells_.data(),
                        cell == 2 ? scales_.data() : nullptr,
                        rotations_.data(),
                        cell,
                        1,
                        kMaxBatch,
                        kMaxLength,
                        kHeads,
                        kKvHeads,
                        kDim};
    const EbModel model{embedding_.data(),
                        &layer_,
                        norm_.data(),
                        pack(kVocabulary, kHidden, random),
                        kVocabulary,
                        kHidden,
                        kInner,
                        1e-5f,
                        cache};
    if (eb_decoder_new(&model, &handle_) != EB_OK) std::abort();
  }
  ~Decoder() {
    eb_decoder_free(handle_);
    for (void* weights : packed_) eb_w4_free(weights);
  }
  void* handle() const { return handle_; }

 private:
  void* pack(int64_t n, int64_t k, std::mt19937& random) {
    std::vector<uint8_t> qweight(n * k / 2), zero(n, 8);
    std::vector<uint16_t> scale(n, 0x2400);
    for (auto& byte : qweight) byte = static_cast<uint8_t>(random());
    void* handle = nullptr;
    if (eb_w4_pack(qweight.data(), scale.data(), zero.data(), n, k, k, &handle)) std::abort();
    packed_.push_back(handle);
    return handle;
  }

  std::vector<void*> packed_;
  std::vector<float> norm_, rotations_, scales_;
  std::vector<uint16_t> embedding_;
  std::vector<uint8_t> cells_;
  EbLayer layer_;
  void* handle_ = nullptr;
};

// One call; `demand` as in fuzz_doors.cpp.
template <class Choices, class Demand>
void step(Choices& choose, const Decoder& decoder, Demand demand) {
  const auto mostly = [&](int64_t good, int64_t wild) { return choose.one_in(16) ? wild : good; };
  const int64_t sequences = mostly(1 + choose.below(kMaxBatch), choose.below(2) * (kMaxBatch + 1));
  const int64_t column = mostly(choose.below(kMaxLength), choose.below(2) ? -1 : kMaxLength);
  const int family = static_cast<int>(mostly(choose.below(2), choose.below(2) ? -1 : 2));
  const bool has_counts = choose.below(2) != 0, every = choose.below(2) != 0;
  std::vector<int32_t> starts, counts;
  int64_t rows = 0;
  bool is_inside = true;
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t room = std::max<int64_t>(column, 0) + 1;
    const int64_t count = has_counts ? mostly(1 + choose.below(room), 0) : 1;
    const int64_t start = mostly(std::max<int64_t>(0, room - count), choose.below(2) ? -1 : room);
    counts.push_back(static_cast<int32_t>(count));
    starts.push_back(static_cast<int32_t>(start));
    is_inside &= count >= 1 && start >= 0 && start + count - 1 <= column;
    rows += count;
  }
  bool are_tokens = true;
  std::vector<int64_t> tokens;
  for (int64_t row = 0; row < rows; ++row) {
    tokens.push_back(mostly(choose.below(kVocabulary), choose.below(2) ? -1 : kVocabulary));
    are_tokens &= tokens.back() >= 0 && tokens.back() < kVocabulary;
  }
  tokens.shrink_to_fit();
  const int64_t outputs = every ? rows : sequences;
  std::vector<float> logits(outputs * kVocabulary);
  std::vector<int64_t> ids(outputs);
  const bool has_starts = !choose.one_in(32), has_tokens = !choose.one_in(32);
  static const int64_t kNothing = 0;  // an empty vector's pointer may be null
  const int64_t* const given = rows ? tokens.data() : &kNothing;
  const int code =
      eb_decoder_step(decoder.handle(), family, 1, sequences, column,
                      has_starts ? starts.data() : nullptr, has_counts ? counts.data() : nullptr,
                      has_tokens ? given : nullptr, every, logits.data(), ids.data());
  int wanted = EB_OK;
  if (!has_tokens) {
    wanted = EB_NULL;
  } else if (family < 0 || family > 1) {
    wanted = EB_SHAPE;
  } else if (!has_starts || sequences == 0) {
    // No sequence: the vector's pointer may itself be null.
    wanted = code == EB_NULL || sequences != 0 ? EB_NULL : EB_SHAPE;
  } else if (sequences > kMaxBatch) {
    wanted = EB_SHAPE;
  } else if (column < 0 || column >= kMaxLength || !is_inside) {
    wanted = EB_COLUMN;
  } else if (!are_tokens) {
    wanted = EB_TOKEN;
  }
  demand(code == wanted, "step returned, wanted", code, wanted, rows);
  if (code != EB_OK) return;
  for (int64_t at = 0; at < outputs; ++at) {
    const auto first = logits.begin() + at * kVocabulary;
    const auto largest = std::max_element(first, first + kVocabulary);
    demand(std::isfinite(*largest), "a logit is not finite", at);
    demand(ids[at] == largest - first, "not the largest logit's id", ids[at], largest - first);
  }
}

// The row operations, any size, buffers exact.
template <class Choices, class Demand>
void rows(Choices& choose, std::mt19937& random, Demand demand) {
  const int64_t count = 1 + choose.below(9), n = 1 + choose.below(choose.one_in(8) ? 6000 : 70);
  const int alone = static_cast<int>(choose.below(2));
  std::normal_distribution<float> normal;
  std::vector<float> x(count * n), delta(count * n), weight(n, 1.0f), y(count * n);
  for (auto& value : x) value = normal(random);
  const float eps = choose.one_in(16) ? -1.0f : 1e-5f;
  const int64_t said = choose.one_in(16) ? -1 : count;
  const int wanted = said < 1 ? EB_SHAPE : EB_OK;
  const float* const added = choose.below(2) ? delta.data() : nullptr;
  const int normed = eb_add_norm(alone, said, n, x.data(), added, weight.data(), eps, y.data());
  demand(normed == (eps < 0 ? EB_SHAPE : wanted), "add_norm", normed, count, n);
  std::vector<float> pairs(count * 2 * n, 0.5f);
  demand(eb_swiglu(alone, said, n, pairs.data(), y.data()) == wanted, "swiglu", count, n);
  std::vector<int64_t> ids(count);
  demand(eb_argmax(said, n, x.data(), ids.data()) == wanted, "argmax", count, n);
  if (wanted != EB_OK) return;
  for (int64_t row = 0; row < count; ++row) {
    const auto first = x.begin() + row * n;
    demand(ids[row] == std::max_element(first, first + n) - first, "argmax is elsewhere", row, n);
  }
}

}  // namespace fuzz_step

#endif  // EDGEBENCH_TESTS_FUZZ_STEP_H_
