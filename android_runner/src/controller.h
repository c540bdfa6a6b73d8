// The controller: which point of the front to run, given how slow the device is right now. The same decisions as
// toolkit/adapt.py, which says why; tests/vectors/controller.json holds both to them.
#pragma once

#include <vector>

namespace adaptivenet {

class Controller {
 public:
  // `latencies_ms` are those of the front's points, ascending. Begins at the slowest point that is within the budget.
  // Throws BudgetError when there is none, DeviceError for latencies that are no front's.
  Controller(std::vector<double> latencies_ms, double budget_ms);

  // After an inference of the current point that took `observed_ms`.
  void observe(double observed_ms);

  std::size_t point() const { return point_; }
  double slowdown() const { return slowdown_; }

 private:
  std::size_t slowest(double limit_ms) const;  // the slowest point within the limit; 0 when none is

  std::vector<double> latencies_ms_;
  double budget_ms_;
  std::size_t point_ = 0;
  double slowdown_ = 1;
  int fitting_ = 0;  // inferences in a row for which a slower point would have fitted
  double recent_[2] = {1, 1};
};

}  // namespace adaptivenet
