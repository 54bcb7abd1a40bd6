// prim_bulk.cuh on the emulator: bytes land at once (early), or when they are waited for (late).
//
// What hardware leaves undefined ends the process:
//
//   * places that are not aligned, or outside of a block's shared memory
//   * a sibling that is not in the cluster, or has ended
//   * arrivals that nobody has initialised, in any of the blocks
//
// A slot that is overwritten while products read it gives wrong numbers; bytes that are expected
// and do not come, or come and are not expected, end in a deadlock or a phase too early.
#ifndef EDGEBENCH_TESTS_EMULATED_BULK_H_
#define EDGEBENCH_TESTS_EMULATED_BULK_H_

struct TensorMap {
  const u8* base;
  int rows, columns, tile_rows;
};
#define EB_TENSOR_MAP const TensorMap

namespace emulated {

constexpr int kTileBytes = 128;  // of a row of a tile

inline emulator::Block& sibling(int rank, emulator::Site site) {
  const auto& blocks = emulator::self->block->cluster->blocks;
  if (rank < 0 || rank >= static_cast<int>(blocks.size())) {
    emulator::fail(emulator::kOutsideCluster, "cluster: rank %d of %zu at %s:%d", rank,
                   blocks.size(), site.file, site.line);
  }
  if (blocks[rank] == nullptr) {
    emulator::fail(emulator::kOutsideCluster, "cluster: a sibling that has ended at %s:%d",
                   site.file, site.line);
  }
  return *blocks[rank];
}

inline void check_place(const void* to, int bytes, int alignment, emulator::Site site) {
  emulator::check_shared(to, alignment, site);
  if (static_cast<int>(shared_address(to)) + bytes > emulator::launch.shared_bytes) {
    emulator::fail(emulator::kWrongSpace, "bulk copy: %d bytes past shared memory at %s:%d", bytes,
                   site.file, site.line);
  }
}

// `land` writes the bytes, at `to` behind the block's first; they count at its arrivals `at`.
inline void copy_in(emulator::Block& block, u32 to, u32 bytes, u32 at, emulator::Site site,
                    const std::function<void(u8*)>& land) {
  const void* const arrivals = block.shared + at;
  note_of(block, arrivals, site);
  block.bulk.push_back({[&block, to, bytes, arrivals, land] {
                          land(block.shared + to);
                          for (u32 unit = to / 16; unit < (to + bytes) / 16; ++unit) {
                            block.copied.at(unit) = 0;  // seen by products without a fence
                          }
                          block.awaited[arrivals] -= bytes;
                        },
                        arrivals});
  if (emulator::launch.is_early) land_bulk(block, arrivals);
}

}  // namespace emulated

inline void arrivals_fence() {}

inline void arrive_expecting(u64* at, u32 bytes, EB_SITE_PARAMETER) {
  emulator::self->block->awaited[at] += bytes;
  arrive_in(*emulator::self->block, at, site);
}
inline void arrive_at(u64* at, int rank, EB_SITE_PARAMETER) {
  emulator::Block& block = emulated::sibling(rank, site);
  arrive_in(block, block.shared + shared_address(at), site);
}
inline void wait_siblings(u64* at, u32 parity, EB_SITE_PARAMETER) {
  wait_arrivals(at, parity, site);
}

inline void copy_bulk(void* to, const void* from, u32 bytes, u64* arrivals, EB_SITE_PARAMETER) {
  emulated::check_place(to, bytes, 16, site);
  emulator::check_global(from, 16, site);
  if (bytes % 16 != 0) emulated::refuse("a bulk copy of no whole 16 bytes", site);
  emulated::copy_in(*emulator::self->block, shared_address(to), bytes, shared_address(arrivals),
                    site, [from, bytes](u8* place) { memcpy(place, from, bytes); });
}

inline void copy_tile(void* to, const TensorMap& of, int column, int row, u64* arrivals, u16 blocks,
                      EB_SITE_PARAMETER) {
  const int bytes = of.tile_rows * emulated::kTileBytes;
  emulated::check_place(to, bytes, 1024, site);
  emulator::check_aligned(of.base, 16, site);
  const auto land = [of, column, row](u8* place) {
    for (int i = 0; i < of.tile_rows * 8; ++i) {
      const int r = i / 8, first = column + i % 8 * 8;  // eight halfs
      u8* const unit = place + (i * 16 ^ r % 8 << 4);
      const bool is_inside = row + r < of.rows && first < of.columns;
      const u8* const from = of.base + (static_cast<s64>(row + r) * of.columns + first) * 2;
      if (is_inside) memcpy(unit, from, 16);
      if (!is_inside) memset(unit, 0, 16);
    }
  };
  for (int rank = 0; rank < 16; ++rank) {
    if ((blocks >> rank & 1) == 0) continue;
    emulated::copy_in(emulated::sibling(rank, site), shared_address(to), bytes,
                      shared_address(arrivals), site, land);
  }
}

#endif  // EDGEBENCH_TESTS_EMULATED_BULK_H_
