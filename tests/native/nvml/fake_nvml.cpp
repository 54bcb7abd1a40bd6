// A libnvidia-ml.so.1 without a GPU: what nvidia-ml-py calls for a power meter, answered from a
// file that a test rewrites while the meter reads.
//
// $FAKE_NVML names the file; each line is `name value` or `name !code`, where `code` is an
// nvmlReturn_t that the call returns instead. A name that the file does not have is
// NVML_ERROR_NOT_SUPPORTED, as a Jetson's driver answers every power call. `field186.1` is field
// 186 of power scope 1, the module. Struct layouts: nvml.h, as nvidia-ml-py declares them.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

namespace {

enum Return { kOk = 0, kInvalid = 2, kNotSupported = 3, kNotFound = 6, kTooSmall = 7 };

struct FieldValue {
  uint32_t field, scope;
  int64_t timestamp_us, latency_us;
  uint32_t type;
  int32_t result;
  union {
    uint32_t u32;
    uint64_t u64;
    double f64;
  } value;
};
static_assert(sizeof(FieldValue) == 40, "nvmlFieldValue_t");

struct Process {
  uint32_t pid;
  uint64_t memory_bytes;
  uint32_t gpu_instance, compute_instance;
};
static_assert(sizeof(Process) == 24, "nvmlProcessInfo_t");

struct Memory {
  uint64_t total, free, used;
};

int device;  // the only GPU: its handle is this address

// Finds a name in the file: its text, or the code that its call shall return.
int find(const std::string& name, std::string* text) {
  const char* const path = getenv("FAKE_NVML");
  std::ifstream file(path ? path : "");
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, name.size() + 1, name + " ") != 0) continue;
    *text = line.substr(name.size() + 1);
    return (*text)[0] == '!' ? atoi(text->c_str() + 1) : kOk;
  }
  return kNotSupported;
}

template <typename Number>
int number(const std::string& name, Number* value) {
  std::string text;
  const int result = find(name, &text);
  if (result == kOk) *value = static_cast<Number>(strtoull(text.c_str(), nullptr, 0));
  return result;
}

int words(const char* name, char* buffer, unsigned size) {
  std::string text;
  const int result = find(name, &text);
  if (result == kOk) snprintf(buffer, size, "%s", text.c_str());
  return result;
}

}  // namespace

extern "C" {

int nvmlInitWithFlags(unsigned) {
  std::string text;
  const int result = find("init", &text);
  return result == kNotSupported ? kOk : result;
}
int nvmlShutdown() { return kOk; }

const char* nvmlErrorString(int result) {
  static char text[48];
  snprintf(text, sizeof(text), result == kNotSupported ? "Not Supported" : "NVML error %d", result);
  return text;
}

int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 1;
  return kOk;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  *handle = &device;
  return index == 0 ? kOk : kInvalid;
}
int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  *handle = &device;
  return strncmp(uuid, "GPU-", 4) == 0 ? kOk : kNotFound;
}
int nvmlDeviceGetName(void*, char* name, unsigned size) { return words("name", name, size); }
int nvmlDeviceGetVbiosVersion(void*, char* text, unsigned size) {
  return words("vbios", text, size);
}
int nvmlDeviceGetMemoryInfo(void*, Memory* memory) { return number("memory", &memory->total); }

int nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* energy_mJ) {
  return number("energy", energy_mJ);
}
int nvmlDeviceGetPowerUsage(void*, unsigned* power_mW) { return number("power", power_mW); }
int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* limit_mW) { return number("limit", limit_mW); }
int nvmlDeviceGetPowerManagementDefaultLimit(void*, unsigned* limit_mW) {
  return number("default_limit", limit_mW);
}
int nvmlDeviceGetFieldValues(void*, int count, FieldValue* fields) {
  for (int i = 0; i < count; ++i) {
    fields[i].type = 1;  // NVML_VALUE_TYPE_UNSIGNED_INT
    std::string name = "field" + std::to_string(fields[i].field);
    if (fields[i].scope != 0) name += "." + std::to_string(fields[i].scope);
    fields[i].result = number(name, &fields[i].value.u32);
  }
  return kOk;
}

int nvmlDeviceGetCurrentClocksEventReasons(void*, unsigned long long* bits) {
  return number("event_reasons", bits);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* bits) {
  return number("throttle_reasons", bits);
}
int nvmlDeviceGetClockInfo(void*, int which, unsigned* clock_MHz) {
  return number("clock" + std::to_string(which), clock_MHz);
}
int nvmlDeviceGetMaxClockInfo(void*, int which, unsigned* clock_MHz) {
  return number("max_clock" + std::to_string(which), clock_MHz);
}
int nvmlDeviceGetTemperature(void*, int, unsigned* celsius) {
  return number("temperature", celsius);
}
int nvmlDeviceGetMigMode(void*, unsigned* now, unsigned* pending) {
  const int result = number("mig", now);
  *pending = *now;
  return result;
}

// `processes 41,42`: two calls, the first of which asks for the size.
int nvmlDeviceGetComputeRunningProcesses_v3(void*, unsigned* count, Process* found) {
  std::string text;
  const int result = find("processes", &text);
  if (result != kOk) return result;
  std::istringstream pids(text);
  std::string pid;
  unsigned seen = 0;
  while (std::getline(pids, pid, ',')) {
    if (found && seen < *count) {
      found[seen] = Process{static_cast<uint32_t>(atoi(pid.c_str())), 1 << 20, 0, 0};
    }
    ++seen;
  }
  const bool fits = found && seen <= *count;
  *count = seen;
  return fits || seen == 0 ? kOk : kTooSmall;
}

}  // extern "C"
