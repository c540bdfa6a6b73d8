// JSON as this project reads and writes it: stricter than the library's own parser.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace adaptivenet {

using Json = nlohmann::json;

// The value in `text`. Throws std::invalid_argument, with the reason, for what is not UTF-8 JSON or begins with a byte
// order mark, for an object with a key twice, for more than 64 levels, for a number that is no finite double, and for a
// whole number (written without point and exponent) not strictly between -2^53 and 2^53. "-0" is the whole number 0.
Json parse_json(std::string_view text);

// Canonical JSON, as docs/pack.md defines it: what a manifest's digest is taken of. Byte for byte what Python's
// json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) gives.
std::string canonical_json(const Json& value);

}  // namespace adaptivenet
