// A queue between two threads that allocates nothing and in which neither waits for the other.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <optional>

namespace adaptivenet {

template <typename T, std::size_t kSize>
class Ring {
 public:
  // For one thread: false when the other one is kSize - 1 behind. The value is lost then.
  bool push(const T& value) {
    const std::size_t at = end_.load(std::memory_order_relaxed), next = (at + 1) % kSize;
    if (next == begin_.load(std::memory_order_acquire)) return false;
    values_[at] = value;
    end_.store(next, std::memory_order_release);
    return true;
  }

  // For the other thread: the oldest value, or nothing.
  std::optional<T> pop() {
    const std::size_t at = begin_.load(std::memory_order_relaxed);
    if (at == end_.load(std::memory_order_acquire)) return std::nullopt;
    const T value = values_[at];
    begin_.store((at + 1) % kSize, std::memory_order_release);
    return value;
  }

 private:
  std::array<T, kSize> values_{};
  std::atomic<std::size_t> begin_ = 0;
  std::atomic<std::size_t> end_ = 0;
};

}  // namespace adaptivenet
