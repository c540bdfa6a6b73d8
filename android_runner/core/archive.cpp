#include "core/archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/quote.h"

namespace adaptivenet {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::uint64_t kMostPadding = std::uint64_t{1} << 20;  // after the last entry; tar writes 10 KiB at most
constexpr char kMakeAgain[] = "; make it again as docs/pack.md says";

struct Header {
  char name[100];
  char mode[8], owner[8], group[8];
  char size[12];
  char time[12];
  char checksum[8];
  char type;
  char link[100];
  char magic[8];
  char rest[247];
};
static_assert(sizeof(Header) == kBlock);

[[noreturn]] void refuse(const std::string& reason) { throw PackError("the pack's archive " + reason + kMakeAgain); }

// A number as tar writes it: octal digits, with spaces before and NUL or spaces behind.
template <std::size_t kSize>
std::optional<std::uint64_t> octal(const char (&field)[kSize]) {
  std::string_view text(field, kSize);
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const std::size_t digits = std::min(text.find_first_not_of("01234567"), text.size());
  if (digits == 0 || text.find_first_not_of(std::string_view(" \0", 2), digits) != text.npos) return std::nullopt;
  std::uint64_t value = 0;  // of at most 12 digits, 36 bits
  for (const char digit : text.substr(0, digits)) value = value * 8 + static_cast<std::uint64_t>(digit - '0');
  return value;
}

bool is_empty(const Header& header) {
  const char* const bytes = reinterpret_cast<const char*>(&header);
  return std::all_of(bytes, bytes + kBlock, [](char byte) { return byte == 0; });
}

// The sum of all bytes, those of the sum itself taken for spaces.
std::uint64_t checksum(Header header) {
  std::memset(header.checksum, ' ', sizeof header.checksum);
  const auto* const bytes = reinterpret_cast<const unsigned char*>(&header);
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at < kBlock; ++at) sum += bytes[at];
  return sum;
}

bool is_blob(std::string_view name) {
  constexpr std::string_view kFolder = "blobs/";
  if (!name.starts_with(kFolder)) return false;
  name.remove_prefix(kFolder.size());
  const std::string_view suffix = name.size() < 64 ? name : name.substr(64);
  return (suffix == ".pte" || suffix == ".onnx") && name.find_first_not_of("0123456789abcdef") == 64;
}

}  // namespace

Archive::Archive(int descriptor, std::int64_t offset, std::int64_t length)
    : descriptor_(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0)), begin_(static_cast<std::uint64_t>(offset)) {
  try {
    struct stat status{};
    if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
      throw PackError(std::string("the pack's file cannot be read: ") + std::strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) throw PackError("the pack's file is not a regular file");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (offset < 0 || length < 0 || begin_ > size || static_cast<std::uint64_t>(length) > size - begin_) {
      throw PackError("there are no " + std::to_string(length) + " bytes from " + std::to_string(offset) +
                      " on in the pack's file, which has " + std::to_string(size));
    }
    const std::uint64_t end = begin_ + static_cast<std::uint64_t>(length);
    std::uint64_t at = begin_;
    for (std::uint64_t next; (next = take_entry(at, end)) != at;) at = next;
    require_nothing_from(at, end);
  } catch (...) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw;
  }
}

Archive::~Archive() { ::close(descriptor_); }

std::uint64_t Archive::take_entry(std::uint64_t at, std::uint64_t end) {
  if (end - at < kBlock) refuse("is cut off");
  Header header;
  read(at, &header, kBlock);
  if (is_empty(header)) return at;
  const std::string where = " at byte " + std::to_string(at - begin_);
  if (octal(header.checksum) != checksum(header)) refuse("is damaged" + where + ", or is no tar archive");
  const std::string_view magic(header.magic, sizeof header.magic);
  if (magic != std::string_view("ustar\00000", 8) && magic != std::string_view("ustar  \0", 8)) {
    refuse("has an entry" + where + " that is not of the format ustar");
  }
  const std::optional<std::uint64_t> bytes = octal(header.size);
  if (!bytes) refuse("has an entry" + where + " whose size is no number");
  std::string name(header.name, ::strnlen(header.name, sizeof header.name));
  if (name.starts_with("./")) name.erase(0, 2);
  const std::uint64_t begin = at + kBlock;
  if (header.type == '5' && *bytes == 0 && (name.empty() || name == "blobs/")) return begin;
  if (header.type != '0' && header.type != '\0') {
    refuse("has " + quote(name) + ", which is no file; a pack holds regular files only");
  }
  // With a prefix, as tar gives to long names, it would be another name.
  const bool prefixed = magic[6] == '0' && header.rest[80] != '\0';
  if (prefixed || (name != "manifest.json" && !is_blob(name))) {
    refuse("has " + quote(name) + ", which is no file of a pack");
  }
  if (*bytes > end - begin || (kBlock - *bytes % kBlock) % kBlock > end - begin - *bytes) {
    refuse("ends before the end of " + name);
  }
  if (!entries_.insert({name, {begin, *bytes}}).second) refuse("has " + name + " twice");
  return begin + (*bytes + kBlock - 1) / kBlock * kBlock;
}

void Archive::require_nothing_from(std::uint64_t at, std::uint64_t end) const {
  bool empty = end - at <= kMostPadding;
  std::array<char, 4096> piece;
  for (; empty && at < end; at += piece.size()) {
    const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), end - at));
    read(at, piece.data(), bytes);
    empty = std::all_of(piece.begin(), piece.begin() + bytes, [](char byte) { return byte == 0; });
  }
  if (!empty) refuse("goes on after its end");
}

void Archive::read(std::uint64_t at, void* to, std::size_t bytes) const {
  auto* next = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t count = ::pread(descriptor_, next, bytes, static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw PackError(std::string("the pack's file cannot be read: ") + std::strerror(errno));
    if (count == 0) refuse("is cut off");  // since its size was asked for
    next += count;
    at += static_cast<std::uint64_t>(count);
    bytes -= static_cast<std::size_t>(count);
  }
}

const Archive::Entry& Archive::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw PackError(name + " is missing in the pack's archive" + kMakeAgain);
  return found->second;
}

std::string Archive::read_text(const std::string& name, std::size_t limit) const {
  const Entry& file = entry(name);
  if (file.bytes > limit) throw PackError(name + " has more than " + std::to_string(limit) + " bytes");
  std::string text(static_cast<std::size_t>(file.bytes), '\0');
  read(file.begin, text.data(), text.size());
  return text;
}

MappedFile Archive::map(const std::string& name) const {
  const Entry& file = entry(name);
  try {
    return MappedFile(descriptor_, file.begin, file.bytes);
  } catch (const std::runtime_error& error) {
    throw PackError(name + " " + error.what());
  }
}

}  // namespace adaptivenet
