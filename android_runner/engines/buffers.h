// Memory for the features of an engine. In a chain that runs again and again, the same few buffers go round: none is
// allocated, and what a block has just read is still in the cache when the next one writes to it.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace adaptivenet {

// A buffer starts where the longest vector of a processor is loaded at once, and ends with kRoom bytes that nobody
// uses: XNNPACK may read past the end of an input (XNN_EXTRA_BYTES, at most 16), and ignores what it reads.
inline constexpr std::size_t kAlignment = 64;
inline constexpr std::size_t kRoom = 64;

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte, FreeMemory>;

// `bytes` of new memory and the room behind them, not initialised. Throws std::bad_alloc.
Memory allocate(std::size_t bytes);

class Buffers;

// Memory that goes back to where it was taken from when this object is destroyed.
class Buffer {
 public:
  Buffer(Buffer&&) = default;
  Buffer& operator=(Buffer&&) = delete;
  ~Buffer();

  std::byte* data() const { return memory_.get(); }

 private:
  friend class Buffers;
  Buffer(std::shared_ptr<Buffers> from, Memory memory, std::size_t bytes)
      : from_(std::move(from)), memory_(std::move(memory)), bytes_(bytes) {}

  std::shared_ptr<Buffers> from_;
  Memory memory_;
  std::size_t bytes_;
};

// The buffers that are free, by their size. Of each size a few are held, of a chain all; the others are let go. May be
// used from several threads, and lives as long as the last buffer.
class Buffers : public std::enable_shared_from_this<Buffers> {
 public:
  enum class Fit {
    kExact,    // a buffer is of the size that was asked for: what is kept takes no more memory than it needs
    kAtLeast,  // or of the next larger size: the two or three buffers of a chain serve all of its features
  };
  explicit Buffers(Fit fit = Fit::kExact) : fit_(fit) {}

  // A buffer of `bytes`: the one that was given back last, or a new one. Throws std::bad_alloc.
  Buffer take(std::size_t bytes);

  // A T that lies in such a buffer, made of `arguments`.
  template <typename T, typename... Arguments>
  std::shared_ptr<T> make(Arguments&&... arguments) {
    return std::allocate_shared<T>(Allocator<T>{shared_from_this()}, std::forward<Arguments>(arguments)...);
  }

 private:
  friend class Buffer;
  template <typename T>
  struct Allocator {
    using value_type = T;
    explicit Allocator(std::shared_ptr<Buffers> buffers) : from(std::move(buffers)) {}
    template <typename U>
    Allocator(const Allocator<U>& other) : from(other.from) {}  // NOLINT: the standard wants it to be implicit

    T* allocate(std::size_t count) {
      return reinterpret_cast<T*>(from->memory_of(from->objects_, count * sizeof(T)).release());
    }
    void deallocate(T* memory, std::size_t count) {
      from->give_back(from->objects_, Memory(reinterpret_cast<std::byte*>(memory)), count * sizeof(T));
    }
    template <typename U>
    bool operator==(const Allocator<U>& other) const {
      return from == other.from;
    }

    std::shared_ptr<Buffers> from;
  };

  using BySize = std::map<std::size_t, std::vector<Memory>>;

  Memory memory_of(BySize& free, std::size_t bytes);  // of exactly this size
  void give_back(BySize& free, Memory memory, std::size_t bytes);

  const Fit fit_;
  std::mutex mutex_;  // guards the rest
  BySize free_;
  BySize objects_;  // memory of `make`'s, so that a small feature does not take it
};

}  // namespace adaptivenet
