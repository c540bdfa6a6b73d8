#include "daemon/requests.h"

#include <algorithm>
#include <span>
#include <stdexcept>

#include "core/quote.h"
#include "core/sha256.h"
#include "core/version.h"

namespace adaptivenet {
namespace {

const std::string& text_field(const Json& body, const char* name) {
  const auto field = body.find(name);
  if (field == body.end() || !field->is_string()) {
    throw ProtocolError(std::string("the request has no field '") + name + "' with a string");
  }
  return field->get_ref<const std::string&>();
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

std::string job_field(const Json& body) {
  const std::string& job = text_field(body, "job");
  if (job.size() < 16 || job.size() > 64 || !std::all_of(job.begin(), job.end(), is_hex)) {
    throw ProtocolError("'job' must be 16 to 64 hexadecimal digits, not " + quote(job));
  }
  return job;
}

std::uint64_t take_from(Json& body) {
  const auto field = body.find("from");
  if (field == body.end()) return 0;
  if (!field->is_number_integer() || *field < 0) {
    throw ProtocolError("'from' must be the number of an event, a whole number from 0");
  }
  const auto from = field->get<std::uint64_t>();
  body.erase(field);
  return from;
}

}  // namespace

Request read_request(std::string_view text) {
  Request request;
  Json body;
  try {
    body = parse_json(text);
  } catch (const std::invalid_argument& error) {
    throw ProtocolError(std::string("the request is not JSON: ") + error.what());
  }
  if (!body.is_object()) throw ProtocolError("the request is not a JSON object");

  const std::string& verb = text_field(body, "verb");
  if (verb ==
      "stop") {  // comes before the version check: a host of another version must be able to replace this daemon
    request.kind = Request::Kind::kStop;
    return request;
  }
  const std::string& version = text_field(body, "version");
  if (version != RUNNER_VERSION) {
    throw VersionError("this runner is of version " RUNNER_VERSION ", the request of version " + quote(version) +
                       "; send 'stop', and call the runner of that version");
  }
  request.job = job_field(body);
  if (verb == "cancel") {
    request.kind = Request::Kind::kCancel;
    return request;
  }
  request.from = take_from(body);
  const std::string canonical = canonical_json(body);
  request.digest = sha256(std::as_bytes(std::span(canonical)));
  request.body = std::move(body);
  return request;
}

}  // namespace adaptivenet
