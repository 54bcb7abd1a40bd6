// A libcuda.so.1 without a GPU: enough of the driver for cuda-bindings to load a cubin and launch
// it.
//
// tests/cuda/test_driver.py puts it where the loader finds it first. Every call is written as a
// line to the file $FAKE_CUDA_LOG: its name and what it was given; of a launch also the arguments,
// read through the array of addresses as the types in $FAKE_CUDA_ARGUMENTS (p pointer, i int32, f
// float). $FAKE_CUDA_RESULTS, e.g. "cuInit=100 cuLaunchKernel=700", makes calls fail.
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

// What CUDA's cuda.h declares, as far as it is used here (Driver API, "Data types").
struct LaunchAttribute {
  int id;
  char pad[4];
  int values[3];  // of a cluster: x, y, z; of a flag: the first
  char rest[52];
};
struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchAttribute) == 72, "an id and a union of 64 bytes");

constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR

// Writes one line and returns what the call shall return.
int done(const char* call, const char* format = "", ...) {
  if (FILE* const file = fopen(getenv("FAKE_CUDA_LOG"), "a")) {
    fprintf(file, "%s ", call);
    va_list values;
    va_start(values, format);
    vfprintf(file, format, values);
    va_end(values);
    fputc('\n', file);
    fclose(file);
  }
  const char* const results = getenv("FAKE_CUDA_RESULTS");
  const std::string wanted = std::string(" ") + call + "=";
  const std::string all = std::string(" ") + (results ? results : "");
  const size_t at = all.find(wanted);
  return at == std::string::npos ? 0 : atoi(all.c_str() + at + wanted.size());
}

std::string shown(void** arguments) {
  std::string text;
  char one[64];
  int i = 0;
  for (const char* kind = getenv("FAKE_CUDA_ARGUMENTS"); kind && *kind; ++kind, ++i) {
    if (*kind == 'p') snprintf(one, sizeof one, " %p", *static_cast<void**>(arguments[i]));
    if (*kind == 'i') snprintf(one, sizeof one, " %d", *static_cast<int32_t*>(arguments[i]));
    if (*kind == 'f') snprintf(one, sizeof one, " %g", *static_cast<float*>(arguments[i]));
    text += one;
  }
  return text;
}

constexpr int kCluster = 4;  // CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION

std::string shown(const LaunchConfig& config) {
  std::string text;
  char one[64];
  for (unsigned i = 0; i < config.attribute_count; ++i) {
    const LaunchAttribute& a = config.attributes[i];
    if (a.id == kCluster) {
      snprintf(one, sizeof one, " %d=%dx%dx%d", a.id, a.values[0], a.values[1], a.values[2]);
    } else {
      snprintf(one, sizeof one, " %d=%d", a.id, a.values[0]);
    }
    text += one;
  }
  return text;
}

char context, module, function;  // handles are their addresses

}  // namespace

extern "C" {

int cuInit(unsigned flags) { return done("cuInit", "%u", flags); }
int cuDriverGetVersion(int* version) {
  *version = 13000;
  return done("cuDriverGetVersion");
}
int cuDeviceGetCount(int* count) {
  *count = 1;
  return done("cuDeviceGetCount");
}
int cuDeviceGetName(char* name, int size, int device) {
  snprintf(name, static_cast<size_t>(size), "Fake H200");
  return done("cuDeviceGetName", "%d", device);
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == kMajor ? 9 : attribute == kMinor ? 0 : -1;
  return done("cuDeviceGetAttribute", "%d %d", attribute, device);
}
int cuDeviceGetPCIBusId(char* id, int size, int device) {
  snprintf(id, static_cast<size_t>(size), "0000:1B:00.0");
  return done("cuDeviceGetPCIBusId", "%d", device);
}
int cuDevicePrimaryCtxRetain(void** made, int device) {
  *made = &context;
  return done("cuDevicePrimaryCtxRetain", "%d", device);
}
int cuCtxSetCurrent(void* current) {
  return done("cuCtxSetCurrent", "%s", current == &context ? "primary" : "other");
}
int cuModuleLoadData(void** made, const void* image) {
  *made = &module;
  const bool is_elf = memcmp(image, "\177ELF", 4) == 0;
  return done("cuModuleLoadData", "%s", is_elf ? "ELF" : "something else");
}
int cuModuleGetFunction(void** made, void* of, const char* name) {
  *made = &function;
  return done("cuModuleGetFunction", "%s %s", of == &module ? "module" : "other", name);
}
int cuFuncSetAttribute(void* of, int attribute, int value) {
  return done("cuFuncSetAttribute", "%s %d %d", of == &function ? "function" : "other", attribute,
              value);
}
int cuLaunchKernel(void* of, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared_bytes, void* stream, void** arguments,
                   void** extra) {
  return done("cuLaunchKernel", "%s grid %u %u %u block %u %u %u shared %u stream %p extra %d:%s",
              of == &function ? "function" : "other", gx, gy, gz, bx, by, bz, shared_bytes, stream,
              extra != nullptr, shown(arguments).c_str());
}
int cuLaunchKernelEx(const LaunchConfig* c, void* of, void** arguments, void** extra) {
  return done("cuLaunchKernelEx",
              "%s grid %u %u %u block %u %u %u shared %u stream %p extra %d attributes%s:%s",
              of == &function ? "function" : "other", c->grid[0], c->grid[1], c->grid[2],
              c->block[0], c->block[1], c->block[2], c->shared_bytes, c->stream, extra != nullptr,
              shown(*c).c_str(), shown(arguments).c_str());
}
int cuTensorMapEncodeTiled(unsigned char* made, int type, unsigned rank, void* at,
                           const uint64_t* sizes, const uint64_t* strides, const unsigned* box,
                           const unsigned* steps, int interleave, int swizzle, int promotion,
                           int outside) {
  for (int i = 0; i < 128; ++i) made[i] = static_cast<unsigned char>(i);
  return done("cuTensorMapEncodeTiled",
              "type %d rank %u at %p of %llu %llu strides %llu box %u %u steps %u %u "
              "kinds %d %d %d %d",
              type, rank, at, static_cast<unsigned long long>(sizes[0]),
              static_cast<unsigned long long>(sizes[1]),
              static_cast<unsigned long long>(strides[0]), box[0], box[1], steps[0], steps[1],
              interleave, swizzle, promotion, outside);
}
int cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = 1500000000;
  *total_bytes = 141000000000;
  return done("cuMemGetInfo");
}

int cuGetProcAddress_v2(const char* name, void** found, int, uint64_t, int* status) {
  struct Known {
    const char* name;
    void* address;
  };
#define KNOWN(call)                      \
  {                                      \
    #call, reinterpret_cast<void*>(call) \
  }
  const Known table[] = {
      KNOWN(cuInit),
      KNOWN(cuDriverGetVersion),
      KNOWN(cuDeviceGetCount),
      KNOWN(cuDeviceGetName),
      KNOWN(cuDeviceGetAttribute),
      KNOWN(cuDeviceGetPCIBusId),
      KNOWN(cuDevicePrimaryCtxRetain),
      KNOWN(cuCtxSetCurrent),
      KNOWN(cuModuleLoadData),
      KNOWN(cuModuleGetFunction),
      KNOWN(cuFuncSetAttribute),
      KNOWN(cuLaunchKernel),
      KNOWN(cuLaunchKernelEx),
      KNOWN(cuTensorMapEncodeTiled),
      {"cuMemGetInfo", reinterpret_cast<void*>(cuMemGetInfo_v2)},
      {"cuGetProcAddress", reinterpret_cast<void*>(cuGetProcAddress_v2)},
  };
#undef KNOWN
  *found = nullptr;
  for (const Known& known : table) {
    if (strcmp(known.name, name) == 0) *found = known.address;
  }
  if (status) *status = *found ? 0 : 1;  // CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND
  return *found ? 0 : 500;               // CUDA_ERROR_NOT_FOUND
}

}  // extern "C"
