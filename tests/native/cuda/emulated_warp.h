// prim_warp.cuh on the emulator: 32 lanes meet, and one function sees all their operands.
#ifndef EDGEBENCH_TESTS_EMULATED_WARP_H_
#define EDGEBENCH_TESTS_EMULATED_WARP_H_

namespace emulated {

template <class T>
T& lane_of(void** lanes, int lane) {
  return *static_cast<T*>(lanes[lane]);
}

template <class Sum>
struct MmaLane {
  u32 a[4], b[2];
  Sum c[4];
};

// A[row][k], where a register holds `kWide` neighbours in k (2 halfs or 4 bytes).
template <class Sum, int kWide>
u32 element_a(void** lanes, int row, int k) {
  const auto& lane = lane_of<MmaLane<Sum>>(lanes, row % 8 * 4 + k % (4 * kWide) / kWide);
  const u32 word = lane.a[(row >= 8 ? 1 : 0) + (k >= 4 * kWide ? 2 : 0)];
  return word >> (k % kWide * (32 / kWide));
}
template <class Sum, int kWide>
u32 element_b(void** lanes, int k, int column) {
  const auto& lane = lane_of<MmaLane<Sum>>(lanes, column * 4 + k % (4 * kWide) / kWide);
  return lane.b[k >= 4 * kWide] >> (k % kWide * (32 / kWide));
}

template <class Sum, class Exact, int kWide, class Value>
void combine_mma(void** lanes) {
  Value a[16][8 * kWide], b[8 * kWide][8];
  for (int k = 0; k < 8 * kWide; ++k) {
    for (int row = 0; row < 16; ++row) {
      const u32 bits = element_a<Sum, kWide>(lanes, row, k);
      if constexpr (kWide == 2) {
        a[row][k] = half_to_float(static_cast<u16>(bits));
      } else {
        a[row][k] = static_cast<s8>(bits);
      }
    }
    for (int column = 0; column < 8; ++column) {
      const u32 bits = element_b<Sum, kWide>(lanes, k, column);
      if constexpr (kWide == 2) {
        b[k][column] = half_to_float(static_cast<u16>(bits));
      } else {
        b[k][column] = static_cast<s8>(bits);
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
      Exact sum = lane_of<MmaLane<Sum>>(lanes, lane).c[i];
      for (int k = 0; k < 8 * kWide; ++k) sum += static_cast<Exact>(a[row][k]) * b[k][column];
      lane_of<MmaLane<Sum>>(lanes, lane).c[i] = static_cast<Sum>(sum);
    }
  }
}

template <class Sum>
void mma(Sum* c, const u32* a, u32 b0, u32 b1, emulator::Combine combine, emulator::Site site) {
  MmaLane<Sum> lane{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
  emulator::collective(&lane, combine, site);
  memcpy(c, lane.c, sizeof(lane.c));
}

struct MatrixLane {
  const void* row;
  u32 r[4];
};

template <int kMatrices, bool kIsTransposed>
void combine_load(void** lanes) {
  for (int i = 0; i < kMatrices; ++i) {
    u16 matrix[8][8];
    for (int row = 0; row < 8; ++row) {
      memcpy(matrix[row], lane_of<MatrixLane>(lanes, 8 * i + row).row, 16);
    }
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, q = lane % 4 * 2;
      const u16 low = kIsTransposed ? matrix[q][g] : matrix[g][q];
      const u16 high = kIsTransposed ? matrix[q + 1][g] : matrix[g][q + 1];
      lane_of<MatrixLane>(lanes, lane).r[i] = low | static_cast<u32>(high) << 16;
    }
  }
}

template <int kMatrices, bool kIsTransposed>
void load(u32* r, const void* row, emulator::Site site) {
  if (lane_id() < 8 * kMatrices) emulator::check_aligned(row, 16, site);
  MatrixLane lane{row, {}};
  emulator::collective(&lane, combine_load<kMatrices, kIsTransposed>, site);
  memcpy(r, lane.r, 4 * kMatrices);
}

struct ShuffleLane {
  u32 value;
  int from;
  u32 result;
};

inline void combine_shuffle(void** lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    ShuffleLane& me = lane_of<ShuffleLane>(lanes, lane);
    me.result = lane_of<ShuffleLane>(lanes, me.from & 31).value;
  }
}
inline void combine_transpose(void** lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, q = lane % 4;
    // Rows 2q and 2q + 1, half g.
    const u32 low = lane_of<ShuffleLane>(lanes, 8 * q + g / 2).value >> g % 2 * 16;
    const u32 high = lane_of<ShuffleLane>(lanes, 8 * q + 4 + g / 2).value >> g % 2 * 16;
    lane_of<ShuffleLane>(lanes, lane).result = (low & 0xffff) | high << 16;
  }
}
inline void combine_ballot(void** lanes) {
  u32 bits = 0;
  for (int lane = 0; lane < 32; ++lane) {
    bits |= static_cast<u32>(lane_of<ShuffleLane>(lanes, lane).value != 0) << lane;
  }
  for (int lane = 0; lane < 32; ++lane) lane_of<ShuffleLane>(lanes, lane).result = bits;
}

}  // namespace emulated

inline void mma_f16(float* c, const u32* a, u32 b0, u32 b1, EB_SITE_PARAMETER) {
  emulated::mma<float>(c, a, b0, b1, emulated::combine_mma<float, double, 2, float>, site);
}
inline void mma_s8(s32* c, const u32* a, u32 b0, u32 b1, EB_SITE_PARAMETER) {
  emulated::mma<s32>(c, a, b0, b1, emulated::combine_mma<s32, s64, 4, s32>, site);
}
inline void mma_s8_from(s32 start, s32* c, const u32* a, u32 b0, u32 b1, EB_SITE_PARAMETER) {
  for (int i = 0; i < 4; ++i) c[i] = start;
  mma_s8(c, a, b0, b1, site);
}
inline void load_matrix_x4(u32* r, const void* row, EB_SITE_PARAMETER) {
  emulated::load<4, false>(r, row, site);
}
inline void load_matrix_x2(u32* r, const void* row, EB_SITE_PARAMETER) {
  emulated::load<2, false>(r, row, site);
}
inline void load_matrix_x4_transposed(u32* r, const void* row, EB_SITE_PARAMETER) {
  emulated::load<4, true>(r, row, site);
}
inline void load_matrix_x2_transposed(u32* r, const void* row, EB_SITE_PARAMETER) {
  emulated::load<2, true>(r, row, site);
}
inline u32 transpose_matrix(u32 pair, EB_SITE_PARAMETER) {
  emulated::ShuffleLane lane{pair, 0, 0};
  emulator::collective(&lane, emulated::combine_transpose, site);
  return lane.result;
}
inline u32 shuffle(u32 value, int from, EB_SITE_PARAMETER) {
  emulated::ShuffleLane lane{value, from, 0};
  emulator::collective(&lane, emulated::combine_shuffle, site);
  return lane.result;
}
inline u32 shuffle_xor(u32 value, int mask, EB_SITE_PARAMETER) {
  return shuffle(value, lane_id() ^ mask, site);
}
inline float shuffle(float value, int from, EB_SITE_PARAMETER) {
  return bits_float(shuffle(float_bits(value), from, site));
}
inline float shuffle_xor(float value, int mask, EB_SITE_PARAMETER) {
  return bits_float(shuffle(float_bits(value), lane_id() ^ mask, site));
}
inline u32 ballot(bool fact, EB_SITE_PARAMETER) {
  emulated::ShuffleLane lane{fact, 0, 0};
  emulator::collective(&lane, emulated::combine_ballot, site);
  return lane.result;
}

#endif  // EDGEBENCH_TESTS_EMULATED_WARP_H_
