// Tile registers: their configuration, held for the length of one call.
#ifndef EDGEBENCH_CPU_AMX_H_
#define EDGEBENCH_CPU_AMX_H_

#include <immintrin.h>
#include <stdint.h>

#include "avx512.h"

namespace edgebench {
namespace amx {

constexpr int kMaxRows = 16;       // of a tile
constexpr int kMaxRowBytes = 64;   // of a tile
constexpr int kTileRegisters = 8;  // tmm0..tmm7

// The operand of ldtilecfg: Intel SDM volume 1, section 18.2, palette 1.
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64, "ldtilecfg reads 64 bytes");

// Memory is as the program says before what follows: GCC 12 does not know that ldtilecfg and
// tileloadd read more than their first eight bytes.
EB_INLINE void settle(const void* what) { asm volatile("" : : "r"(what) : "memory"); }

// All tiles 16 rows of 64 bytes, except: tmm4, tmm5 (A) have `inputs` bytes a row and tmm6, tmm7
// (B) inputs / 4 rows; inputs <= 64. The caller ends with _tile_release().
EB_INLINE void configure(int inputs) {
  TileConfig config = {};
  config.palette = 1;
  for (int tile = 0; tile < kTileRegisters; ++tile) {
    config.rows[tile] = (uint8_t)(tile >= 6 ? inputs / 4 : kMaxRows);
    config.row_bytes[tile] = (uint16_t)(tile == 4 || tile == 5 ? inputs : kMaxRowBytes);
  }
  settle(&config);
  _tile_loadconfig(&config);
}

}  // namespace amx
}  // namespace edgebench

#endif  // EDGEBENCH_CPU_AMX_H_
