// The form of a manifest: what can be said of it without its graph and its blobs.
#pragma once

#include <cstddef>
#include <string_view>

#include "core/json.h"

namespace adaptivenet {

inline constexpr std::size_t kManifestLimit = std::size_t{16} << 20;  // bytes

// The manifest in `text`: checks 3 to 8 of docs/pack.md. Throws PackError at the first that fails.
Json parse_manifest(std::string_view text);

}  // namespace adaptivenet
