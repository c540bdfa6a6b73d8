#include "daemon/events.h"

#include "core/error.h"
#include "core/version.h"
#include "daemon/requests.h"

namespace adaptivenet {

std::string event_line(const std::string& job, std::uint64_t number, Json event) {
  event["job"] = job.empty() ? Json() : Json(job);
  event["event"] = number;
  return event.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

Json error_event(const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  Json event = {{"type", "error"}, {"kind", known ? known->kind() : "DeviceError"}, {"message", error.what()}};
  if (dynamic_cast<const VersionError*>(&error)) event["version"] = RUNNER_VERSION;
  return event;
}

}  // namespace adaptivenet
