// Drives fuzz_doors.cpp where the compiler has no libFuzzer: seeded random inputs for some seconds.
//
//     fuzz_doors SECONDS [SEED]      a failure names the seed of its input: fuzz_doors 0 SEED
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

uint32_t g_seed = 0;

void say_seed(int) { std::fprintf(stderr, "fuzz: the input of seed %u\n", g_seed); }

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return std::fprintf(stderr, "fuzz_doors SECONDS [SEED]\n"), 2;
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(std::atoi(arguments[1]));
  g_seed = count > 2 ? static_cast<uint32_t>(std::strtoul(arguments[2], nullptr, 10)) : 1;
  std::signal(SIGABRT, say_seed);
  unsigned long runs = 0;
  do {
    std::mt19937 random(g_seed);
    uint8_t input[64];
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
    ++runs;
    LLVMFuzzerTestOneInput(input, sizeof input);
    ++g_seed;
  } while (Clock::now() < end);
  std::printf("fuzz: %lu inputs, no defect\n", runs);
  return 0;
}
