// The controller: which point of the front to run, given how the device is right now. It decides as
// toolkit/serving/controller.py does, which gives the reasons; both are tested with tests/vectors/controller.json.
#pragma once

#include <array>
#include <limits>
#include <optional>
#include <vector>

#include "serving/decision.h"
#include "serving/sensors.h"
#include "serving/speed.h"

namespace adaptivenet {

// Times are seconds of one clock that does not go back; one that does, or is no number, stands still. Nothing is
// allocated but for a decision.
class Controller {
 public:
  // `points` are those of a front, by ascending latency. Begins with the best point of a device that is as profiled, or
  // with the fastest where nothing fits. Throws BudgetError for budgets that are none, DeviceError for points that are
  // no front.
  Controller(std::vector<Point> points, const Budgets& budgets);

  // After an inference of the current point that took `latency_ms` by the profile's clock and ended at `ended_s`.
  // Whether a decision was made, which need not be a switch. A latency that is no positive number is ignored.
  bool observe(double ended_s, double latency_ms) { return observe(ended_s, latency_ms, point()); }
  // The same, where `ran` ran instead, because the current point is still loaded, or cannot be.
  bool observe(double ended_s, double latency_ms, std::size_t ran);

  // What sensors say at a time, at any rate. Whether a decision was made.
  bool sense(double at_s, const Signals& signals);

  // Other budgets from now on. Throws BudgetError for budgets that are none.
  void set_budget(double at_s, const Budgets& budgets);

  const Decision& decision() const { return decision_; }  // the latest one
  std::size_t point() const { return decision_.point; }   // to run
  double slowdown() const { return speed_.slowdown(); }
  double noise() const { return speed_.noise(); }

 private:
  static constexpr std::size_t kSwitches = 12;  // at most so many in any minute

  void pass(double at_s);
  double limit_ms() const;
  double takes_ms(std::size_t at, double slowdown) const;
  bool may(std::size_t at, double slowdown) const;
  std::optional<std::size_t> best(std::size_t here, double slowdown_here) const;
  double cost(std::size_t at, std::size_t other) const;
  bool decide(Kind kind);
  std::size_t best_lately(std::size_t here, std::size_t best, std::size_t recent) const;
  void judge_try();
  Speed::Above over_lately(std::size_t at, bool all_points) const;
  Kind in_direction(Kind kind, std::size_t to) const;
  bool stay(Kind says, std::optional<std::size_t> tried = std::nullopt);
  bool switch_to(Kind says, std::size_t to);
  Decision decision_for(Kind says, std::size_t to, std::optional<std::size_t> tried = std::nullopt) const;

  std::vector<Point> points_;
  Budgets budgets_;
  Speed speed_;
  Sensors sensors_;
  double now_s_ = 0;
  std::array<double, kSwitches> switches_s_{};  // the last ones, the oldest first
  std::size_t switched_ = 0;                    // how many of them there are
  double switched_s_ = -std::numeric_limits<double>::infinity();
  double wait_s_;                      // from a switch to the next step up
  std::optional<double> tried_s_;      // when it last stepped up, until that has proved right or wrong
  std::optional<std::size_t> failed_;  // the point of a try that failed, until it is known by whose fault
  double again_s_ = std::numeric_limits<double>::infinity();  // when to try what had to wait
  Kind cause_ = Kind::kStart;                                 // of the latest decision
  Decision decision_;
};

}  // namespace adaptivenet
