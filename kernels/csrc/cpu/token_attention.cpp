// A task is one sequence's key-value head with all the queries that share it: it rotates them,
// stores its key and value and attends, touching nothing that another task touches.
#include "token_attention.h"

#include <algorithm>
#include <cmath>

#include "dispatch.h"

namespace edgebench {
namespace {

constexpr int64_t kMaxSide = int64_t{1} << 30;
constexpr int64_t kMaxDim = 4096;
constexpr int64_t kMaxHeads = 65536;
constexpr int64_t kInlineWork = 1 << 16;  // cells times queries, a few us: not worth waking anyone
constexpr size_t kCellBytes[] = {4, 2, 1};

struct Job {
  const EbCache& cache;
  const StepOps& ops;
  int64_t layer;
  int64_t column;
  const int32_t* starts;
  float* qkv;
  float* mixed;
  float scale;
  uint8_t* const* scratch;
};

void head_task(void* context, int thread, uint32_t index) {
  const Job& job = *static_cast<const Job*>(context);
  const EbCache& c = job.cache;
  const int64_t row = index / c.kv_heads, head = index % c.kv_heads;
  const int64_t queries = c.heads / c.kv_heads;
  // Heads of this layer's keys; the values' lie max_batch * kv_heads further.
  const int64_t key_head = (job.layer * 2 * c.max_batch + row) * c.kv_heads + head;
  const int64_t value_head = key_head + c.max_batch * c.kv_heads;
  const int64_t columns = c.max_length, cells = columns * c.dim;
  const size_t cell_bytes = kCellBytes[c.cell];
  auto* const bytes = static_cast<uint8_t*>(c.cells);
  const float* const rotation = c.rotations + (job.column - job.starts[row]) * c.dim;
  float* const qkv = job.qkv + row * (c.heads + 2 * c.kv_heads) * c.dim;
  HeadGroup group;
  group.query = qkv + head * queries * c.dim;
  group.key = qkv + (c.heads + head) * c.dim;
  group.value = qkv + (c.heads + c.kv_heads + head) * c.dim;
  group.cos = rotation;
  group.sin = rotation + c.dim / 2;
  group.keys = bytes + key_head * cells * cell_bytes;
  group.values = bytes + value_head * cells * cell_bytes;
  group.key_scales = c.scales == nullptr ? nullptr : c.scales + key_head * columns;
  group.value_scales = c.scales == nullptr ? nullptr : c.scales + value_head * columns;
  group.scores = reinterpret_cast<float*>(job.scratch[thread]);
  group.out = job.mixed + (row * c.heads + head * queries) * c.dim;
  group.first = job.starts[row];
  group.last = job.column;
  group.queries = static_cast<int>(queries);
  group.dim = static_cast<int>(c.dim);
  group.scale = job.scale;
  job.ops.append[c.cell](group);
  job.ops.attend[c.cell](group);
}

bool within(int64_t value, int64_t most) { return value >= 1 && value <= most; }

}  // namespace

int check_cache(const EbCache& c) {
  if (c.cells == nullptr || c.rotations == nullptr) return EB_NULL;
  if (c.cell < 0 || c.cell >= kCells) return EB_SHAPE;
  if ((c.scales != nullptr) != (c.cell == kCellI8)) return EB_NULL;
  if (!within(c.layers, kMaxHeads) || !within(c.max_batch, kMaxHeads)) return EB_SHAPE;
  if (!within(c.max_length, kMaxSide) || !within(c.dim, kMaxDim)) return EB_SHAPE;
  if (!within(c.heads, kMaxHeads) || !within(c.kv_heads, c.heads)) return EB_SHAPE;
  if (c.heads % c.kv_heads != 0 || c.dim % kHeadDimMultiple != 0) return EB_SHAPE;
  const double cells = 2.0 * c.layers * c.max_batch * c.kv_heads * c.max_length * c.dim;
  return cells < 1e15 ? EB_OK : EB_SHAPE;
}

int check_step(const EbCache& c, int64_t batch, int64_t column, const int32_t* starts) {
  if (starts == nullptr) return EB_NULL;
  if (!within(batch, c.max_batch)) return EB_SHAPE;
  if (column < 0 || column >= c.max_length) return EB_COLUMN;
  for (int64_t row = 0; row < batch; ++row) {
    if (starts[row] < 0 || starts[row] > column) return EB_COLUMN;
  }
  return EB_OK;
}

void token_attention(Pool& threads, const EbCache& cache, int64_t layer, int64_t batch,
                     int64_t column, const int32_t* starts, float* qkv, float* mixed) {
  uint8_t* scratch[kMaxThreads];
  const int64_t queries = cache.heads / cache.kv_heads;
  const size_t scores = sizeof(float) * queries * score_stride(column + 1);
  for (int thread = 0; thread < threads.threads(); ++thread) {
    scratch[thread] = threads.scratch(1 + thread, scores);
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(cache.dim));
  Job job{cache, *current_isa().ops->step, layer, column, starts, qkv, mixed, scale, scratch};
  const auto tasks = static_cast<uint32_t>(batch * cache.kv_heads);
  if (batch * cache.heads * (column + 1) * cache.dim <= kInlineWork) {
    for (uint32_t index = 0; index < tasks; ++index) head_task(&job, 0, index);
  } else {
    threads.run(tasks, head_task, &job);
  }
}

}  // namespace edgebench
