// The C doors of libedgebench_kernels: what `native.py` binds. Plain pointers and sizes, no
// exceptions.
//
// Every door returns EB_OK or an error; Python composes the message. All are safe to call from
// several threads (calls that use the pool run one after another) and after fork.
#ifndef EDGEBENCH_CPU_DOORS_H_
#define EDGEBENCH_CPU_DOORS_H_

#include <stddef.h>
#include <stdint.h>

#define EB_DOOR extern "C" __attribute__((visibility("default")))

enum EbError {
  EB_OK = 0,
  EB_NULL = 1,         // a pointer is null
  EB_SHAPE = 2,        // n, k, m or a size is out of range
  EB_GROUP = 3,        // group not 32, 64, 128 or k, or k not a multiple of it
  EB_ISA = 4,          // no such instruction set, or this machine lacks it
  EB_THREADS = 5,      // thread count out of range, or a thread could not start
  EB_MEMORY = 6,       // out of memory
  EB_UNAVAILABLE = 7,  // this machine or ISA has no such instruction
  EB_SCALE = 8,        // a scale is infinite or NaN
  EB_ZERO = 9,         // a zero point is above 15
  EB_INTERNAL = 10,    // a bug of this library
  EB_TOKEN = 11,       // a token id is outside the vocabulary
  EB_COLUMN = 12,      // a column or a row's start is outside the cache
  EB_NOT_FINITE = 13,  // a row's largest logit is infinite or NaN
  EB_AFFINITY = 14,    // a CPU that this process may not use
  EB_ALIGNMENT = 15,   // a pointer is not a multiple of its items' size
  EB_PATTERN = 16,     // more than two weights of a quad are not zero
};

enum EbCeiling { EB_READ_BANDWIDTH = 0, EB_INT8 = 1, EB_BF16 = 2, EB_FP32 = 3 };

EB_DOOR int eb_abi_version(void);

// Instruction sets, lowest first. eb_isa_name: null past the end.
EB_DOOR const char* eb_isa_name(int index);
EB_DOOR int eb_isa_supported(int index);
EB_DOOR const char* eb_isa(void);
EB_DOOR int eb_force_isa(int index);

// What tuning may change. Prefetch: how far ahead streaming kernels do, in bytes (0: not at all).
// Few tokens: the most that a family (0: a8, 1: a16) runs straight from the nibbles.
EB_DOOR int eb_prefetch(void);
EB_DOOR int eb_set_prefetch(int bytes);
EB_DOOR int eb_few_tokens(int family);
EB_DOOR int eb_set_few_tokens(int family, int tokens);

EB_DOOR int eb_set_threads(int threads);
EB_DOOR int eb_threads(void);
// Worker i of the pool runs on cpus[i % count] from now on; count 0: wherever the system wants.
EB_DOOR int eb_set_affinity(const int* cpus, int count);
// The time from a call until the last of the pool's threads runs one of its tasks.
EB_DOOR int eb_pool_wakeup(int64_t* latency_ns);

// Packed weights. eb_w4_pack copies; the handle lives until eb_w4_free.
EB_DOOR int eb_w4_pack(const uint8_t* qweight, const uint16_t* scale, const uint8_t* zero,
                       int64_t n, int64_t k, int64_t group, void** handle);
// The same in the 2:4 layout, for every door that takes a handle: of each four inputs of a row at
// most two may be other than the zero point (EB_PATTERN, with place[2] = row, first of the four).
EB_DOOR int eb_w4_pack_sparse(const uint8_t* qweight, const uint16_t* scale, const uint8_t* zero,
                              int64_t n, int64_t k, int64_t group, int64_t* place, void** handle);
EB_DOOR void eb_w4_free(void* handle);
EB_DOOR int eb_w4_bytes(const void* handle, const uint8_t** bytes, size_t* size);

// y[n, k] = the weights as numbers, 0 fp32 or 1 bf16 (rounded to nearest even), on this thread
// alone.
EB_DOOR int eb_w4_dequantize(const void* handle, int number, void* y);

// y[m, n] = x[m, k] W^T, fp32, contiguous.
EB_DOOR int eb_w4a16_linear(const void* handle, int64_t m, const float* x, float* y);
EB_DOOR int eb_w4a8_linear(const void* handle, int64_t m, const float* x, float* y);
// The same with one activation scale for each token, not for each of its groups.
EB_DOOR int eb_w4a8_token_linear(const void* handle, int64_t m, const float* x, float* y);
// y[m, n] = min(max(x W^T + bias[n], low), high), bias may be null; family: 0 w4a8, 1 w4a16. With
// `alone` the pool stays asleep: where a caller's own threads still spin behind what they did last,
// they fight those of the pool for the CPUs.
EB_DOOR int eb_w4_layer(const void* handle, int family, int alone, const float* bias, float low,
                        float high, int64_t m, const float* x, float* y);

// What stands between the linears, fp32 and contiguous, for callers with linears of their own. With
// `alone` the pool stays asleep: its threads would fight those of the caller's linears for the
// CPUs. x[rows, n] += delta[rows, n] (may be null); y[rows, n] = x * weight[n] / sqrt(mean(x^2) +
// eps).
EB_DOOR int eb_add_norm(int alone, int64_t rows, int64_t n, float* x, const float* delta,
                        const float* weight, float eps, float* y);
// y[rows, n] = silu(gate) * up for gate_up[rows, 2 n] = gate, up.
EB_DOOR int eb_swiglu(int alone, int64_t rows, int64_t n, const float* gate_up, float* y);
// ids[rows] = first index of the largest x[rows, n]; EB_NOT_FINITE where a largest is not finite.
EB_DOOR int eb_argmax(int64_t rows, int64_t n, const float* x, int64_t* ids);

// A static key-value cache. The memory is the caller's and must live as long as it is used.
//   cells      [layers][2 (keys, values)][max_batch][kv_heads][max_length][dim], `cell` each
//   scales     [layers][2][max_batch][kv_heads][max_length], for int8 cells; else null
//   rotations  [max_length][2 (cos, sin)][dim / 2]
struct EbCache {
  void* cells;
  float* scales;
  const float* rotations;
  int64_t cell;  // 0 fp32, 1 fp16, 2 int8
  int64_t layers, max_batch, max_length, heads, kv_heads, dim;
};

// New tokens: sequence s brings counts[s] (1 each if counts is null), packed in rows without
// padding; the last of each goes to `column`, and RoPE positions count from starts[s].
// Rotates q and k in qkv[rows, (heads + 2 kv_heads) dim], stores k and v, and lets each q attend to
// columns starts[s] up to its own: mixed[rows, heads dim].
EB_DOOR int eb_attention(int alone, const EbCache* cache, int64_t layer, int64_t sequences,
                         int64_t column, const int32_t* starts, const int32_t* counts, float* qkv,
                         float* mixed);

// A whole decoder over packed weights. Everything pointed to must outlive the handle.
struct EbLayer {
  const void* qkv;
  const void* o;
  const void* gate_up;
  const void* down;
  const float* attention_norm;
  const float* mlp_norm;
};
struct EbModel {
  const uint16_t* embedding;  // fp16 [vocabulary][hidden]
  const EbLayer* layers;      // copied; as many as the cache has
  const float* final_norm;
  const void* lm_head;
  int64_t vocabulary, hidden, inner;
  float eps;
  EbCache cache;
};
EB_DOOR int eb_decoder_new(const EbModel* model, void** handle);
EB_DOOR void eb_decoder_free(void* handle);
// One step of new tokens (see eb_attention), tokens[rows]: logits[sequences, vocabulary] of the
// last of each (of every row if `every`; may be null) and the most likely ids[sequences or rows]
// (may be null; may be `tokens`). family, and head_family for the lm_head: 0 w4a8, 1 w4a16.
EB_DOOR int eb_decoder_step(void* handle, int family, int head_family, int64_t sequences,
                            int64_t column, const int32_t* starts, const int32_t* counts,
                            const int64_t* tokens, int every, float* logits, int64_t* ids);

// Ceilings. The buffer serves EB_READ_BANDWIDTH; eb_ceiling_buffer allocates one on huge pages.
EB_DOOR int eb_ceiling_buffer(size_t size, void** buffer);
EB_DOOR void eb_ceiling_buffer_free(void* buffer);
EB_DOOR int eb_ceiling(int ceiling, const void* buffer, int64_t budget_ns, double* per_second,
                       const char** instruction);

#endif  // EDGEBENCH_CPU_DOORS_H_
