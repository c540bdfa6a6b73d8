// How errors show text that came from outside.
#pragma once

#include <string>
#include <string_view>

#include "core/json.h"

namespace adaptivenet {

// `text` in single quotes, on one line: control characters become '?', and after 80 bytes "..." stands for the rest.
// Valid UTF-8 stays valid.
std::string quote(std::string_view text);

// A JSON value, shown the same way but without the quotes.
std::string shown(const Json& value);

}  // namespace adaptivenet
