#include "serving/decision.h"

#include <cmath>

#include "core/error.h"

namespace adaptivenet {
namespace {

void require_positive(const char* name, std::optional<double> value) {
  if (value && !(std::isfinite(*value) && *value > 0)) {
    throw BudgetError("the budget " + std::string(name) + " must be a positive number: got " + std::to_string(*value));
  }
}

}  // namespace

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::kStart:
      return "start";
    case Kind::kSlower:
      return "slower";
    case Kind::kFaster:
      return "faster";
    case Kind::kNoise:
      return "noise";
    case Kind::kLoad:
      return "load";
    case Kind::kMemory:
      return "memory";
    case Kind::kHeat:
      return "heat";
    case Kind::kEnergy:
      return "energy";
    case Kind::kBudget:
      return "budget";
    case Kind::kNothingFits:
      return "nothing_fits";
    case Kind::kBounded:
      return "bounded";
  }
  return "";
}

void Budgets::require() const {
  require_positive("latency_ms", latency_ms);
  require_positive("memory_mb", memory_mb);
  require_positive("energy_mj", energy_mj);
  if (!(percentile >= 50 && percentile <= 99)) {
    throw BudgetError("a latency budget is for a percentile from 50 to 99: got " + std::to_string(percentile));
  }
}

}  // namespace adaptivenet
