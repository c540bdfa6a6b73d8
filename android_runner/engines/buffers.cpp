#include "engines/buffers.h"

#include <cstdint>
#include <new>
#include <utility>

namespace adaptivenet {
namespace {

// In a chain a block reads one buffer and writes another. Features that are kept come back all at once.
constexpr std::size_t kHeld = 2;

}  // namespace

Memory allocate(std::size_t bytes) {
  if (bytes > SIZE_MAX - kRoom - kAlignment) throw std::bad_alloc();
  const std::size_t rounded = (bytes + kRoom + kAlignment - 1) / kAlignment * kAlignment;
  Memory memory(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)));
  if (!memory) throw std::bad_alloc();
  return memory;
}

Buffer::~Buffer() {
  if (memory_) from_->give_back(std::move(memory_), bytes_);
}

Buffer Buffers::take(std::size_t bytes) { return {shared_from_this(), memory_of(bytes), bytes}; }

Memory Buffers::memory_of(std::size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = free_.find(bytes); found != free_.end() && !found->second.empty()) {
      Memory memory = std::move(found->second.back());
      found->second.pop_back();
      return memory;
    }
  }
  return allocate(bytes);
}

void Buffers::give_back(Memory memory, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  auto& free = free_[bytes];
  if (free.empty()) free.reserve(kHeld);
  if (free.size() < kHeld) free.push_back(std::move(memory));
}

}  // namespace adaptivenet
