// A zero-filled buffer on huge pages where the system grants them (madvise), else on ordinary ones.
//
// Streaming weights from 4 KB pages reached 0.90 (two threads) and 0.74 (one thread) of the
// bandwidth that huge pages reach, measured on a Zen 4 virtual machine.
#ifndef EDGEBENCH_CPU_HUGE_BUFFER_H_
#define EDGEBENCH_CPU_HUGE_BUFFER_H_

#include <cstddef>
#include <cstdint>

namespace edgebench {

class HugeBuffer {
 public:
  HugeBuffer() = default;
  explicit HugeBuffer(size_t size);  // throws std::bad_alloc
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;
  ~HugeBuffer();

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  void* mapping_ = nullptr;  // what munmap wants: the aligned data lies inside it
  size_t mapped_ = 0;
};

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_HUGE_BUFFER_H_
