// The lines that a daemon answers with: one event each, as docs/phone.md lists them.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "core/json.h"

namespace adaptivenet {

// The line for `event`, which is number `number` of `job` (empty: of no job), with its line break. Bytes that are not
// UTF-8, as in the name of a file, are replaced by U+FFFD.
std::string event_line(const std::string& job, std::uint64_t number, Json event);

// The event `error` that says what `error` says. An exception that is not an Error becomes a DeviceError.
Json error_event(const std::exception& error);

}  // namespace adaptivenet
