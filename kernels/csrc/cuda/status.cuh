// What a decode step has to say of a row of the batch: bits of a word in device memory that stay
// set until the host clears them, so that one look after many steps is enough.
#ifndef EDGEBENCH_CUDA_STATUS_CUH_
#define EDGEBENCH_CUDA_STATUS_CUH_

constexpr unsigned kBadToken = 1;   // a token id outside the vocabulary was embedded
constexpr unsigned kNotFinite = 2;  // the largest logit was NaN or infinite
constexpr unsigned kFull = 4;       // the row needs a column that the cache does not have

#endif  // EDGEBENCH_CUDA_STATUS_CUH_
