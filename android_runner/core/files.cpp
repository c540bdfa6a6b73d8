#include "core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

#include "core/quote.h"

namespace adaptivenet {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& reason) {
  throw std::runtime_error(quote(path.string()) + " " + reason);
}

// A regular file, open for reading.
class OpenFile {
 public:
  explicit OpenFile(const std::filesystem::path& path) : path_(path) {
    // Without O_NONBLOCK, opening a pipe would wait for somebody to write.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor_ < 0) fail("cannot be read");
    struct stat status{};
    if (::fstat(descriptor_, &status) != 0) fail("cannot be read");
    if (!S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      refuse(path_, "is not a regular file");
    }
    size_ = static_cast<std::uint64_t>(status.st_size);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() { ::close(descriptor_); }

  int descriptor() const { return descriptor_; }
  std::uint64_t size() const { return size_; }

 private:
  [[noreturn]] void fail(const std::string& what) {
    const int error = errno;
    if (descriptor_ >= 0) ::close(descriptor_);
    if (error == ENOENT) refuse(path_, "is missing");
    if (error == ELOOP) refuse(path_, "is a symbolic link");
    refuse(path_, what + ": " + std::strerror(error));
  }

  const std::filesystem::path& path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const OpenFile file(path);
  try {
    map(file.descriptor(), 0, file.size());
  } catch (const std::runtime_error& error) {
    refuse(path, error.what());
  }
}

MappedFile::MappedFile(int descriptor, std::uint64_t offset, std::uint64_t bytes) { map(descriptor, offset, bytes); }

void MappedFile::map(int descriptor, std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0) return;  // an empty mapping is an error
  const std::uint64_t before = offset % static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (bytes > SIZE_MAX - before) {
    throw std::runtime_error("has " + std::to_string(bytes) + " bytes, too many to map");
  }
  mapped_ = static_cast<std::size_t>(before + bytes);
  void* data = ::mmap(nullptr, mapped_, PROT_READ, MAP_PRIVATE, descriptor, static_cast<off_t>(offset - before));
  if (data == MAP_FAILED) throw std::runtime_error(std::string("cannot be mapped: ") + std::strerror(errno));
  mapping_ = data;
  data_ = static_cast<const std::byte*>(data) + before;
  size_ = static_cast<std::size_t>(bytes);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)),
      copied_(std::exchange(other.copied_, false)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(copied_, other.copied_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapped_);
}

void MappedFile::align(std::size_t alignment) {
  if (reinterpret_cast<std::uintptr_t>(data_) % alignment == 0) return;
  void* copy = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (copy == MAP_FAILED) throw std::bad_alloc();
  std::memcpy(copy, data_, size_);
  ::munmap(mapping_, mapped_);
  mapping_ = copy;
  mapped_ = size_;
  copied_ = true;
  data_ = static_cast<const std::byte*>(copy);
}

void MappedFile::leave_memory() const {
  if (mapping_ != nullptr && !copied_) ::madvise(mapping_, mapped_, MADV_DONTNEED);
}

std::string read_text(const std::filesystem::path& path, std::size_t limit) {
  const OpenFile file(path);
  // The bytes are counted as they come: the size of the file may have changed since it was asked for.
  std::string text;
  char chunk[1 << 16];
  while (true) {
    const ssize_t count = ::read(file.descriptor(), chunk, sizeof(chunk));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    if (count == 0) return text;
    if (static_cast<std::size_t>(count) > limit - text.size()) {
      refuse(path, "has more than " + std::to_string(limit) + " bytes");
    }
    text.append(chunk, static_cast<std::size_t>(count));
  }
}

}  // namespace adaptivenet
