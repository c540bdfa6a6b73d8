// A pack in one file: an uncompressed tar archive of its folder, which may be a part of another file. See docs/pack.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/files.h"

namespace adaptivenet {

class Archive {
 public:
  // The archive that takes `length` bytes from `offset` on of the file that `descriptor` is open to read. All of its
  // headers are read and checked here; nothing of what the files hold. The descriptor stays the caller's, who may close
  // it afterwards. Throws PackError.
  Archive(int descriptor, std::int64_t offset, std::int64_t length);
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;
  ~Archive();

  // The bytes of a file, named as in the pack: "manifest.json", "blobs/…". Throw PackError for one that is not there or
  // has more than `limit` bytes, or that the system does not let read.
  std::string read_text(const std::string& name, std::size_t limit) const;
  MappedFile map(const std::string& name) const;

 private:
  struct Entry {
    std::uint64_t begin = 0;  // in the file
    std::uint64_t bytes = 0;
  };

  const Entry& entry(const std::string& name) const;
  void read(std::uint64_t at, void* to, std::size_t bytes) const;
  std::uint64_t take_entry(std::uint64_t at, std::uint64_t end);  // where the next one begins; `at` when there is none
  void require_nothing_from(std::uint64_t at, std::uint64_t end) const;

  int descriptor_;
  std::uint64_t begin_;
  std::map<std::string, Entry> entries_;
};
using ArchivePtr = std::shared_ptr<const Archive>;

}  // namespace adaptivenet
