// With one new token per sequence, a task is a sequence's key-value head with all the queries that
// share it: it rotates them, stores its key and value and attends, touching nothing that another
// task touches. Prompts take two passes: all keys and values of a head, then a few tokens a task.
#include "token_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "dispatch.h"

namespace edgebench {
namespace {

constexpr int64_t kMaxSide = int64_t{1} << 30;
constexpr int64_t kMaxDim = 4096;
constexpr int64_t kMaxHeads = 65536;
constexpr int64_t kInlineWork = 1 << 16;  // cells times queries, a few us: not worth waking anyone
constexpr int64_t kTokensPerTask = 16;    // of a prompt: enough tasks for long prompts of few heads
constexpr size_t kCellBytes[] = {4, 2, 1};

// Consecutive new tokens of one sequence: packed rows first_row.., columns first_column..
struct Span {
  int64_t sequence;
  int64_t first_row;
  int64_t first_column;
  int64_t count;
};

struct Job {
  const EbCache& cache;
  const StepOps& ops;
  int64_t layer;
  const int32_t* starts;
  float* qkv;
  float* mixed;
  float scale;
  uint8_t* const* scratch;
  const Span* spans;  // of the pass that runs
};

HeadGroup group_of(const Job& job, const Span& span, int64_t head, int64_t offset, int thread) {
  const EbCache& c = job.cache;
  const int64_t row = span.first_row + offset, column = span.first_column + offset;
  const int64_t queries = c.heads / c.kv_heads;
  // Heads of this layer's keys; the values' lie max_batch * kv_heads further.
  const int64_t key_head = (job.layer * 2 * c.max_batch + span.sequence) * c.kv_heads + head;
  const int64_t value_head = key_head + c.max_batch * c.kv_heads;
  const size_t head_bytes = c.max_length * c.dim * kCellBytes[c.cell];
  auto* const bytes = static_cast<uint8_t*>(c.cells);
  const float* const rotation = c.rotations + (column - job.starts[span.sequence]) * c.dim;
  float* const qkv = job.qkv + row * (c.heads + 2 * c.kv_heads) * c.dim;
  HeadGroup group;
  group.query = qkv + head * queries * c.dim;
  group.key = qkv + (c.heads + head) * c.dim;
  group.value = qkv + (c.heads + c.kv_heads + head) * c.dim;
  group.cos = rotation;
  group.sin = rotation + c.dim / 2;
  group.keys = bytes + key_head * head_bytes;
  group.values = bytes + value_head * head_bytes;
  group.key_scales = c.scales == nullptr ? nullptr : c.scales + key_head * c.max_length;
  group.value_scales = c.scales == nullptr ? nullptr : c.scales + value_head * c.max_length;
  group.scores = reinterpret_cast<float*>(job.scratch[thread]);
  group.out = job.mixed + (row * c.heads + head * queries) * c.dim;
  group.first = job.starts[span.sequence];
  group.last = column;
  group.queries = static_cast<int>(queries);
  group.dim = static_cast<int>(c.dim);
  group.scale = job.scale;
  return group;
}

template <bool kAppend, bool kAttend>
void head_task(void* context, int thread, uint32_t index) {
  const Job& job = *static_cast<const Job*>(context);
  const Span& span = job.spans[index / job.cache.kv_heads];
  const int64_t head = index % job.cache.kv_heads;
  for (int64_t offset = 0; offset < span.count; ++offset) {
    const HeadGroup group = group_of(job, span, head, offset, thread);
    if (kAppend) job.ops.append[job.cache.cell](group);
    if (kAttend) job.ops.attend[job.cache.cell](group);
  }
}

void run_tasks(Pool& threads, const std::vector<Span>& spans, int64_t work, TaskFn task, Job* job) {
  job->spans = spans.data();
  const auto tasks = static_cast<uint32_t>(spans.size() * job->cache.kv_heads);
  if (work <= kInlineWork) {
    for (uint32_t index = 0; index < tasks; ++index) task(job, 0, index);
  } else {
    threads.run(tasks, task, job);
  }
}

std::vector<Span> spans_of(const NewTokens& tokens, int64_t longest) {
  std::vector<Span> spans;
  int64_t row = 0;
  for (int64_t sequence = 0; sequence < tokens.sequences; ++sequence) {
    const int64_t count = tokens.count(sequence);
    const int64_t column = tokens.column - count + 1;
    for (int64_t done = 0; done < count; done += longest) {
      spans.push_back({sequence, row + done, column + done, std::min(longest, count - done)});
    }
    row += count;
  }
  return spans;
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

int64_t NewTokens::rows() const {
  int64_t rows = 0;
  for (int64_t sequence = 0; sequence < sequences; ++sequence) rows += count(sequence);
  return rows;
}

int check_tokens(const EbCache& c, const NewTokens& tokens) {
  if (tokens.starts == nullptr) return EB_NULL;
  if (!within(tokens.sequences, c.max_batch)) return EB_SHAPE;
  if (tokens.column < 0 || tokens.column >= c.max_length) return EB_COLUMN;
  for (int64_t sequence = 0; sequence < tokens.sequences; ++sequence) {
    const int64_t start = tokens.starts[sequence], count = tokens.count(sequence);
    if (start < 0 || count < 1 || start + count - 1 > tokens.column) return EB_COLUMN;
  }
  return EB_OK;
}

void token_attention(Pool& threads, bool alone, const EbCache& cache, int64_t layer,
                     const NewTokens& tokens, float* qkv, float* mixed) {
  uint8_t* scratch[kMaxThreads];
  const int64_t columns = tokens.column + 1;
  const size_t scores = sizeof(float) * (cache.heads / cache.kv_heads) * score_stride(columns);
  for (int thread = 0; thread < threads.threads(); ++thread) {
    scratch[thread] = threads.scratch(1 + thread, scores);
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(cache.dim));
  Job job{cache,  *current_isa().ops->step, layer, tokens.starts, qkv, mixed, scale, scratch,
          nullptr};
  const int64_t rows = tokens.rows();
  const int64_t work = alone ? 0 : rows * cache.heads * columns * cache.dim;
  if (rows == tokens.sequences) {
    run_tasks(threads, spans_of(tokens, 1), work, head_task<true, true>, &job);
  } else {
    run_tasks(threads, spans_of(tokens, columns), work, head_task<true, false>, &job);
    run_tasks(threads, spans_of(tokens, kTokensPerTask), work, head_task<false, true>, &job);
  }
}

}  // namespace edgebench
