// w4a16 by warp groups' products: what a block is, and the products of a chunk of 128 inputs.
//
//     stage:    | tokens x 64 halfs | tokens x 64 halfs | rows of tiles x chunk |
//     product:  m64 n kTokens k16: a tile of each of 4 warps x all tokens, one word
//
// Weights are decoded into registers, scaled, and rounded to fp16; kBatches batches of a warp group
// are under way at most, while the next one is decoded.
#ifndef EDGEBENCH_CUDA_W4A16_PRODUCTS_CUH_
#define EDGEBENCH_CUDA_W4A16_PRODUCTS_CUH_

#include "prim_wgmma.cuh"
#include "w4_tile.cuh"

template <int kGroupInputs, int kTokenCount, int kTileCount, int kWarpCount, int kProducerCount,
          int kBatchSize, int kBatchCount, int kStageCount>
struct Shape {
  static constexpr int kGroup = kGroupInputs;
  static constexpr int kTokens = kTokenCount;        // of a block
  static constexpr int kTiles = kTileCount;          // rows of tiles of a warp
  static constexpr int kWarps = kWarpCount;          // that multiply
  static constexpr int kProducers = kProducerCount;  // warps that copy; 0: all do both
  static constexpr int kBatch = kBatchSize;          // products that are issued together
  static constexpr int kBatches = kBatchCount;       // that are under way at most
  static constexpr int kStages = kStageCount;
  static constexpr int kAhead = kStages - 2;  // chunks that are asked for before they are needed

  static constexpr int kFirstCopier = kProducers == 0 ? 0 : kWarps;
  static constexpr int kCopiers = kProducers == 0 ? kWarps : kProducers;
  static constexpr int kCopierTiles = kWarps * kTiles / kCopiers;
  // A warp group of producers can give registers away, where two warp groups want more than the 168
  // that 12 warps have each: 56 and twice 224 are as many.
  static constexpr bool kMovesRegisters = kProducers == 4 && kWarps == 8 && kTiles * kTokens > 128;
  static constexpr int kEights = kTokens / 8;
  static constexpr int kProducts = t16x64::kChunkInputs / 16 * kTiles;  // of a chunk
  static constexpr int kTileBytes = chunk_bytes<kGroup>();
  static constexpr int kHalfBytes = 128 * kTokens;  // 64 inputs of all tokens
  static constexpr int kWeightsAt = 2 * kHalfBytes;
  static constexpr int kBytes = kWeightsAt + kWarps * kTiles * kTileBytes;
  static constexpr int kStageBytes = (kBytes + 1023) / 1024 * 1024;
  static_assert(kWarps % 4 == 0 && kStages >= 3, "whole warp groups; a slot that is being read");
  static_assert(kWarps * kTiles % kCopiers == 0, "a producer has whole rows of tiles");
  static_assert(kBatches >= 2 && kProducts % (kBatch * kBatches) == 0, "a chunk is whole rounds");

  static EB_DEVICE constexpr int fragment(int product) { return product % (kBatch * kBatches); }
};

EB_DEVICE u32 word_of(const Quad& quad, int i) {
  return i == 0 ? quad.x : i == 1 ? quad.y : i == 2 ? quad.z : quad.w;
}

// What a group of each of the warp's tiles is decoded with.
template <class S>
struct GroupOf {
  u32 scales[S::kTiles];
  Zeros zeros[S::kTiles];

  EB_DEVICE void load(const u8* weights, int group) {
#pragma unroll
    for (int tile = 0; tile < S::kTiles; ++tile) {
      const u8* const tail = weights + tile * S::kTileBytes + group_at<S::kGroup>(group);
      scales[tile] = scales_at(tail, lane_id() / 4);
      zeros[tile] = zeros_of(zeros_at(tail, lane_id() / 4));
    }
  }
};

// A fragments of the products that are under way: a[S::fragment(product)].
template <class S>
using Fragments = u32[S::kBatch * S::kBatches][4];

// Issues the products of a chunk, batch by batch, each of which is under way while the next ones
// are decoded. `between` is called when there are as many as may be, and none of the chunk before;
// when this returns the last ones still are.
template <class S, class Between>
EB_DEVICE void multiply(const u8* stage, Fragments<S>& fragments,
                        float (&sums)[S::kTiles][S::kEights][4], const Between& between) {
  const u8* const weights = stage + S::kWeightsAt + warp_id() * S::kTiles * S::kTileBytes;
  const u64 rows = matrix_descriptor(stage);
  GroupOf<S> of;
  Quad words[2][S::kTiles];  // of each half of the chunk
#pragma unroll
  for (int i = 0; i < 2 * S::kTiles; ++i) {
    const int half = i / S::kTiles, tile = i % S::kTiles;
    words[half][tile] =
        *(const Quad*)(weights + tile * S::kTileBytes + codes_at<S::kGroup>(half) + 16 * lane_id());
  }
#pragma unroll
  for (int first = 0; first < S::kProducts; first += S::kBatch) {
#pragma unroll
    for (int product = first; product < first + S::kBatch; ++product) {
      const int step = product / S::kTiles, tile = product % S::kTiles;
      if (tile == 0 && step % (S::kGroup / 16) == 0) of.load(weights, step / (S::kGroup / 16));
      u32* const a = fragments[S::fragment(product)];
      decode(word_of(words[step / 4][tile], step % 4), of.zeros[tile], a);
      scale_fragment(of.scales[tile], a);
    }
    wgmma_fence();
#pragma unroll
    for (int product = first; product < first + S::kBatch; ++product) {
      const int step = product / S::kTiles, tile = product % S::kTiles;
      const u64 inputs = rows + step / 4 * (S::kHalfBytes / 16) + step % 4 * 2;
      wgmma_f16<S::kTokens>(&sums[tile][0][0], fragments[S::fragment(product)], inputs, true);
    }
    wgmma_commit();
    if (first / S::kBatch == S::kBatches - 1) between();
    wgmma_wait<S::kBatches - 1>();
  }
}

template <class S>
EB_DEVICE void end_products(float (&sums)[S::kTiles][S::kEights][4]) {
  wgmma_wait<0>();
  settle<S::kTiles * S::kEights * 4>(&sums[0][0][0]);
}

// Of each slot: its chunk is there; its chunk is done with.
struct Slots {
  u64 *full, *empty;
};
template <class S>
EB_DEVICE Slots slots_of(u8* memory) {
  u64* const first = (u64*)(memory + S::kStages * S::kStageBytes);
  return {first, first + S::kStages};
}

// The sums of a warp that only multiplies. give_back(slot): by all lanes of each warp, when it is
// done with what was there.
template <class S, class GiveBack>
EB_DEVICE void consume(int chunks, u8* memory, Slots slots, float (&sums)[S::kTiles][S::kEights][4],
                       const GiveBack& give_back) {
  Fragments<S> fragments;
  settle<S::kTiles * S::kEights * 4>(&sums[0][0][0]);  // zeros, before products are under way
  int slot = 0, before = S::kStages - 1;
  u32 parity = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    wait_arrivals(slots.full + slot, parity);
    multiply<S>(memory + slot * S::kStageBytes, fragments, sums, [&] {
      warp_barrier();
      if (chunk > 0) give_back(before);
    });
    before = slot;
    slot = slot == S::kStages - 1 ? 0 : slot + 1;
    parity ^= slot == 0;
  }
  end_products<S>(sums);
}

#endif  // EDGEBENCH_CUDA_W4A16_PRODUCTS_CUH_
