// What tests ask the daemon for.
#pragma once

#include <chrono>
#include <string>

#include "core/json.h"
#include "core/version.h"

namespace adaptivenet {

// How long a test waits for something that must happen; then it fails.
inline constexpr auto kPatience = std::chrono::seconds(60);

inline std::string job_id(int number) {
  std::string id = std::to_string(number);
  return std::string(16 - id.size(), 'a') + id;
}

// A request of this version for job `number`, with the fields of a verb.
inline Json request_json(int number, const std::string& verb, Json fields = Json::object()) {
  fields["version"] = RUNNER_VERSION;
  fields["verb"] = verb;
  fields["job"] = job_id(number);
  return fields;
}

}  // namespace adaptivenet
