#include "core/base64.h"

#include <cstdint>

namespace adaptivenet {

std::string base64(std::span<const std::byte> data) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((data.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < data.size(); at += 3) {
    const std::size_t left = data.size() - at;
    std::uint32_t bits = static_cast<std::uint32_t>(data[at]) << 16;
    if (left > 1) bits |= static_cast<std::uint32_t>(data[at + 1]) << 8;
    if (left > 2) bits |= static_cast<std::uint32_t>(data[at + 2]);
    text += kDigits[bits >> 18];
    text += kDigits[bits >> 12 & 63];
    text += left > 1 ? kDigits[bits >> 6 & 63] : '=';
    text += left > 2 ? kDigits[bits & 63] : '=';
  }
  return text;
}

}  // namespace adaptivenet
