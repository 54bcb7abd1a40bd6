// The driver shared by every instruction set and both families.
//
// A task is one row of blocks (64 outputs) times a chunk of tokens. With one token or few, a task
// streams its packed blocks once, straight from the nibbles; with many, the weights of a group are
// unpacked once to an L1 tile and all tokens of the chunk pass over it. 2:4 weights are read as
// they are by one token where the instruction set can; else a task expands its blocks to dense ones
// first.
#include "w4_linear.h"

#include <algorithm>
#include <cstring>

#include "dispatch.h"
#include "pool.h"
#include "tuning.h"

namespace edgebench {
namespace {

constexpr int kMinChunk = 48;  // below, unpacking a group weighs more than a few per cent
constexpr int kTasksPerThread = 4;
constexpr int64_t kInlineWork = 1 << 19;      // multiply-adds (a few us): not worth waking anyone
constexpr int64_t kInlineQuantize = 1 << 15;  // activations the caller quantizes alone (~8 us)
constexpr int kRowsPerQuantizeTask = 4;

struct Job {
  const PackedW4& weights;
  const FamilyOps& ops;
  QuantizeFn quantize;
  const float* x;
  float* y;
  Activations activations;
  LinearFn kernel;
  ExpandFn expand;  // to dense blocks before the kernel runs; null: it reads what was packed
  uint8_t flip;
  int chunk;   // tokens of one task
  int chunks;  // tasks of one row of blocks
  int prefetch;
  uint8_t* const* scratch;  // by thread: kScratchBytes, the fp32 tile, the expanded row
  const Epilogue* epilogue;
  Prologue prologue;
};

constexpr size_t round_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

constexpr size_t tile_bytes(int tokens) { return sizeof(float) * kBlockRows * tokens; }

// y = what the epilogue makes of some sums, of outputs from `first` on.
void store(const Epilogue& epilogue, int64_t first, const float* sums, int width, float* y) {
  const float low = epilogue.low, high = epilogue.high;
  for (int i = 0; i < width; ++i) {
    float value = sums[i] + (epilogue.bias == nullptr ? 0.0f : epilogue.bias[first + i]);
    value = value < low ? low : value;  // NaN is less than nothing
    y[i] = value > high ? high : value;
  }
}

void quantize_rows(Job& job, int first, int last) {
  const PackedW4& w = job.weights;
  for (int token = first; token < last; ++token) {
    if (job.prologue.run != nullptr) job.prologue.run(job.prologue.context, token);
    job.quantize(job.x + token * w.k, w.k, w.inputs, token, job.flip, job.activations);
  }
}

void quantize_task(void* context, int /*thread*/, uint32_t index) {
  Job& job = *static_cast<Job*>(context);
  const int first = static_cast<int>(index) * kRowsPerQuantizeTask;
  quantize_rows(job, first, std::min(job.activations.tokens, first + kRowsPerQuantizeTask));
}

void linear_task(void* context, int thread, uint32_t index) {
  Job& job = *static_cast<Job*>(context);
  const PackedW4& w = job.weights;
  const int64_t row = index / job.chunks;
  const int first = static_cast<int>(index % job.chunks) * job.chunk;
  const int last = std::min(job.activations.tokens, first + job.chunk);
  uint8_t* const scratch = job.scratch[thread];
  auto* const tile = reinterpret_cast<float*>(scratch + kScratchBytes);
  const auto groups = static_cast<int>(w.groups);
  const uint8_t* packed = w.bytes.data() + row * w.row_bytes();
  if (job.expand != nullptr) {
    uint8_t* const dense = scratch + kScratchBytes + tile_bytes(job.chunk);
    job.expand(packed, groups, w.inputs, dense);
    packed = dense;
  }
  const BlockRow blocks{packed, groups, w.inputs, job.prefetch};
  job.kernel(blocks, job.activations, first, last, tile, scratch);
  const int64_t first_output = row * kBlockRows;
  const auto width = static_cast<int>(std::min<int64_t>(kBlockRows, w.n - first_output));
  for (int token = first; token < last; ++token) {
    float* const y = job.y + token * w.n + first_output;
    const float* const sums = tile + (token - first) * kBlockRows;
    if (job.epilogue == nullptr) {
      memcpy(y, sums, sizeof(float) * width);
    } else {
      store(*job.epilogue, first_output, sums, width, y);
    }
  }
}

void choose_kernel(Job* job, Family family) {
  const int tokens = job->activations.tokens;
  job->flip = 0;
  if (tokens == 1) {
    job->kernel = job->ops.gemv;
  } else if (tokens <= few_tokens(family)) {
    job->kernel = job->ops.few;
  } else {
    job->kernel = job->ops.gemm;
    job->flip = job->ops.flip;
  }
  if (!job->weights.is_sparse) return;
  if (tokens == 1 && job->ops.sparse_gemv != nullptr) {
    job->kernel = job->ops.sparse_gemv;
  } else {
    job->expand = current_isa().ops->expand;
  }
}

// As few chunks as the tile allows, more when there are fewer tasks than threads could share.
void choose_chunks(Job* job, int threads) {
  const int tokens = job->activations.tokens;
  const auto rows = static_cast<int>(job->weights.block_rows());
  const int most = job->ops.most_tokens;
  int chunks = (tokens + most - 1) / most;
  if (threads > 1 && rows * chunks < threads * kTasksPerThread) {
    const int wanted = (threads * kTasksPerThread + rows - 1) / rows;
    chunks = std::max(chunks, std::min(wanted, tokens / kMinChunk));
  }
  job->chunk = static_cast<int>(round_up((tokens + chunks - 1) / chunks, job->ops.token_multiple));
  job->chunks = (tokens + job->chunk - 1) / job->chunk;
}

// Cuts slot 0 of the pool's scratch in the three arrays of the activations.
Activations activations_in(Pool& pool, const PackedW4& w, Family family, int64_t m) {
  const size_t slots = static_cast<size_t>(m) * w.groups;
  const size_t byte_size = round_up(slots * halves_of(family) * w.inputs, 64);
  const size_t scale_size = round_up(slots * sizeof(float), 64);
  uint8_t* const base = pool.scratch(0, byte_size + 2 * scale_size);
  return {base, reinterpret_cast<float*>(base + byte_size),
          reinterpret_cast<int32_t*>(base + byte_size + scale_size), static_cast<int>(m)};
}

}  // namespace

void w4_linear(const PackedW4& weights, Family family, int64_t m, const float* x, float* y,
               const Options& options) {
  Pool& threads = pool();
  const std::lock_guard<std::mutex> lock(threads.mutex());
  w4_linear_held(threads, weights, family, m, x, y, {}, options);
}

void w4_linear_held(Pool& threads, const PackedW4& weights, Family family, int64_t m,
                    const float* x, float* y, Prologue prologue, const Options& options) {
  const FamilyOps& ops = current_isa().ops->family[family];
  const int thread_count = options.alone ? 1 : threads.threads();
  Job job{weights,
          ops,
          options.quantize != nullptr ? options.quantize : ops.quantize,
          x,
          y,
          {},
          nullptr,
          nullptr,
          0,
          0,
          0,
          prefetch_bytes(),
          nullptr,
          options.epilogue,
          prologue};
  job.activations = activations_in(threads, weights, family, m);
  choose_kernel(&job, family);
  choose_chunks(&job, thread_count);
  uint8_t* scratch[kMaxThreads];
  size_t needed = kScratchBytes + tile_bytes(job.chunk);
  if (job.expand != nullptr) needed += weights.groups * block_bytes(weights.inputs);
  for (int thread = 0; thread < thread_count; ++thread) {
    scratch[thread] = threads.scratch(1 + thread, needed);
  }
  job.scratch = scratch;

  const auto tokens = static_cast<int>(m);
  if (options.alone || tokens < 2 || m * weights.k <= kInlineQuantize) {
    quantize_rows(job, 0, tokens);
  } else {
    threads.run((tokens + kRowsPerQuantizeTask - 1) / kRowsPerQuantizeTask, quantize_task, &job);
  }
  const auto tasks = static_cast<uint32_t>(weights.block_rows() * job.chunks);
  if (options.alone || weights.n * weights.k * m <= kInlineWork) {
    for (uint32_t index = 0; index < tasks; ++index) linear_task(&job, 0, index);
  } else {
    threads.run(tasks, linear_task, &job);
  }
}

}  // namespace edgebench
