// One libFuzzer target; TARGET is its name.
#include <cstddef>
#include <cstdint>
#include <span>

#include "entries.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const adaptivenet::Entry entry = adaptivenet::fuzz_entries().at(TARGET);
  entry(std::as_bytes(std::span(data, size)));
  return 0;
}
