#include "core/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/quote.h"

namespace adaptivenet {
namespace {

constexpr std::uint64_t kHeaderLimit = std::uint64_t{1} << 20;  // bytes
constexpr std::size_t kLengthBytes = 8;

struct Entry {
  std::string name;
  TensorType type;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

[[noreturn]] void refuse(const std::string& reason) {
  throw DataError("not a safetensors file: " + reason + "; write it again");
}

std::uint64_t length_of_header(std::span<const std::byte> file) {
  if (file.size() < kLengthBytes) refuse("it has " + std::to_string(file.size()) + " bytes");
  std::uint64_t length = 0;
  for (std::size_t at = kLengthBytes; at > 0; --at) length = length << 8 | std::to_integer<std::uint64_t>(file[at - 1]);
  if (length > kHeaderLimit || length > file.size() - kLengthBytes) {
    refuse("a header of " + std::to_string(length) + " bytes in a file of " + std::to_string(file.size()) +
           " (and at most " + std::to_string(kHeaderLimit) + ")");
  }
  return length;
}

Json header_from(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with('{')) refuse("its header does not begin with '{'");
  try {
    return parse_json(text);  // it is an object, because it begins with a brace
  } catch (const std::invalid_argument& error) {
    refuse(std::string("its header is no JSON: ") + error.what());
  }
}

DType dtype_from(const Json& value, const std::string& what) {
  constexpr std::pair<const char*, DType> kNames[] = {
      {"F32", DType::kFloat32}, {"F16", DType::kFloat16}, {"BF16", DType::kBFloat16}, {"I64", DType::kInt64},
      {"I32", DType::kInt32},   {"I8", DType::kInt8},     {"U8", DType::kUInt8},      {"BOOL", DType::kBool}};
  for (const auto& [name, dtype] : kNames) {
    if (value == name) return dtype;
  }
  refuse(what + " has dtype " + shown(value) + ", which this program does not read");
}

std::vector<std::int64_t> whole_numbers(const Json& value, const std::string& what) {
  std::vector<std::int64_t> numbers;
  const auto holds = [](const Json& entry) { return entry.is_number_integer() && entry.get<std::int64_t>() >= 0; };
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), holds)) {
    refuse(what + " is " + shown(value) + ", no list of whole numbers");
  }
  return value.get<std::vector<std::int64_t>>();
}

Entry entry_from(const std::string& name, const Json& value) {
  const std::string what = "tensor " + quote(name);
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    refuse(what + " must have exactly dtype, shape and data_offsets");
  }
  Entry entry{name, {whole_numbers(value["shape"], "the shape of " + what), dtype_from(value["dtype"], what)}};
  const auto offsets = whole_numbers(value["data_offsets"], "data_offsets of " + what);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    refuse("data_offsets of " + what + " are " + shown(value["data_offsets"]));
  }
  entry.begin = static_cast<std::uint64_t>(offsets[0]);
  entry.end = static_cast<std::uint64_t>(offsets[1]);
  std::int64_t bytes = -1;
  try {
    bytes = bytes_of(entry.type);
  } catch (const std::overflow_error&) {  // more than any offsets can span
  }
  if (bytes != offsets[1] - offsets[0]) {
    refuse(what + " is " + to_string(entry.type) + ", but its data has " + std::to_string(offsets[1] - offsets[0]) +
           " bytes");
  }
  return entry;
}

void require_metadata(const Json& value) {
  const auto is_string = [](const Json& entry) { return entry.is_string(); };
  if (!value.is_object() || !std::all_of(value.begin(), value.end(), is_string)) {
    refuse("__metadata__ is no object of strings");
  }
}

}  // namespace

std::map<std::string, TensorView> read_safetensors(std::span<const std::byte> file) {
  const std::uint64_t length = length_of_header(file);
  const auto data = file.subspan(kLengthBytes + static_cast<std::size_t>(length));
  const Json header = header_from(file.subspan(kLengthBytes, static_cast<std::size_t>(length)));
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      require_metadata(value);
    } else {
      entries.push_back(entry_from(name, value));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& one, const Entry& other) {
    return std::pair(one.begin, one.end) < std::pair(other.begin, other.end);
  });
  std::uint64_t end = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != end) {
      refuse("tensor " + quote(entry.name) + " begins at byte " + std::to_string(entry.begin) +
             ", the one before it ends at " + std::to_string(end));
    }
    end = entry.end;
  }
  if (end != data.size()) {
    refuse("its tensors end at byte " + std::to_string(end) + " of " + std::to_string(data.size()));
  }
  std::map<std::string, TensorView> tensors;
  for (Entry& entry : entries) tensors[entry.name] = {std::move(entry.type), data.data() + entry.begin};
  return tensors;
}

}  // namespace adaptivenet
