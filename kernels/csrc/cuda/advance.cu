// What a greedy decode step has to remember: the chosen tokens, who is done, the next columns.
//
// Formula, for each row b that is not finished:
//   status[b] has kNotFinite or kBadToken: finished, and nothing is appended
//   else  output[b, counts[b]] = ids[b];  counts[b] += 1;
//         finished if ids[b] = eos or counts[b] = limit, else columns[b] += 1;
//         a next column outside the cache: finished, with kFull, and the column stays.
//   remaining = how many rows are not finished.
//   A finished row keeps its token and its column: steps that still come write the same cell again.
//
// Arguments:
//   ids        s64 [rows]           what argmax chose
//   columns    s32 [rows]           of the cache; where the token just embedded was written
//   counts     s32 [rows]           tokens in output
//   finished   s32 [rows]           0 or 1
//   status     u32 [rows]           status.cuh
//   output     s64 [rows, limit]
//   remaining  s32 [1]
//   rows, limit, length, eos  s32   length: columns of the cache; eos: -1 for none
// Launch: grid (1), 256 threads, 32 bytes of shared memory.
//
// Picture: one block, a thread for a row and turn; behind the first step of a prompt, whose columns
//   are those of the prompts' last tokens, it does the same.
// Roofline: some hundred bytes: a launch. Time: not measured alone.
// Sources: own.
#include "row.cuh"
#include "status.cuh"

constexpr int kWarps = 8;

struct Answers {
  const s64* ids;
  s32* columns;
  s32* counts;
  s32* finished;
  u32* status;
  s64* output;
  int limit, length, eos;

  // Whether the row goes on.
  EB_DEVICE bool advance(int row) const {
    if (finished[row] != 0) return false;
    const bool goes_on = (status[row] & (kNotFinite | kBadToken)) == 0 && append(row);
    if (!goes_on) finished[row] = 1;
    return goes_on;
  }

  EB_DEVICE bool append(int row) const {
    const int count = counts[row];
    if (count >= limit) return false;
    output[(s64)row * limit + count] = ids[row];
    counts[row] = count + 1;
    if (ids[row] == eos || count + 1 == limit) return false;
    if (columns[row] + 1 >= length) {
      status[row] |= kFull;
      return false;
    }
    columns[row] += 1;
    return true;
  }
};

EB_DEVICE void advance_all(const Answers& answers, s32* remaining, int rows) {
  EB_SHARED(memory);
  grid_dependency_launch();
  grid_dependency_wait();
  float going_on = 0;  // a whole number: exact up to 2^24 rows
  for (int row = thread_id(); row < rows; row += threads()) going_on += answers.advance(row);
  const float all = block_sum<kWarps>(going_on, (float*)memory);
  if (thread_id() == 0) *remaining = (s32)all;
}

// No __restrict__ on what the kernel before may still write when this one begins: the compiler
// would read it as if it never changed (ld.global.nc), through caches that keep what was there.
EB_KERNEL(32 * kWarps, 1)
advance(const s64* ids, s32* __restrict__ columns, s32* __restrict__ counts,
        s32* __restrict__ finished, u32* status, s64* __restrict__ output,
        s32* __restrict__ remaining, int rows, int limit, int length, int eos) {
  advance_all({ids, columns, counts, finished, status, output, limit, length, eos}, remaining,
              rows);
}
