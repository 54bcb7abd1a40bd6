// The step of decoder.h. Residual add and norm run as the prologue of the linear that reads them,
// and so does SwiGLU: each row is made, quantized and left in cache by one thread, and a layer
// costs the pool four linears and one attention.
#include "decoder.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "dispatch.h"
#include "pack.h"
#include "w4_linear.h"

namespace edgebench {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 24;
constexpr int64_t kInlineElements = 1 << 16;  // a few us: not worth waking anyone

struct Norm {
  const StepOps& ops;
  float* x;
  const float* delta;  // null before the first layer
  const float* weight;
  float eps;
  int64_t n;
  float* y;
};

void norm_row(void* context, int64_t row) {
  const Norm& norm = *static_cast<const Norm*>(context);
  const int64_t at = row * norm.n;
  norm.ops.add_norm(norm.x + at, norm.delta == nullptr ? nullptr : norm.delta + at, norm.weight,
                    norm.eps, norm.n, norm.y + at);
}

struct Swiglu {
  const StepOps& ops;
  const float* gate_up;
  int64_t n;
  float* y;
};

void swiglu_row(void* context, int64_t row) {
  const Swiglu& gate = *static_cast<const Swiglu*>(context);
  gate.ops.swiglu(gate.gate_up + row * 2 * gate.n, gate.n, gate.y + row * gate.n);
}

struct Argmax {
  const StepOps& ops;
  const float* x;
  int64_t n;
  int64_t* ids;
  std::atomic<bool> is_finite;
};

void argmax_task(void* context, int /*thread*/, uint32_t row) {
  Argmax& job = *static_cast<Argmax*>(context);
  float best = 0.0f;
  job.ids[row] = job.ops.argmax(job.x + row * job.n, job.n, &best);
  if (!std::isfinite(best)) job.is_finite.store(false, std::memory_order_relaxed);
}

const PackedW4& weights_of(const void* handle) { return *static_cast<const PackedW4*>(handle); }

bool is_shape(const void* handle, int64_t n, int64_t k) {
  const PackedW4& weights = weights_of(handle);
  return weights.n == n && weights.k == k;
}

bool is_width(int64_t width) { return width >= 1 && width <= kMaxWidth; }

}  // namespace

bool argmax_rows(Pool& threads, int64_t rows, int64_t n, const float* x, int64_t* ids) {
  Argmax job{*current_isa().ops->step, x, n, ids, {true}};
  if (rows * n <= kInlineElements) {
    for (int64_t row = 0; row < rows; ++row) argmax_task(&job, 0, static_cast<uint32_t>(row));
  } else {
    threads.run(static_cast<uint32_t>(rows), argmax_task, &job);
  }
  return job.is_finite.load();
}

int Decoder::check(const EbModel& m) {
  if (m.embedding == nullptr || m.layers == nullptr || m.final_norm == nullptr ||
      m.lm_head == nullptr) {
    return EB_NULL;
  }
  const int error = check_cache(m.cache);
  if (error != EB_OK) return error;
  if (!is_width(m.vocabulary) || !is_width(m.hidden) || !is_width(m.inner)) return EB_SHAPE;
  if (!(m.eps > 0.0f) || !std::isfinite(m.eps)) return EB_SHAPE;
  const int64_t mixed = m.cache.heads * m.cache.dim;
  const int64_t qkv = mixed + 2 * m.cache.kv_heads * m.cache.dim;
  for (int64_t index = 0; index < m.cache.layers; ++index) {
    const EbLayer& layer = m.layers[index];
    if (layer.qkv == nullptr || layer.o == nullptr || layer.gate_up == nullptr ||
        layer.down == nullptr || layer.attention_norm == nullptr || layer.mlp_norm == nullptr) {
      return EB_NULL;
    }
    if (!is_shape(layer.qkv, qkv, m.hidden) || !is_shape(layer.o, m.hidden, mixed) ||
        !is_shape(layer.gate_up, 2 * m.inner, m.hidden) ||
        !is_shape(layer.down, m.hidden, m.inner)) {
      return EB_SHAPE;
    }
  }
  return is_shape(m.lm_head, m.vocabulary, m.hidden) ? EB_OK : EB_SHAPE;
}

Decoder::Decoder(const EbModel& model)
    : layers_(model.layers, model.layers + model.cache.layers), model_(model) {
  model_.layers = layers_.data();
}

void Decoder::reserve(int64_t rows) {
  if (rows <= rows_) return;
  const EbCache& cache = model_.cache;
  const int64_t mixed = cache.heads * cache.dim;
  rows_ = 0;  // until all have grown
  for (std::vector<float>* const one : {&x_, &delta_, &normed_}) one->resize(rows * model_.hidden);
  qkv_.resize(rows * (mixed + 2 * cache.kv_heads * cache.dim));
  mixed_.resize(rows * mixed);
  gate_up_.resize(rows * 2 * model_.inner);
  gated_.resize(rows * model_.inner);
  rows_ = rows;
}

void Decoder::embed(int64_t rows, const int64_t* tokens) {
  const StepOps& ops = *current_isa().ops->step;
  const int64_t n = model_.hidden;
  for (int64_t row = 0; row < rows; ++row) {
    ops.widen(model_.embedding + tokens[row] * n, n, x_.data() + row * n);
  }
}

// Moves the last row of each sequence to row `sequence`: never to a row that is still needed.
void Decoder::keep_last_rows(const NewTokens& added) {
  const int64_t n = model_.hidden;
  int64_t last = -1;
  for (int64_t sequence = 0; sequence < added.sequences; ++sequence) {
    last += added.count(sequence);
    if (last == sequence) continue;
    std::copy_n(x_.data() + last * n, n, x_.data() + sequence * n);
    std::copy_n(delta_.data() + last * n, n, delta_.data() + sequence * n);
  }
}

bool Decoder::step(Paths paths, const NewTokens& added, const int64_t* tokens, bool every,
                   float* logits, int64_t* ids) {
  Pool& threads = pool();
  const std::lock_guard<std::mutex> lock(threads.mutex());
  int64_t rows = added.rows();
  reserve(rows);
  embed(rows, tokens);
  const StepOps& ops = *current_isa().ops->step;
  Norm norm{ops, x_.data(), nullptr, nullptr, model_.eps, model_.hidden, normed_.data()};
  Swiglu swiglu{ops, gate_up_.data(), model_.inner, gated_.data()};
  const auto normed_linear = [&](const void* weights, Family family, const float* norm_weight,
                                 float* y) {
    norm.weight = norm_weight;
    w4_linear_held(threads, weights_of(weights), family, rows, normed_.data(), y,
                   {norm_row, &norm});
    norm.delta = delta_.data();
  };
  for (size_t index = 0; index < layers_.size(); ++index) {
    const EbLayer& layer = layers_[index];
    normed_linear(layer.qkv, paths.layers, layer.attention_norm, qkv_.data());
    token_attention(threads, false, model_.cache, static_cast<int64_t>(index), added, qkv_.data(),
                    mixed_.data());
    w4_linear_held(threads, weights_of(layer.o), paths.layers, rows, mixed_.data(), delta_.data(),
                   {});
    normed_linear(layer.gate_up, paths.layers, layer.mlp_norm, gate_up_.data());
    w4_linear_held(threads, weights_of(layer.down), paths.layers, rows, gated_.data(),
                   delta_.data(), {swiglu_row, &swiglu});
  }
  if (!every && rows > added.sequences) {
    keep_last_rows(added);
    rows = added.sequences;
  }
  if (logits == nullptr) {
    logits_.resize(std::max<size_t>(logits_.size(), rows * model_.vocabulary));
    logits = logits_.data();
  }
  normed_linear(model_.lm_head, paths.head, model_.final_norm, logits);
  return ids == nullptr || argmax_rows(threads, rows, model_.vocabulary, logits, ids);
}

}  // namespace edgebench
