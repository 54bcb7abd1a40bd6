// prim_cluster.cuh on the emulator: blocks that read each other's shared memory.
//
// What hardware leaves undefined ends the process:
//
//   * threads that come to the cluster's barrier from different places (also: while others of the
//     same phase are at another one)
//   * a sibling that is not in the cluster, or has ended
//   * bytes outside of its shared memory
//
// A read before the barrier that hands the bytes over gives what is there: NaN at first.
#ifndef EDGEBENCH_TESTS_EMULATED_CLUSTER_H_
#define EDGEBENCH_TESTS_EMULATED_CLUSTER_H_

namespace emulated {
constexpr int kRankBit = 24;  // of a sibling's address; shared memory is smaller than 2^24 bytes
}  // namespace emulated

inline int cluster_rank() { return emulator::self->block->z % emulator::launch.cluster; }
inline int cluster_blocks() { return emulator::launch.cluster; }

inline void cluster_barrier(EB_SITE_PARAMETER) {
  warp_barrier(site);
  emulator::Cluster& cluster = *emulator::self->block->cluster;
  if (cluster.arrived == 0) cluster.site = site;
  if (!(cluster.site == site)) {
    emulator::fail(emulator::kDivergence,
                   "divergence: one barrier of a cluster from %s:%d and from %s:%d",
                   cluster.site.file, cluster.site.line, site.file, site.line);
  }
  const unsigned phase = cluster.phase;
  emulator::self->has_arrived = true;
  cluster.arrived += 1;
  emulator::end_phase_if_complete(cluster);
  emulator::wait_until([&cluster, phase] { return cluster.phase != phase; }, site);
}
inline void cluster_barrier_relaxed(EB_SITE_PARAMETER) { cluster_barrier(site); }

inline u32 sibling_address(const void* at, int rank, EB_SITE_PARAMETER) {
  if (rank < 0 || rank >= emulator::launch.cluster) {
    emulator::fail(emulator::kOutsideCluster, "cluster: rank %d of %d at %s:%d", rank,
                   emulator::launch.cluster, site.file, site.line);
  }
  return static_cast<u32>(rank) << emulated::kRankBit |
         (shared_address(at) & ((1u << emulated::kRankBit) - 1));
}

inline Quad load_sibling(u32 from, EB_SITE_PARAMETER) {
  const u32 rank = from >> emulated::kRankBit, at = from & ((1u << emulated::kRankBit) - 1);
  if (at % 16 != 0) {
    emulator::fail(emulator::kMisaligned, "misaligned: byte %u of a sibling at %s:%d", at,
                   site.file, site.line);
  }
  if (at + 16 > static_cast<u32>(emulator::launch.shared_bytes)) {
    emulator::fail(emulator::kOutsideCluster,
                   "cluster: byte %u of a sibling's %d of shared memory at %s:%d", at,
                   emulator::launch.shared_bytes, site.file, site.line);
  }
  const emulator::Block* const sibling = emulator::self->block->cluster->blocks.at(rank);
  if (sibling == nullptr) {
    emulator::fail(emulator::kOutsideCluster, "cluster: a sibling that has ended at %s:%d",
                   site.file, site.line);
  }
  Quad quad;
  memcpy(&quad, sibling->shared + at, 16);
  return quad;
}

#endif  // EDGEBENCH_TESTS_EMULATED_CLUSTER_H_
