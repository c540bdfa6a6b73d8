#include "serving/controller.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace adaptivenet {
namespace {

constexpr int kCold = 5;  // inferences after a start or a switch that are not counted
// All but two of twenty ratios are more than 3% off, or all of eight are more than 10% off.
constexpr std::size_t kMany = 20, kOdd = 2;
constexpr double kBand = 1.03;
constexpr std::size_t kSome = 8;
constexpr double kFar = 1.10;
// From either end, the ratios that bound about 95% for the median (binomial).
constexpr std::size_t kInsideSome = 1, kInsideMany = 5;

// The median of ratios in ascending order, or exactly 1 where its interval does not exclude that.
double slowdown_of(const std::vector<double>& ranked, std::size_t inside) {
  if (ranked[inside] <= kBand && ranked[ranked.size() - 1 - inside] * kBand >= 1) return 1;
  const std::size_t half = ranked.size() / 2;
  return (ranked[half - 1] + ranked[half]) / 2;
}

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
  cold_ = kCold;
}

void Controller::observe(double observed_ms) {
  if (cold_ > 0) {
    --cold_;
    return;
  }
  recent_.push_back(observed_ms / latencies_ms_[point_]);
  if (recent_.size() > kMany) recent_.erase(recent_.begin());
  std::vector<double> many = recent_;
  std::vector<double> some(recent_.end() - std::min(recent_.size(), kSome), recent_.end());
  std::sort(many.begin(), many.end());
  std::sort(some.begin(), some.end());
  if (some.size() == kSome && differs(some.front(), some.back(), kFar)) {
    believe(slowdown_of(some, kInsideSome));
  } else if (many.size() == kMany && differs(many[kOdd], many[kMany - 1 - kOdd], kBand)) {
    believe(slowdown_of(many, kInsideMany));
  } else if (many.size() == kMany && !settled_) {
    const std::vector<double> kept = recent_;
    believe(slowdown_of(many, kInsideMany));
    recent_ = kept;
    settled_ = true;
  }
}

bool Controller::differs(double low, double high, double times) const {
  return low > slowdown_ * times || high * times < slowdown_;
}

void Controller::believe(double slowdown) {
  const std::size_t point = slowest(budget_ms_ / slowdown);
  if (point != point_) cold_ = kCold;
  point_ = point;
  slowdown_ = slowdown;
  settled_ = false;
  recent_.clear();
}

std::size_t Controller::slowest(double limit_ms) const {
  const auto after = std::upper_bound(latencies_ms_.begin(), latencies_ms_.end(), limit_ms);
  return after == latencies_ms_.begin() ? 0 : after - latencies_ms_.begin() - 1;
}

}  // namespace adaptivenet
