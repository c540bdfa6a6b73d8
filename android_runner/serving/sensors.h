// What the device's sensors are believed to say, and which points they leave, as in toolkit/serving/sensors.py, which
// gives the reasons.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "serving/decision.h"

namespace adaptivenet {

// One sensor. It is believed while its values can be, come, and move; of its last two the less alarming one counts.
class Reading {
 public:
  // Values are from `least` to `most`; `high_alarms`: the high ones are feared, not the low ones.
  Reading(double least, double most, bool high_alarms, double silent_s, double stuck_s);

  // `state`: the value may stand still, and the last one counts.
  void give(double at_s, std::optional<double> value, bool state);
  std::optional<double> believed(double at_s) const;
  double until_s() const;  // when it is no longer believed unless it says something else

 private:
  double least_, most_;
  bool high_alarms_;
  double silent_s_, stuck_s_;
  double last_ = 0, before_ = 0;
  int given_ = 0;       // values since it was silent, 2 at most
  bool moved_ = false;  // since it was silent
  bool state_ = false;  // what it said last
  double seen_s_ = 0, moved_s_ = 0;
};

class Sensors {
 public:
  explicit Sensors(const std::vector<Point>& points);

  // Whether short memory leaves a point.
  bool may(std::size_t at) const { return held_mb_.empty() || held_mb_[at] <= memory_mb_; }

  // What the sensors say while `point` runs. What it changes, if anything.
  std::optional<Kind> give(double at_s, const Signals& signals, std::size_t point);

  // What has changed, also by sensors that have said nothing for too long: the first of several.
  std::optional<Kind> look(double at_s, std::size_t point);

  double waited() const { return waited_; }         // the load
  std::size_t hottest() const { return hottest_; }  // the last point that may run
  double memory_mb() const { return memory_mb_; }   // what a point may take; infinite: anything
  bool saving() const { return saving_; }           // a point is to run that takes half of what it could
  double until_s() const { return until_s_; }       // when the first sensor that is believed would no longer be

 private:
  bool look_at_memory(double at_s, std::size_t point);
  bool look_at_heat(double at_s, std::size_t point);
  bool look_at_battery(double at_s);
  bool look_at_load(double at_s);

  std::size_t count_;            // of points
  std::vector<double> held_mb_;  // what each takes, or is assumed to; empty where none is known
  double waited_ = 0;
  std::size_t hottest_;
  double memory_mb_ = std::numeric_limits<double>::infinity();
  bool saving_ = false;
  Reading free_, pressure_, celsius_, headroom_, battery_, load_;
  std::optional<double> throttles_at_;
  bool charging_ = false;
  double heat_s_ = -std::numeric_limits<double>::infinity();  // when it last took a point away, or gave one back
  double memory_s_ = -std::numeric_limits<double>::infinity();
  double until_s_ = std::numeric_limits<double>::infinity();
};

}  // namespace adaptivenet
