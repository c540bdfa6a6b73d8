#include "core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
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
  if (file.size() > SIZE_MAX) refuse(path, "has " + std::to_string(file.size()) + " bytes, too many to map");
  size_ = static_cast<std::size_t>(file.size());
  if (size_ == 0) return;  // an empty mapping is an error
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (data == MAP_FAILED) refuse(path, std::string("cannot be mapped: ") + std::strerror(errno));
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::leave_memory() const {
  if (data_ != nullptr) ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
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
