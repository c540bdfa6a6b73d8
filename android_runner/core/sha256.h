// SHA-256 (FIPS 180-4), which every blob is named by.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace adaptivenet {

// The digest as 64 lower-case hexadecimal digits.
std::string sha256(std::span<const std::byte> data);

}  // namespace adaptivenet
