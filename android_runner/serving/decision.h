// What goes into the controller and what comes out: points and budgets, signals of the device, decisions. It is what
// toolkit/serving/decision.py has, which tells more of each.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace adaptivenet {

// What brought a decision about. A decision need not be a switch: the point may still be the best one.
enum class Kind { kStart, kSlower, kFaster, kNoise, kLoad, kMemory, kHeat, kEnergy, kBudget, kNothingFits, kBounded };

// As in events and traces: "start", "nothing_fits".
const char* name_of(Kind kind);

// One point of a front; what is not there was not measured.
struct Point {
  double latency_ms = 0;                   // the median when profiled
  std::optional<double> resident_mb = {};  // the memory that its loaded blocks take
  std::optional<double> energy_mj = {};    // what one inference takes
};

// What an inference may take; what is not there is not bounded.
struct Budgets {
  double latency_ms = 0;  // in the percentile of all inferences
  double percentile = 50;
  std::optional<double> memory_mb = {};
  std::optional<double> energy_mj = {};

  // Throws BudgetError for a budget that is no positive number, and for a percentile that is not from 50 to 99.
  void require() const;
};

// Those of `Signals` whose values are believed or not, as bits.
enum Sensor : unsigned {
  kFreeMb = 1,
  kPressure = 2,
  kCelsius = 4,
  kHeadroom = 8,
  kBattery = 16,
  kWaited = 32,
};

// What sensors say; what is not there says nothing. Values that cannot be are ignored.
struct Signals {
  std::optional<double> free_mb = {};       // that programs may still take
  std::optional<double> pressure = {};      // percent of the last 10 s in which some program waited for memory
  std::optional<double> celsius = {};       // of the sensor that throttles the processor
  std::optional<double> throttles_at = {};  // in degrees Celsius
  std::optional<double> headroom = {};      // 0 far from throttling, 1 where it throttles
  std::optional<double> battery = {};       // percent
  std::optional<bool> charging = {};
  std::optional<double> waited = {};  // the share of the time for which the thread that infers waited for a processor
  unsigned states = 0;  // the sensors whose value is a state, which may stand still for as long as it lasts
};

// Which point runs from now on, how much slower than profiled the device is, and why, in a word and in a line.
struct Decision {
  std::size_t point = 0;
  double slowdown = 1;
  Kind kind = Kind::kStart;
  std::string why;

  bool operator==(const Decision&) const = default;
};

}  // namespace adaptivenet
