// New tokens attend to the static cache: rotate, store, attend.
#ifndef EDGEBENCH_CPU_TOKEN_ATTENTION_H_
#define EDGEBENCH_CPU_TOKEN_ATTENTION_H_

#include <cstdint>

#include "doors.h"
#include "pool.h"

namespace edgebench {

// What is wrong with the cache's description, or EB_OK.
int check_cache(const EbCache& cache);
// The new tokens of a step. Sequence s brings counts[s] tokens (one each where counts is null); the
// last of every sequence goes to `column`, position = column - starts[s]. Rows of qkv, mixed and
// tokens are packed: sequence after sequence, without padding.
struct NewTokens {
  int64_t sequences;
  int64_t column;
  const int32_t* starts;
  const int32_t* counts;

  int64_t count(int64_t sequence) const { return counts == nullptr ? 1 : counts[sequence]; }
  int64_t rows() const;
};

// What is wrong with new tokens for this cache, or EB_OK.
int check_tokens(const EbCache& cache, const NewTokens& tokens);

// With the pool's mutex held and everything checked; see eb_attention.
void token_attention(Pool& threads, bool alone, const EbCache& cache, int64_t layer,
                     const NewTokens& tokens, float* qkv, float* mixed);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_TOKEN_ATTENTION_H_
