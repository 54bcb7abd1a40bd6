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
  EB_ALIGNMENT = 13,   // a pointer is not a multiple of its items' size
};

enum EbCeiling { EB_READ_BANDWIDTH = 0, EB_INT8 = 1, EB_BF16 = 2, EB_FP32 = 3 };

EB_DOOR int eb_abi_version(void);

// Instruction sets, lowest first. eb_isa_name: null past the end.
EB_DOOR const char* eb_isa_name(int index);
EB_DOOR int eb_isa_supported(int index);
EB_DOOR const char* eb_isa(void);
EB_DOOR int eb_force_isa(int index);

// How far ahead streaming kernels prefetch, in bytes (0: not at all); the default depends on the
// CPU.
EB_DOOR int eb_prefetch(void);
EB_DOOR int eb_set_prefetch(int bytes);

EB_DOOR int eb_set_threads(int threads);
EB_DOOR int eb_threads(void);

// Packed weights. eb_w4_pack copies; the handle lives until eb_w4_free.
EB_DOOR int eb_w4_pack(const uint8_t* qweight, const uint16_t* scale, const uint8_t* zero,
                       int64_t n, int64_t k, int64_t group, void** handle);
EB_DOOR void eb_w4_free(void* handle);
EB_DOOR int eb_w4_bytes(const void* handle, const uint8_t** bytes, size_t* size);

// y[m, n] = x[m, k] W^T, fp32, contiguous.
EB_DOOR int eb_w4a16_linear(const void* handle, int64_t m, const float* x, float* y);
EB_DOOR int eb_w4a8_linear(const void* handle, int64_t m, const float* x, float* y);

// Ceilings. The buffer serves EB_READ_BANDWIDTH; eb_ceiling_buffer allocates one on huge pages.
EB_DOOR int eb_ceiling_buffer(size_t size, void** buffer);
EB_DOOR void eb_ceiling_buffer_free(void* buffer);
EB_DOOR int eb_ceiling(int ceiling, const void* buffer, int64_t budget_ns, double* per_second,
                       const char** instruction);

#endif  // EDGEBENCH_CPU_DOORS_H_
