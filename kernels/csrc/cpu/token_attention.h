// One new token per row attends to the static cache: rotate, store, attend, in one parallel pass.
#ifndef EDGEBENCH_CPU_TOKEN_ATTENTION_H_
#define EDGEBENCH_CPU_TOKEN_ATTENTION_H_

#include <cstdint>

#include "doors.h"
#include "pool.h"

namespace edgebench {

// What is wrong with the cache's description, or EB_OK.
int check_cache(const EbCache& cache);
// What is wrong with a step's batch, column and starts, or EB_OK.
int check_step(const EbCache& cache, int64_t batch, int64_t column, const int32_t* starts);

// With the pool's mutex held and everything checked; see eb_token_attention.
void token_attention(Pool& threads, const EbCache& cache, int64_t layer, int64_t batch,
                     int64_t column, const int32_t* starts, float* qkv, float* mixed);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_TOKEN_ATTENTION_H_
