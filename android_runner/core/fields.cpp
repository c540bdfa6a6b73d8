#include "core/fields.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/quote.h"

namespace adaptivenet {
namespace {

[[noreturn]] void refuse(const std::string& name, const char* wanted, const Json& got) {
  throw ProtocolError("the request's '" + name + "' must be " + wanted + "; it is " + shown(got));
}

std::vector<std::string> texts_in(const std::string& name, const Json& value) {
  const auto is_text = [](const Json& each) { return each.is_string(); };
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_text)) refuse(name, "a list of names", value);
  return value.get<std::vector<std::string>>();
}

bool is_digest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

Fields::Fields(const Json& request) : request_(request), taken_{"version", "verb", "job", "from"} {
  if (!request.is_object()) throw ProtocolError("a request is a JSON object");
}

const Json& Fields::any(const std::string& name) {
  const auto found = request_.find(name);
  if (found == request_.end()) throw ProtocolError("the request has no '" + name + "'");
  taken_.insert(name);
  return *found;
}

std::string Fields::text(const std::string& name) {
  const Json& value = any(name);
  if (!value.is_string()) refuse(name, "a text", value);
  return value.get<std::string>();
}

std::string Fields::digest(const std::string& name) {
  const std::string value = text(name);
  if (!is_digest(value)) refuse(name, "a SHA-256 in hexadecimal digits", value);
  return value;
}

std::int64_t Fields::whole(const std::string& name, std::int64_t least, std::int64_t most) {
  const Json& value = any(name);
  if (!value.is_number_integer() || value < least || value > most) {
    refuse(name, ("a whole number from " + std::to_string(least) + " to " + std::to_string(most)).c_str(), value);
  }
  return value.get<std::int64_t>();
}

double Fields::number(const std::string& name) {
  const Json& value = any(name);
  if (!value.is_number()) refuse(name, "a number", value);
  return value.get<double>();
}

std::optional<double> Fields::number_or_null(const std::string& name) {
  if (any(name).is_null()) return std::nullopt;
  return number(name);
}

std::vector<std::string> Fields::texts(const std::string& name) { return texts_in(name, any(name)); }

std::vector<std::string> Fields::digests(const std::string& name) {
  std::vector<std::string> values = texts(name);
  if (values.empty() || !std::all_of(values.begin(), values.end(), is_digest)) {
    refuse(name, "a list of SHA-256 in hexadecimal digits", any(name));
  }
  return values;
}

std::vector<int> Fields::wholes_or_null(const std::string& name) {
  const Json& value = any(name);
  if (value.is_null()) return {};
  const auto is_core = [](const Json& each) {
    return each.is_number_integer() && each >= 0 && each <= std::numeric_limits<std::int16_t>::max();
  };
  if (!value.is_array() || value.empty() || !std::all_of(value.begin(), value.end(), is_core)) {
    refuse(name, "null or a list of whole numbers", value);
  }
  return value.get<std::vector<int>>();
}

std::vector<std::vector<std::string>> Fields::lists_of_texts(const std::string& name) {
  const Json& value = any(name);
  if (!value.is_array()) refuse(name, "a list of lists of names", value);
  std::vector<std::vector<std::string>> lists;
  for (const Json& each : value) lists.push_back(texts_in(name, each));
  return lists;
}

void Fields::require_no_others() const {
  for (const auto& [name, value] : request_.items()) {
    if (!taken_.contains(name))
      throw ProtocolError("the request has a field " + quote(name) + ", which its verb has not");
  }
}

}  // namespace adaptivenet
