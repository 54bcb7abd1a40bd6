// Buffers that the kernel before is still writing when this one starts (programmatic dependent
// launch): 0xff bytes until a thread has passed grid_dependency_wait(), then what they shall be.
#ifndef EDGEBENCH_TESTS_ARRIVALS_H_
#define EDGEBENCH_TESTS_ARRIVALS_H_

#include <cstring>
#include <vector>

namespace emulator {

struct Arrival {
  void* to;
  std::vector<unsigned char> bytes;
};

inline std::vector<Arrival> arrivals;

// Of what lies in the buffer now; 0xff bytes take its place.
inline void delay(void* buffer, size_t size) {
  auto* const bytes = static_cast<unsigned char*>(buffer);
  arrivals.push_back({buffer, {bytes, bytes + size}});
  memset(buffer, 0xff, size);
}

inline void arrive() {
  for (const Arrival& arrival : arrivals) {
    memcpy(arrival.to, arrival.bytes.data(), arrival.bytes.size());
  }
  arrivals.clear();
}

}  // namespace emulator

#endif  // EDGEBENCH_TESTS_ARRIVALS_H_
