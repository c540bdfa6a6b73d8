#include "allocations.h"

#include <dlfcn.h>

#include <cstdlib>
#include <new>

namespace {

thread_local std::size_t count = 0;

}  // namespace

// The program's own come before those of the libraries, so that all of the process are counted.
void* operator new(std::size_t bytes) {
  ++count;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

extern "C" void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  using AlignedAlloc = void* (*)(std::size_t, std::size_t);
  static const auto real = reinterpret_cast<AlignedAlloc>(dlsym(RTLD_NEXT, "aligned_alloc"));
  ++count;
  return real(alignment, bytes);
}

namespace adaptivenet {

std::size_t allocations_of_this_thread() { return count; }

}  // namespace adaptivenet
