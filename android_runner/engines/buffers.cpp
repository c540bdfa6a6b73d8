#include "engines/buffers.h"

#include <cstdint>
#include <new>
#include <utility>

namespace adaptivenet {
namespace {

// Features that are kept come back all at once. Of a chain, no more come than it has at one time.
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
  if (memory_) from_->give_back(from_->free_, std::move(memory_), bytes_);
}

Buffer Buffers::take(std::size_t bytes) {
  if (fit_ == Fit::kAtLeast) {
    const std::lock_guard lock(mutex_);
    const auto large_enough = free_.lower_bound(bytes);
    for (auto at = large_enough; at != free_.end(); ++at) {
      if (Memory memory = last_of(at->second)) return {shared_from_this(), std::move(memory), at->first};
    }
    // A larger one takes the place of the largest there is: a chain has no more buffers than features at one time.
    for (auto at = large_enough; at != free_.begin();) {
      if (last_of((--at)->second)) break;
    }
  }
  return {shared_from_this(), memory_of(free_, bytes), bytes};
}

Memory Buffers::memory_of(BySize& free, std::size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = free.find(bytes); found != free.end()) {
      if (Memory memory = last_of(found->second)) return memory;
    }
  }
  return allocate(bytes);
}

void Buffers::give_back(BySize& free, Memory memory, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  auto& of_size = free[bytes];
  if (of_size.empty()) of_size.reserve(kHeld);
  if (fit_ == Fit::kAtLeast || of_size.size() < kHeld) of_size.push_back(std::move(memory));
}

}  // namespace adaptivenet
