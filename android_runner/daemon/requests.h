// The fields that every request has. Those of a verb are checked where the verb is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"

namespace adaptivenet {

inline constexpr std::size_t kLongestRequest = std::size_t{16} << 20;  // bytes, without the line break

struct VersionError : Error {  // a request for another version
  explicit VersionError(const std::string& message) : Error("VersionError", message) {}
};

struct Request {
  enum class Kind { kJob, kCancel, kStop };
  Kind kind = Kind::kJob;  // of `stop` the other fields are empty, of `cancel` all but the job to cancel
  std::string job;         // its id
  std::uint64_t from = 0;  // the first event wanted
  std::string digest;      // of `body`: two requests for one job must be the same
  Json body;               // the request without `from`
};

// The request in `text`. Throws ProtocolError and VersionError.
Request read_request(std::string_view text);

}  // namespace adaptivenet
