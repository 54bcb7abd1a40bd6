// prim_wgmma.cuh on the emulator: asynchronous products of a warp group, and arrivals.
//
// A product happens when it is issued (lockstep) or when its warp waits for it (greedy), so that
// with early and late copies all four orders occur. Until then it may read A, B and D, and whoever
// touches them meanwhile gets wrong numbers. What hardware leaves undefined ends the process:
//
//   * A or D written since the last wgmma_fence()        (compared with a copy taken there)
//   * B written by cp.async without async_fence()        (marks of emulator.h)
//   * a descriptor that is not what prim_wgmma.cuh says, or rows outside shared memory
//   * lanes or warps of a group that issue different products
//   * arrivals that nobody has initialised
#ifndef EDGEBENCH_TESTS_EMULATED_WGMMA_H_
#define EDGEBENCH_TESTS_EMULATED_WGMMA_H_

namespace emulated {

struct Product {
  const u32* a;
  void* d;
  u64 rows;
  int tokens;
  bool adds, is_integer;
  emulator::Site site;

  // What every lane of the four warps must agree on.
  bool is_same(const Product& other) const {
    return rows == other.rows && adds == other.adds && site == other.site;
  }
};

// One lane's products, and the registers that they use.
struct Products {
  std::vector<Product> open;
  std::deque<std::vector<Product>> groups;
  std::vector<Product> issued;
  std::map<const void*, std::vector<u32>> fenced;  // registers: their content at the last fence
  bool has_fenced = false;
};

inline Products& products_of(emulator::Thread* thread) {
  if (!thread->products) thread->products = std::make_shared<Products>();
  return *static_cast<Products*>(thread->products.get());
}

[[noreturn]] inline void refuse(const char* what, emulator::Site site) {
  emulator::fail(emulator::kUnordered, "product: %s at %s:%d", what, site.file, site.line);
}

// ------------------------------------------------------------------------------------- B in memory

// Bytes 16 unit .. of token `token` behind a descriptor: K-major, 128-byte swizzle.
inline const u8* unit_of(const emulator::Block& block, const Product& product, int token,
                         int unit) {
  const u32 start = static_cast<u32>(product.rows & 0x3fff) * 16;
  const u32 by_eight = static_cast<u32>(product.rows >> 32 & 0x3fff) * 16;
  const u32 logical = start + token / 8 * by_eight + token % 8 * 128 + unit * 16;
  const u32 at = logical ^ (logical >> 7 & 7) << 4;
  if (at + 16 > static_cast<u32>(emulator::launch.shared_bytes)) {
    refuse("rows outside shared memory", product.site);
  }
  if (block.copied[at / 16] != 0) {
    refuse("reads what was copied without async_fence", product.site);
  }
  return block.shared + at;
}

inline void check_descriptor(u64 rows, emulator::Site site) {
  const bool is_swizzled = rows >> 62 == 1 && (rows >> 49 & 7) == 0;
  if (!is_swizzled) refuse("a descriptor of another swizzle", site);
  if ((rows & 0x3fff) * 16 % 1024 >= 128) refuse("rows that do not begin at 1024 bytes", site);
}

// ---------------------------------------------------------------------------------------- products

template <class T, class Exact, int kInputs>
void read_b(const emulator::Block& block, const Product& product, Exact (*b)[kInputs]) {
  for (int token = 0; token < product.tokens; ++token) {
    T values[kInputs];
    for (int unit = 0; unit < 2; ++unit) {
      memcpy(values + unit * kInputs / 2, unit_of(block, product, token, unit), 16);
    }
    for (int k = 0; k < kInputs; ++k) b[token][k] = static_cast<Exact>(values[k]);
  }
}

// D of one warp (+)= A B; T: what A and B hold, kWide of them in a register.
template <class T, class Sum, class Exact, int kWide>
void multiply(const emulator::Block& block, const Product* const* lanes) {
  constexpr int kInputs = 8 * kWide;
  static Exact b[256][kInputs];
  read_b<T, Exact, kInputs>(block, *lanes[0], b);
  Exact a[16][kInputs];
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < kInputs; ++k) {
      const u32* const words = lanes[row % 8 * 4 + k % (4 * kWide) / kWide]->a;
      T values[kWide];
      memcpy(values, words + (row >= 8 ? 1 : 0) + (k >= 4 * kWide ? 2 : 0), 4);
      a[row][k] = static_cast<Exact>(values[k % kWide]);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    Sum* const d = static_cast<Sum*>(lanes[lane]->d);
    for (int i = 0; i < lanes[0]->tokens / 2; ++i) {
      const Exact* const left = a[lane / 4 + (i % 4 >= 2 ? 8 : 0)];
      const Exact* const right = b[i / 4 * 8 + lane % 4 * 2 + i % 2];
      Exact sum = lanes[0]->adds ? static_cast<Exact>(d[i]) : 0;
      for (int k = 0; k < kInputs; ++k) sum += left[k] * right[k];
      d[i] = static_cast<Sum>(sum);
    }
  }
}

// The same product of 32 lanes; what it writes need not be fenced.
inline void perform(emulator::Thread* const* threads, const Product* const* lanes) {
  if (lanes[0]->is_integer) {
    multiply<s8, s32, s64, 4>(*threads[0]->block, lanes);
  } else {
    multiply<_Float16, float, double, 2>(*threads[0]->block, lanes);
  }
  for (int lane = 0; lane < 32; ++lane) {
    std::vector<u32>& fenced = products_of(threads[lane]).fenced[lanes[lane]->d];
    memcpy(fenced.data(), lanes[lane]->d, 4 * fenced.size());
  }
}

// --------------------------------------------------------------------------------------
// collectives

// All lanes have issued a product: they agree, and so do the warps of the group that were here
// before.
inline void combine_issue(void** lanes) {
  emulator::Thread* threads[32];
  const Product* last[32];
  for (int lane = 0; lane < 32; ++lane) {
    threads[lane] = static_cast<emulator::Thread*>(lanes[lane]);
    last[lane] = &products_of(threads[lane]).issued.back();
    if (!last[lane]->is_same(*last[0])) refuse("lanes disagree", last[0]->site);
  }
  const size_t index = products_of(threads[0]).issued.size() - 1;
  for (int warp = 0; warp < 4; ++warp) {
    const int first = threads[0]->index / 128 * 128 + 32 * warp;
    const auto& others = products_of(&threads[0]->block->threads.at(first)).issued;
    if (index < others.size() && !last[0]->is_same(others[index])) {
      refuse("warps of a group disagree", last[0]->site);
    }
  }
  if (!emulator::launch.is_greedy) perform(threads, last);
}

struct WaitLane {
  emulator::Thread* thread;
  size_t pending;
};

inline void combine_wait(void** lanes) {
  emulator::Thread* threads[32];
  for (int lane = 0; lane < 32; ++lane) threads[lane] = lane_of<WaitLane>(lanes, lane).thread;
  const size_t pending = lane_of<WaitLane>(lanes, 0).pending;
  while (products_of(threads[0]).groups.size() > pending) {
    const size_t count = products_of(threads[0]).groups.front().size();
    for (size_t i = 0; i < count && emulator::launch.is_greedy; ++i) {
      const Product* same[32];
      for (int lane = 0; lane < 32; ++lane) {
        same[lane] = &products_of(threads[lane]).groups.front().at(i);
      }
      perform(threads, same);
    }
    for (emulator::Thread* const thread : threads) products_of(thread).groups.pop_front();
  }
}

// Registers that a product is about to read, compared with the last fence's copy of them.
inline void check_fenced(const void* registers, int words, bool is_read, emulator::Site site) {
  Products& mine = products_of(emulator::self);
  if (!mine.has_fenced) refuse("no wgmma_fence before it", site);
  std::vector<u32>& fenced = mine.fenced[registers];
  if (fenced.empty()) {
    fenced.resize(words);
    memcpy(fenced.data(), registers, 4 * words);
  }
  if (is_read && memcmp(fenced.data(), registers, 4 * words) != 0) {
    refuse("reads registers written since the last wgmma_fence", site);
  }
}

inline void issue(const Product& product) {
  check_descriptor(product.rows, product.site);
  check_fenced(product.a, 4, true, product.site);
  check_fenced(product.d, product.tokens / 2, product.adds, product.site);
  Products& mine = products_of(emulator::self);
  mine.open.push_back(product);
  mine.issued.push_back(product);
  emulator::collective(emulator::self, combine_issue, product.site);
}

}  // namespace emulated

// Registers are not counted here; a warp group must move them together.
template <int kCount>
inline void registers_down(EB_SITE_PARAMETER) {
  static_assert(kCount >= 24 && kCount <= 256 && kCount % 8 == 0, "setmaxnreg's range");
  emulator::collective(nullptr, nullptr, site, 128);
}
template <int kCount>
inline void registers_up(EB_SITE_PARAMETER) {
  registers_down<kCount>(site);
}

inline void async_fence() { emulator::fence_copies(); }

// notes[at] = 1 + (arrivals still awaited + 2^16 count + 2^32 phases that are over); 0: never made.
inline void arrivals_init(u64* at, u32 count, EB_SITE_PARAMETER) {
  emulator::check_aligned(at, 8, site);
  emulator::self->block->notes[at] = 1 + (count | static_cast<u64>(count) << 16);
}
inline u_int64_t& note_of(emulator::Block& block, const void* at, emulator::Site site) {
  u_int64_t& note = block.notes[at];
  if (note == 0) emulated::refuse("arrivals that nobody has initialised", site);
  return note;
}
// The phase ends where no arrival and no byte (emulated_bulk.h) is awaited.
inline void end_phase(emulator::Block& block, const void* at, u_int64_t& note) {
  const auto bytes = block.awaited.find(at);
  if (((note - 1) & 0xffff) != 0 || (bytes != block.awaited.end() && bytes->second != 0)) return;
  note += (1ull << 32) + (note >> 16 & 0xffff);
}
inline void arrive_in(emulator::Block& block, const void* at, emulator::Site site) {
  u_int64_t& note = note_of(block, at, site);
  note -= 1;
  end_phase(block, at, note);
}
inline void arrive(u64* at, EB_SITE_PARAMETER) { arrive_in(*emulator::self->block, at, site); }
// What is on its way to arrivals of a block is there.
inline void land_bulk(emulator::Block& block, const void* at) {
  std::vector<emulator::BulkCopy> others;
  for (const emulator::BulkCopy& copy : block.bulk) {
    if (copy.arrivals != at) others.push_back(copy);
    if (copy.arrivals == at) copy.land();
  }
  if (others.size() == block.bulk.size()) return;
  block.bulk = std::move(others);
  end_phase(block, at, block.notes[at]);
}
inline void wait_arrivals(u64* at, u32 parity, EB_SITE_PARAMETER) {
  emulator::Block* const block = emulator::self->block;
  const u_int64_t& note = note_of(*block, at, site);
  emulator::wait_until(
      [&note, parity, block, at] {
        if ((note >> 32 & 1) == parity) land_bulk(*block, at);
        return (note >> 32 & 1) != parity;
      },
      site);
}

inline void wgmma_fence(EB_SITE_PARAMETER) {
  emulated::Products& mine = emulated::products_of(emulator::self);
  for (auto& [registers, content] : mine.fenced) {
    memcpy(content.data(), registers, 4 * content.size());
  }
  mine.has_fenced = true;
  warp_barrier(site);
}

inline void wgmma_commit() {
  emulated::Products& mine = emulated::products_of(emulator::self);
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

template <int kPending>
inline void wgmma_wait(EB_SITE_PARAMETER) {
  emulated::WaitLane lane{emulator::self, kPending};
  emulator::collective(&lane, emulated::combine_wait, site);
}

template <int kCount, class T>
inline void settle(T*) {}

template <int kTokens>
inline void wgmma_f16(float* d, const u32* a, u64 rows, bool adds, EB_SITE_PARAMETER) {
  emulated::issue({a, d, rows, kTokens, adds, false, site});
}
template <int kTokens>
inline void wgmma_s8(s32* d, const u32* a, u64 rows, bool adds, EB_SITE_PARAMETER) {
  emulated::issue({a, d, rows, kTokens, adds, true, site});
}

#endif  // EDGEBENCH_TESTS_EMULATED_WGMMA_H_
