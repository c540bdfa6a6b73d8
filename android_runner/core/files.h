// Reading files that may have been put there by somebody else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace adaptivenet {

// A whole file or a part of one, mapped for reading. Movable, not copyable; the bytes stay where they are when it is
// moved.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  // Maps a regular file, never through a symbolic link at its last step, never a pipe or device.
  // Throws std::runtime_error with the path and the reason.
  explicit MappedFile(const std::filesystem::path& path);

  // Maps `bytes` bytes from `offset` on of a file that is open to read, which must have them. Throws
  // std::runtime_error with the reason.
  MappedFile(int descriptor, std::uint64_t offset, std::uint64_t bytes);

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // From now on the bytes lie at a multiple of `alignment`, a power of two: they are copied where they do not yet, as
  // in a part of a file that begins anywhere. Throws std::bad_alloc.
  void align(std::size_t alignment);

  // Lets the system have the memory that the bytes take. They stay mapped: what is read is fetched from the file again.
  // A copy stays where it is.
  void leave_memory() const;

 private:
  void map(int descriptor, std::uint64_t offset, std::uint64_t bytes);

  void* mapping_ = nullptr;  // null for no bytes
  std::size_t mapped_ = 0;   // bytes of it
  bool copied_ = false;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The text of a regular file of at most `limit` bytes, opened as MappedFile does. Throws std::runtime_error.
std::string read_text(const std::filesystem::path& path, std::size_t limit);

}  // namespace adaptivenet
