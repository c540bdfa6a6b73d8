#include "engines/buffers.h"

#include <cstdint>
#include <new>
#include <utility>

namespace adaptivenet {
namespace {

// In a chain a block reads one buffer and writes another. Features that are kept come back all at once.
constexpr std::size_t kHeld = 2;

// The one that was given back last, or null.
Memory last_of(std::vector<Memory>& free) {
  if (free.empty()) return nullptr;
  Memory memory = std::move(free.back());
  free.pop_back();
  return memory;
}

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

Buffer Buffers::take(std::size_t bytes) {
  if (fit_ == Fit::kAtLeast) {
    const std::lock_guard lock(mutex_);
    for (auto at = free_.lower_bound(bytes); at != free_.end(); ++at) {
      if (Memory memory = last_of(at->second)) return {shared_from_this(), std::move(memory), at->first};
    }
  }
  return {shared_from_this(), memory_of(bytes), bytes};
}

Memory Buffers::memory_of(std::size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = free_.find(bytes); found != free_.end()) {
      if (Memory memory = last_of(found->second)) return memory;
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
