// Base64 (RFC 4648), for arrays in JSON.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace adaptivenet {

std::string base64(std::span<const std::byte> data);

}  // namespace adaptivenet
