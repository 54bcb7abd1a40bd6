// The program around emulated kernels: launches read from a file, buffers written to another.
//
// The test's Python side writes the file (tests/cuda/emulation.py). Words are little-endian:
//
//     launches u64, then for each: variant, grid x y z, cluster, threads, shared bytes, early,
//     greedy, resident, seed, arguments: u64 each; then for each argument
//         0 bytes value   a scalar of so many bytes in a u64
//         1 bytes data    a buffer; its bytes after the launch go to the output, in order
//         2 0             a null pointer
//         3 index         the buffer of an argument before
//         4 bytes data    a buffer that the kernel before still writes (arrivals.h)
//         5 rows columns tile_rows, then 1 or 4: a tensor map of fp16 in that buffer
#ifndef EDGEBENCH_TESTS_EMULATE_MAIN_H_
#define EDGEBENCH_TESTS_EMULATE_MAIN_H_

#include <functional>
#include <type_traits>
#include <utility>

#include "arrivals.h"
#include "emulator.h"

namespace emulation {

struct Argument {
  u64 kind = 0, bytes = 0, value = 0;
  void* buffer = nullptr;
  int rows = 0, columns = 0, tile_rows = 0;  // of a tensor map

  template <class T>
  T as() const {
    if constexpr (std::is_same_v<T, TensorMap>) {
      if (tile_rows == 0) emulator::fail(emulator::kBadLaunch, "a buffer for a tensor map");
      if (2ull * rows * columns != bytes) {
        emulator::fail(emulator::kBadLaunch, "%llu bytes for a matrix of %d x %d halfs", bytes,
                       rows, columns);
      }
      return {static_cast<const u8*>(buffer), rows, columns, tile_rows};
    } else if constexpr (std::is_pointer_v<T>) {
      if (kind == 0) emulator::fail(emulator::kBadLaunch, "a scalar for a pointer");
      return static_cast<T>(buffer);
    } else {
      if (kind != 0 || bytes != sizeof(T)) {
        emulator::fail(emulator::kBadLaunch, "%llu bytes for a scalar of %zu", bytes, sizeof(T));
      }
      T result;
      memcpy(&result, &value, sizeof(T));
      return result;
    }
  }
};

using Arguments = std::vector<Argument>;
using Kernel = std::function<void(const Arguments&)>;

template <class... T, size_t... kIndex>
Kernel door(void (*kernel)(T...), std::index_sequence<kIndex...>) {
  return [kernel](const Arguments& arguments) {
    if (arguments.size() != sizeof...(T)) {
      emulator::fail(emulator::kBadLaunch, "%zu arguments for a kernel of %zu", arguments.size(),
                     sizeof...(T));
    }
    kernel(arguments[kIndex].as<T>()...);
  };
}
template <class... T>
Kernel door(void (*kernel)(T...)) {
  return door(kernel, std::index_sequence_for<T...>());
}

inline u64 read_word(FILE* from) {
  u64 word = 0;
  if (fread(&word, 8, 1, from) != 1) emulator::fail(emulator::kBadLaunch, "the file is cut off");
  return word;
}

inline Argument read_argument(FILE* from) {
  Argument argument;
  argument.kind = read_word(from);
  if (argument.kind == 5) {
    argument.rows = static_cast<int>(read_word(from));
    argument.columns = static_cast<int>(read_word(from));
    argument.tile_rows = static_cast<int>(read_word(from));
    argument.kind = read_word(from);
  }
  argument.bytes = read_word(from);
  if (argument.kind == 0) argument.value = read_word(from);
  if (argument.kind == 1 || argument.kind == 4) {
    // A device allocation is 256-byte aligned; the size is exact, so that ASan sees its end.
    if (posix_memalign(&argument.buffer, 256, argument.bytes) != 0 ||
        fread(argument.buffer, 1, argument.bytes, from) != argument.bytes) {
      emulator::fail(emulator::kBadLaunch, "the file is cut off in a buffer");
    }
  }
  if (argument.kind == 4) emulator::delay(argument.buffer, argument.bytes);
  return argument;
}

inline void run_launch(FILE* from, FILE* to, const std::vector<Kernel>& kernels) {
  const u64 variant = read_word(from);
  emulator::Launch launch;
  for (int& size : launch.grid) size = static_cast<int>(read_word(from));
  launch.cluster = static_cast<int>(read_word(from));
  launch.threads = static_cast<int>(read_word(from));
  launch.shared_bytes = static_cast<int>(read_word(from));
  launch.is_early = read_word(from) != 0;
  launch.is_greedy = read_word(from) != 0;
  launch.resident = static_cast<int>(read_word(from));
  launch.seed = static_cast<unsigned>(read_word(from));
  Arguments arguments(read_word(from));
  for (Argument& argument : arguments) {
    argument = read_argument(from);
    if (argument.kind == 3) argument.buffer = arguments.at(argument.bytes).buffer;
  }
  const Kernel& kernel = kernels.at(variant);
  launch.body = [&kernel, &arguments] { kernel(arguments); };
  emulator::run(launch);
  emulator::arrivals.clear();
  for (const Argument& argument : arguments) {
    if (argument.kind != 1 && argument.kind != 4) continue;
    fwrite(argument.buffer, 1, argument.bytes, to);
    free(argument.buffer);
  }
}

inline int run_file(int count, char** names, const std::vector<Kernel>& kernels) {
  if (count != 3) emulator::fail(emulator::kBadLaunch, "usage: %s LAUNCHES RESULTS", names[0]);
  FILE* const from = fopen(names[1], "rb");
  FILE* const to = fopen(names[2], "wb");
  if (from == nullptr || to == nullptr) emulator::fail(emulator::kBadLaunch, "cannot open");
  const u64 launches = read_word(from);
  for (u64 i = 0; i < launches; ++i) run_launch(from, to, kernels);
  fclose(from);
  return fclose(to);
}

}  // namespace emulation

#endif  // EDGEBENCH_TESTS_EMULATE_MAIN_H_
