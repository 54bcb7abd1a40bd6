// Checks arguments, turns exceptions into error numbers, calls the room that does the work.
#include "doors.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "affinity.h"
#include "ceilings.h"
#include "dispatch.h"
#include "guarded.h"
#include "huge_buffer.h"
#include "pack.h"
#include "pool.h"
#include "pool_probe.h"
#include "tuning.h"
#include "unpack.h"
#include "w4_linear.h"

namespace {

using edgebench::Family;
using edgebench::guarded;
using edgebench::HugeBuffer;
using edgebench::PackedW4;

constexpr int kAbiVersion = 7;
constexpr int64_t kMaxSide = int64_t{1} << 30;    // of n, k and m: products of two fit easily
constexpr int64_t kMostBytes = int64_t{1} << 47;  // no process on x86-64 or aarch64 holds more

bool is_family(int family) { return family == edgebench::kA8 || family == edgebench::kA16; }

bool is_side(int64_t side) { return side >= 1 && side <= kMaxSide; }

template <typename Item>
bool is_aligned(const Item* items) {
  return reinterpret_cast<uintptr_t>(items) % sizeof(Item) == 0;
}

int linear(Family family, const void* handle, int64_t m, const float* x, float* y,
           const edgebench::Options& options = {}) {
  if (handle == nullptr || x == nullptr || y == nullptr) return EB_NULL;
  if (!is_aligned(x) || !is_aligned(y)) return EB_ALIGNMENT;
  const auto& weights = *static_cast<const PackedW4*>(handle);
  const int64_t most = kMostBytes / static_cast<int64_t>(sizeof(float));  // of x and of y
  if (!is_side(m) || m > most / weights.n || m > most / weights.k) return EB_SHAPE;
  return guarded([&] {
    edgebench::w4_linear(weights, family, m, x, y, options);
    return EB_OK;
  });
}

// What pack returns for each of its errors.
int error_of(edgebench::PackError error) {
  switch (error) {
    case edgebench::PackError::kNone:
      return EB_OK;
    case edgebench::PackError::kScale:
      return EB_SCALE;
    case edgebench::PackError::kZero:
      return EB_ZERO;
    default:
      return EB_PATTERN;
  }
}

// Packs by `pack(from, packed)` into a new handle.
template <typename Pack>
int packed_by(const edgebench::Canonical& from, void** handle, Pack pack) {
  if (from.qweight == nullptr || from.scale == nullptr || from.zero == nullptr || handle == nullptr)
    return EB_NULL;
  if (!is_aligned(from.scale)) return EB_ALIGNMENT;
  if (!is_side(from.n) || !is_side(from.k) || from.k % 2 != 0) return EB_SHAPE;
  const bool is_fixed = from.group == 32 || from.group == 64 || from.group == 128;
  if ((!is_fixed && from.group != from.k) || from.k % from.group != 0) return EB_GROUP;
  return guarded([&] {
    auto packed = std::make_unique<PackedW4>();
    const int error = error_of(pack(from, packed.get()));
    if (error == EB_OK) *handle = packed.release();
    return error;
  });
}

struct CeilingBuffer {
  HugeBuffer bytes;
};

}  // namespace

EB_DOOR int eb_abi_version(void) { return kAbiVersion; }

EB_DOOR const char* eb_isa_name(int index) {
  int count = 0;
  const edgebench::Isa* const table = edgebench::isas(&count);
  return index >= 0 && index < count ? table[index].name : nullptr;
}

EB_DOOR int eb_isa_supported(int index) {
  int count = 0;
  const edgebench::Isa* const table = edgebench::isas(&count);
  return index >= 0 && index < count && table[index].is_supported();
}

EB_DOOR const char* eb_isa(void) { return edgebench::current_isa().name; }

EB_DOOR int eb_force_isa(int index) {
  const std::lock_guard<std::mutex> lock(edgebench::pool().mutex());
  return edgebench::force_isa(index) ? EB_OK : EB_ISA;
}

EB_DOOR int eb_prefetch(void) { return edgebench::prefetch_bytes(); }

EB_DOOR int eb_set_prefetch(int bytes) {
  constexpr int kFarthest = 1 << 20;
  if (bytes < 0 || bytes > kFarthest) return EB_SHAPE;
  edgebench::set_prefetch_bytes(bytes);
  return EB_OK;
}

EB_DOOR int eb_few_tokens(int family) {
  return is_family(family) ? edgebench::few_tokens(static_cast<Family>(family)) : 0;
}

EB_DOOR int eb_set_few_tokens(int family, int tokens) {
  if (!is_family(family) || tokens < 1) return EB_SHAPE;
  edgebench::set_few_tokens(static_cast<Family>(family), tokens);
  return EB_OK;
}

EB_DOOR int eb_set_threads(int threads) {
  if (threads < 1 || threads > edgebench::kMaxThreads) return EB_THREADS;
  return guarded([&] {
    edgebench::Pool& pool = edgebench::pool();
    const std::lock_guard<std::mutex> lock(pool.mutex());
    pool.set_threads(threads);
    return EB_OK;
  });
}

EB_DOOR int eb_threads(void) { return edgebench::configured_threads(); }

EB_DOOR int eb_set_affinity(const int* cpus, int count) {
  if (count < 0 || count > edgebench::kMaxThreads) return EB_SHAPE;
  if (count > 0 && cpus == nullptr) return EB_NULL;
  return guarded([&] {
    const std::vector<int> wanted(cpus, cpus + count);
    for (const int cpu : wanted) {
      if (!edgebench::may_use_cpu(cpu)) return EB_AFFINITY;
    }
    edgebench::Pool& pool = edgebench::pool();
    const std::lock_guard<std::mutex> lock(pool.mutex());
    pool.set_affinity(wanted);
    return EB_OK;
  });
}

EB_DOOR int eb_pool_wakeup(int64_t* latency_ns) {
  if (latency_ns == nullptr) return EB_NULL;
  return guarded([&] {
    edgebench::Pool& pool = edgebench::pool();
    const std::lock_guard<std::mutex> lock(pool.mutex());
    *latency_ns = edgebench::pool_wakeup_ns(pool);
    return EB_OK;
  });
}

EB_DOOR int eb_w4_pack(const uint8_t* qweight, const uint16_t* scale, const uint8_t* zero,
                       int64_t n, int64_t k, int64_t group, void** handle) {
  return packed_by({qweight, scale, zero, n, k, group}, handle, edgebench::pack_w4);
}

EB_DOOR int eb_w4_pack_sparse(const uint8_t* qweight, const uint16_t* scale, const uint8_t* zero,
                              int64_t n, int64_t k, int64_t group, int64_t* place, void** handle) {
  if (place == nullptr) return EB_NULL;
  if (k % edgebench::kQuadInputs != 0) return EB_SHAPE;
  const auto pack = [place](const edgebench::Canonical& from, PackedW4* packed) {
    return edgebench::pack_sparse_w4(from, packed, place);
  };
  return packed_by({qweight, scale, zero, n, k, group}, handle, pack);
}

EB_DOOR void eb_w4_free(void* handle) { delete static_cast<PackedW4*>(handle); }

EB_DOOR int eb_w4_bytes(const void* handle, const uint8_t** bytes, size_t* size) {
  if (handle == nullptr || bytes == nullptr || size == nullptr) return EB_NULL;
  const auto& packed = *static_cast<const PackedW4*>(handle);
  *bytes = packed.bytes.data();
  *size = packed.bytes.size();
  return EB_OK;
}

EB_DOOR int eb_w4_dequantize(const void* handle, int number, void* y) {
  if (handle == nullptr || y == nullptr) return EB_NULL;
  if (number != edgebench::kF32 && number != edgebench::kBf16) return EB_SHAPE;
  const bool is_at_home = number == edgebench::kBf16 ? is_aligned(static_cast<uint16_t*>(y))
                                                     : is_aligned(static_cast<float*>(y));
  if (!is_at_home) return EB_ALIGNMENT;
  return guarded([&] {
    edgebench::unpack_w4(*static_cast<const PackedW4*>(handle),
                         static_cast<edgebench::Number>(number), y);
    return EB_OK;
  });
}

EB_DOOR int eb_w4a16_linear(const void* handle, int64_t m, const float* x, float* y) {
  return linear(edgebench::kA16, handle, m, x, y);
}

EB_DOOR int eb_w4a8_token_linear(const void* handle, int64_t m, const float* x, float* y) {
  edgebench::Options options;
  options.quantize = edgebench::quantize_a8_per_token;
  return linear(edgebench::kA8, handle, m, x, y, options);
}

EB_DOOR int eb_w4a8_linear(const void* handle, int64_t m, const float* x, float* y) {
  return linear(edgebench::kA8, handle, m, x, y);
}

EB_DOOR int eb_w4_layer(const void* handle, int family, int alone, const float* bias, float low,
                        float high, int64_t m, const float* x, float* y) {
  if (!is_family(family) || !(low <= high)) return EB_SHAPE;
  if (!is_aligned(bias)) return EB_ALIGNMENT;
  const edgebench::Epilogue epilogue{bias, low, high};
  edgebench::Options options;
  options.epilogue = &epilogue;
  options.alone = alone != 0;
  return linear(static_cast<Family>(family), handle, m, x, y, options);
}

EB_DOOR int eb_ceiling_buffer(size_t size, void** buffer) {
  if (buffer == nullptr) return EB_NULL;
  constexpr size_t kUnit = size_t{2} << 20;
  if (size < kUnit || size % kUnit != 0) return EB_SHAPE;
  return guarded([&] {
    auto* const owner = new CeilingBuffer{HugeBuffer(size)};
    memset(owner->bytes.data(), 1, size);  // real pages: untouched ones all read the zero page
    *buffer = owner;
    return EB_OK;
  });
}

EB_DOOR void eb_ceiling_buffer_free(void* buffer) { delete static_cast<CeilingBuffer*>(buffer); }

EB_DOOR int eb_ceiling(int ceiling, const void* buffer, int64_t budget_ns, double* per_second,
                       const char** instruction) {
  if (per_second == nullptr || instruction == nullptr) return EB_NULL;
  if (budget_ns < 1) return EB_SHAPE;
  const edgebench::CpuOps& ops = *edgebench::current_isa().ops;
  return guarded([&] {
    if (ceiling == EB_READ_BANDWIDTH) {
      if (buffer == nullptr) return EB_NULL;
      const HugeBuffer& bytes = static_cast<const CeilingBuffer*>(buffer)->bytes;
      *instruction = ops.read_instruction;
      *per_second = edgebench::read_bandwidth(bytes.data(), bytes.size(), budget_ns);
      return EB_OK;
    }
    const edgebench::Peak* peak = nullptr;
    if (ceiling == EB_INT8) peak = &ops.int8;
    if (ceiling == EB_BF16) peak = edgebench::bf16_peak();
    if (ceiling == EB_FP32) peak = &ops.fp32;
    if (peak == nullptr) return EB_UNAVAILABLE;
    *instruction = peak->instruction;
    *per_second = edgebench::arithmetic_peak(*peak, budget_ns);
    return EB_OK;
  });
}
