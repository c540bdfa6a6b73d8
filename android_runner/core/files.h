// Reading files that may have been put there by somebody else.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace adaptivenet {

// A whole file, mapped for reading. Movable, not copyable; the bytes stay where they are when it is moved.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  // Maps a regular file, never through a symbolic link at its last step, never a pipe or device.
  // Throws std::runtime_error with the path and the reason.
  explicit MappedFile(const std::filesystem::path& path);

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Lets the system have the memory that the bytes take. They stay mapped: what is read is fetched from the file again.
  void leave_memory() const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The text of a regular file of at most `limit` bytes, opened as MappedFile does. Throws std::runtime_error.
std::string read_text(const std::filesystem::path& path, std::size_t limit);

}  // namespace adaptivenet
