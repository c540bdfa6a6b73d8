// The controller: which point of the front to run, given how slow the device is right now. It decides as
// toolkit/serving/controller.py does, which gives the reasons; both are tested with tests/vectors/controller.json.
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
  std::size_t slowest(double limit_ms) const;                 // the slowest point within the limit; 0 when none is
  bool differs(double low, double high, double times) const;  // all so many times more, or less, than the slowdown
  void believe(double slowdown);

  std::vector<double> latencies_ms_;
  double budget_ms_;
  std::size_t point_ = 0;
  double slowdown_ = 1;
  std::vector<double> recent_;  // ratios of observed to expected latency since the slowdown last changed
  bool settled_ = true;         // the slowdown was worked out from as many of them as are kept
  int cold_ = 0;                // inferences that are not counted yet
};

}  // namespace adaptivenet
