#include "core/quote.h"

namespace adaptivenet {
namespace {

constexpr std::size_t kLongest = 80;

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

std::string one_line(std::string_view text) {
  std::size_t length = text.size();
  if (length > kLongest) {
    length = kLongest;
    while (length > 0 && continues(text[length])) --length;
  }
  std::string line;
  for (std::size_t at = 0; at < length; ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    const auto next = at + 1 < length ? static_cast<unsigned char>(text[at + 1]) : 0;
    if (byte < 0x20 || byte == 0x7F) {
      line += '?';
    } else if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {  // U+0080 to U+009F
      line += '?';
      ++at;
    } else {
      line += text[at];
    }
  }
  return length < text.size() ? line + "..." : line;
}

}  // namespace

std::string quote(std::string_view text) { return "'" + one_line(text) + "'"; }

std::string shown(const Json& value) {
  if (value.is_string()) return quote(value.get_ref<const std::string&>());
  return one_line(canonical_json(value));
}

}  // namespace adaptivenet
