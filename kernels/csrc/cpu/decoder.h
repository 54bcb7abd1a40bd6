// A whole decode step of a Llama-family model over packed INT4 weights.
#ifndef EDGEBENCH_CPU_DECODER_H_
#define EDGEBENCH_CPU_DECODER_H_

#include <cstdint>
#include <vector>

#include "doors.h"
#include "ops.h"
#include "pool.h"
#include "token_attention.h"

namespace edgebench {

// Owns its activations; weights, norms and cache are the caller's.
class Decoder {
 public:
  // What is wrong with the model's description, or EB_OK.
  static int check(const EbModel& model);
  explicit Decoder(const EbModel& model);

  struct Paths {
    Family layers;
    Family head;
  };

  const EbModel& model() const { return model_; }
  // Everything checked; takes the pool for the whole step. True when the best of every row of ids
  // is finite. See eb_decoder_step.
  bool step(Paths paths, const NewTokens& added, const int64_t* tokens, bool every, float* logits,
            int64_t* ids);

 private:
  void reserve(int64_t rows);
  void embed(int64_t rows, const int64_t* tokens);
  void keep_last_rows(const NewTokens& added);

  std::vector<EbLayer> layers_;
  EbModel model_;
  int64_t rows_ = 0;  // that the buffers below hold
  // Rows of the residual stream, and of what each operation makes of them.
  std::vector<float> x_, delta_, normed_, qkv_, mixed_, gate_up_, gated_, logits_;
};

// ids[row] and whether the best of every row is finite; with the pool's mutex held.
bool argmax_rows(Pool& threads, int64_t rows, int64_t n, const float* x, int64_t* ids);

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_DECODER_H_
