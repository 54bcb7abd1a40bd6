// The doors of the decode step: check arguments, take the pool, call the room that does the work.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "decoder.h"
#include "dispatch.h"
#include "doors.h"
#include "guarded.h"
#include "pool.h"
#include "token_attention.h"

namespace {

using edgebench::Decoder;
using edgebench::guarded;
using edgebench::NewTokens;
using edgebench::Pool;
using edgebench::StepOps;

constexpr int64_t kMaxSide = int64_t{1} << 30;
constexpr int64_t kMaxElements = int64_t{1} << 40;
constexpr int64_t kElementsPerTask = 1 << 13;
constexpr int64_t kInlineElements = 1 << 15;  // a few us: not worth waking anyone

bool is_family(int family) { return family == edgebench::kA8 || family == edgebench::kA16; }

bool are_sides(int64_t rows, int64_t n) {
  return rows >= 1 && n >= 1 && rows <= kMaxSide && n <= kMaxSide && rows <= kMaxElements / n;
}

// body(row) for every row, a few rows a task.
template <typename Body>
void for_rows(int alone, int64_t rows, int64_t n, Body body) {
  Pool& threads = edgebench::pool();
  const std::lock_guard<std::mutex> lock(threads.mutex());
  if (alone != 0 || rows * n <= kInlineElements) {
    for (int64_t row = 0; row < rows; ++row) body(row);
    return;
  }
  struct Job {
    Body& body;
    int64_t rows, rows_per_task;
  } job{body, rows, std::max<int64_t>(1, kElementsPerTask / n)};
  const auto task = [](void* context, int /*thread*/, uint32_t index) {
    const Job& mine = *static_cast<const Job*>(context);
    const int64_t first = index * mine.rows_per_task;
    const int64_t last = std::min(mine.rows, first + mine.rows_per_task);
    for (int64_t row = first; row < last; ++row) mine.body(row);
  };
  const int64_t tasks = (rows + job.rows_per_task - 1) / job.rows_per_task;
  threads.run(static_cast<uint32_t>(tasks), task, &job);
}

}  // namespace

EB_DOOR int eb_add_norm(int alone, int64_t rows, int64_t n, float* x, const float* delta,
                        const float* weight, float eps, float* y) {
  if (x == nullptr || weight == nullptr || y == nullptr) return EB_NULL;
  if (!are_sides(rows, n) || !(eps >= 0.0f) || !std::isfinite(eps)) return EB_SHAPE;
  return guarded([&] {
    const StepOps& ops = *edgebench::current_isa().ops->step;
    for_rows(alone, rows, n, [&](int64_t row) {
      const int64_t at = row * n;
      ops.add_norm(x + at, delta == nullptr ? nullptr : delta + at, weight, eps, n, y + at);
    });
    return EB_OK;
  });
}

EB_DOOR int eb_swiglu(int alone, int64_t rows, int64_t n, const float* gate_up, float* y) {
  if (gate_up == nullptr || y == nullptr) return EB_NULL;
  if (!are_sides(rows, n)) return EB_SHAPE;
  return guarded([&] {
    const StepOps& ops = *edgebench::current_isa().ops->step;
    for_rows(alone, rows, n,
             [&](int64_t row) { ops.swiglu(gate_up + row * 2 * n, n, y + row * n); });
    return EB_OK;
  });
}

EB_DOOR int eb_argmax(int64_t rows, int64_t n, const float* x, int64_t* ids) {
  if (x == nullptr || ids == nullptr) return EB_NULL;
  if (!are_sides(rows, n)) return EB_SHAPE;
  return guarded([&] {
    Pool& threads = edgebench::pool();
    const std::lock_guard<std::mutex> lock(threads.mutex());
    return edgebench::argmax_rows(threads, rows, n, x, ids) ? EB_OK : EB_NOT_FINITE;
  });
}

EB_DOOR int eb_attention(int alone, const EbCache* cache, int64_t layer, int64_t sequences,
                         int64_t column, const int32_t* starts, const int32_t* counts, float* qkv,
                         float* mixed) {
  if (cache == nullptr || qkv == nullptr || mixed == nullptr) return EB_NULL;
  const NewTokens tokens{sequences, column, starts, counts};
  int error = edgebench::check_cache(*cache);
  if (error == EB_OK) error = edgebench::check_tokens(*cache, tokens);
  if (error != EB_OK) return error;
  if (layer < 0 || layer >= cache->layers) return EB_SHAPE;
  return guarded([&] {
    Pool& threads = edgebench::pool();
    const std::lock_guard<std::mutex> lock(threads.mutex());
    edgebench::token_attention(threads, alone != 0, *cache, layer, tokens, qkv, mixed);
    return EB_OK;
  });
}

EB_DOOR int eb_decoder_new(const EbModel* model, void** handle) {
  if (model == nullptr || handle == nullptr) return EB_NULL;
  const int error = Decoder::check(*model);
  if (error != EB_OK) return error;
  return guarded([&] {
    *handle = new Decoder(*model);
    return EB_OK;
  });
}

EB_DOOR void eb_decoder_free(void* handle) { delete static_cast<Decoder*>(handle); }

EB_DOOR int eb_decoder_step(void* handle, int family, int head_family, int64_t sequences,
                            int64_t column, const int32_t* starts, const int32_t* counts,
                            const int64_t* tokens, int every, float* logits, int64_t* ids) {
  if (handle == nullptr || tokens == nullptr) return EB_NULL;
  auto& decoder = *static_cast<Decoder*>(handle);
  if (!is_family(family) || !is_family(head_family)) return EB_SHAPE;
  const NewTokens added{sequences, column, starts, counts};
  const int error = edgebench::check_tokens(decoder.model().cache, added);
  if (error != EB_OK) return error;
  const int64_t rows = added.rows();
  for (int64_t row = 0; row < rows; ++row) {
    if (tokens[row] < 0 || tokens[row] >= decoder.model().vocabulary) return EB_TOKEN;
  }
  return guarded([&] {
    const Decoder::Paths paths{static_cast<edgebench::Family>(family),
                               static_cast<edgebench::Family>(head_family)};
    const bool is_finite = decoder.step(paths, added, tokens, every != 0, logits, ids);
    return is_finite ? EB_OK : EB_NOT_FINITE;
  });
}
