// mmap with 2 MB alignment for large buffers; small ones are only page-aligned.
#include "huge_buffer.h"

#include <sys/mman.h>

#include <new>
#include <utility>

namespace edgebench {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kPage = 4096;

constexpr size_t round_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

}  // namespace

HugeBuffer::HugeBuffer(size_t size) : size_(size) {
  const bool is_huge = size >= kHugePage;
  mapped_ = is_huge ? round_up(size, kHugePage) + kHugePage : round_up(size ? size : 1, kPage);
  if (mapped_ < size) throw std::bad_alloc();
  mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<uint8_t*>(mapping_);
  if (is_huge) {
    data_ = reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<uintptr_t>(mapping_), kHugePage));
#ifdef MADV_HUGEPAGE
    madvise(data_, round_up(size, kHugePage), MADV_HUGEPAGE);  // a wish: refusal is no error
#endif
  }
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept { *this = std::move(other); }

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

HugeBuffer::~HugeBuffer() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

}  // namespace edgebench
