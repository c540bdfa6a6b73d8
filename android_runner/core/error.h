// The errors of the runner. Each kind is the name of the Python exception that the host raises for it.
#pragma once

#include <stdexcept>
#include <string>

namespace adaptivenet {

class Error : public std::runtime_error {
 public:
  Error(const char* kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  const char* kind() const noexcept { return kind_; }

 private:
  const char* kind_;  // a literal
};

struct PackError : Error {  // a manifest or a blob is damaged, or not what it says
  explicit PackError(const std::string& message) : Error("PackError", message) {}
};
struct ProfileError : Error {  // a profile is damaged, or of something else
  explicit ProfileError(const std::string& message) : Error("ProfileError", message) {}
};
struct GraphError : Error {  // something is no block, chain or subnet of the pack
  explicit GraphError(const std::string& message) : Error("GraphError", message) {}
};
struct PlanError : Error {  // a plan breaks its own rules, or is not for this pack
  explicit PlanError(const std::string& message) : Error("PlanError", message) {}
};
struct DataError : Error {  // images or labels that do not fit
  explicit DataError(const std::string& message) : Error("DataError", message) {}
};
struct DeviceError : Error {  // the engine, the machine, or the order of calls
  explicit DeviceError(const std::string& message) : Error("DeviceError", message) {}
};
struct FeaturesLost : Error {  // what a plan begins from is not kept (any more)
  explicit FeaturesLost(const std::string& message) : Error("FeaturesLost", message) {}
};
struct BudgetError : Error {  // no subnet is fast enough
  explicit BudgetError(const std::string& message) : Error("BudgetError", message) {}
};
struct ProtocolError : Error {  // a request that is not one
  explicit ProtocolError(const std::string& message) : Error("ProtocolError", message) {}
};

}  // namespace adaptivenet
