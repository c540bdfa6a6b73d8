// The lines that a daemon answers with: one event each, as docs/phone.md lists them.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "json.h"

namespace adaptivenet {

// `event` as event number `number` of `job` (empty: of no job), with its line break. What is not UTF-8 in it, as a
// file's name may be, is replaced by U+FFFD.
std::string event_line(const std::string& job, std::uint64_t number, Json event);

// The event `error` that says what `error` says. An exception that is no Error becomes a DeviceError.
Json error_event(const std::exception& error);

}  // namespace adaptivenet
