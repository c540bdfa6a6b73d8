// Takes the fields of a request one by one, each of the type that it must have.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"

namespace adaptivenet {

class Fields {
 public:
  // Throws ProtocolError when `request` is no object.
  explicit Fields(const Json& request);

  // The value of a field. All of these throw ProtocolError with its name when it is missing or has another form.
  const Json& any(const std::string& name);
  std::string text(const std::string& name);
  std::string digest(const std::string& name);  // 64 lower-case hexadecimal digits: safe in a path
  std::int64_t whole(const std::string& name, std::int64_t least, std::int64_t most);
  double number(const std::string& name);  // finite
  std::optional<double> number_or_null(const std::string& name);
  std::vector<std::string> texts(const std::string& name);
  std::vector<std::string> digests(const std::string& name);  // at least one
  std::vector<int> wholes_or_null(const std::string& name);   // empty for null; a list has at least one
  std::vector<std::vector<std::string>> lists_of_texts(const std::string& name);

  // Throws ProtocolError when the request has a field that was not taken, other than those of its envelope.
  void require_no_others() const;

 private:
  const Json& request_;
  std::set<std::string> taken_;
};

}  // namespace adaptivenet
