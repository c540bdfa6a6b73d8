#include "controller.h"

#include <algorithm>
#include <string>
#include <utility>

#include "error.h"

namespace adaptivenet {
namespace {

constexpr double kWeight = 0.2;  // of one observation in the running slowdown
constexpr double kOutlier = 4;   // a ratio is held to this many times the running slowdown
constexpr double kRoom = 0.95;   // a slower point must fit into this share of the budget
constexpr int kPatience = 10;    // inferences in a row that a slower point must have fitted

}  // namespace

Controller::Controller(std::vector<double> latencies_ms, double budget_ms)
    : latencies_ms_(std::move(latencies_ms)), budget_ms_(budget_ms) {
  if (latencies_ms_.empty() || !std::is_sorted(latencies_ms_.begin(), latencies_ms_.end()) || latencies_ms_[0] <= 0) {
    throw DeviceError("a front needs at least one point, and positive latencies in ascending order");
  }
  if (latencies_ms_[0] > budget_ms) {
    throw BudgetError("no subnet meets a budget of " + std::to_string(budget_ms) + " ms; the fastest takes " +
                      std::to_string(latencies_ms_[0]) + " ms");
  }
  point_ = slowest(budget_ms);
}

void Controller::observe(double observed_ms) {
  const double ratio = observed_ms / latencies_ms_[point_];
  double ratios[3] = {recent_[0], recent_[1], ratio};
  std::sort(std::begin(ratios), std::end(ratios));
  recent_[0] = recent_[1];
  recent_[1] = ratio;
  slowdown_ = (1 - kWeight) * slowdown_ + kWeight * std::min(ratios[1], kOutlier * slowdown_);
  const std::size_t fits = slowest(budget_ms_ / slowdown_);
  const std::size_t roomy = slowest(kRoom * budget_ms_ / slowdown_);
  if (fits < point_) {
    point_ = fits;
    fitting_ = 0;
  } else if (roomy <= point_) {
    fitting_ = 0;
  } else if (++fitting_ >= kPatience) {
    point_ = roomy;
    fitting_ = 0;
  }
}

std::size_t Controller::slowest(double limit_ms) const {
  const auto after = std::upper_bound(latencies_ms_.begin(), latencies_ms_.end(), limit_ms);
  return after == latencies_ms_.begin() ? 0 : after - latencies_ms_.begin() - 1;
}

}  // namespace adaptivenet
