#include "serving/sensors.h"

#include <algorithm>
#include <cmath>

namespace adaptivenet {
namespace {

// The reasons are in toolkit/serving/sensors.py.
constexpr double kSilentS = 30, kStuckS = 120;
constexpr double kBatterySilentS = 600, kBatteryStuckS = 1800;
constexpr double kLeastLimit = 30, kMostLimit = 150;
constexpr double kDegrees = 30;
constexpr double kHot = 0.95, kCool = 0.85;
constexpr double kHotterS = 10, kCoolerS = 20;
constexpr double kShortMb = 128, kPlentyMb = 256;
constexpr double kPressed = 10, kRelaxed = 1;
constexpr double kShorterS = 5, kPlentierS = 10;
constexpr double kLow = 15, kCharged = 20;
constexpr double kLoadBand = 0.10, kMostLoad = 0.90;

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// What each point takes; where that is not known, as much as any faster one, or as the smallest. Empty where none is
// known.
std::vector<double> held(const std::vector<Point>& points) {
  double smallest = kInfinite;
  for (const Point& point : points) smallest = std::min(smallest, point.resident_mb.value_or(kInfinite));
  std::vector<double> held;
  if (std::isinf(smallest)) return held;
  double most = 0;
  for (const Point& point : points) {
    held.push_back(point.resident_mb.value_or(held.empty() ? smallest : most));
    most = std::max(most, held.back());
  }
  return held;
}

}  // namespace

Reading::Reading(double least, double most, bool high_alarms, double silent_s, double stuck_s)
    : least_(least), most_(most), high_alarms_(high_alarms), silent_s_(silent_s), stuck_s_(stuck_s) {}

void Reading::give(double at_s, std::optional<double> value, bool state) {
  if (!value || !(*value >= least_ && *value <= most_)) return;  // NaN is neither
  if (given_ > 0 && at_s - seen_s_ > silent_s_) {
    given_ = 0;
    moved_ = false;
  }
  if (given_ > 0 && *value != last_) {
    moved_ = true;
    moved_s_ = at_s;
  }
  before_ = last_;
  last_ = *value;
  seen_s_ = at_s;
  state_ = state;
  given_ = std::min(2, given_ + 1);
}

std::optional<double> Reading::believed(double at_s) const {
  if (state_) return at_s > until_s() ? std::nullopt : std::optional(last_);
  if (given_ < 2 || !moved_ || at_s > until_s()) return std::nullopt;
  return high_alarms_ ? std::min(last_, before_) : std::max(last_, before_);
}

double Reading::until_s() const {
  if (state_) return seen_s_ + silent_s_;
  return moved_ ? std::min(seen_s_ + silent_s_, moved_s_ + stuck_s_) : kInfinite;
}

Sensors::Sensors(const std::vector<Point>& points)
    : count_(points.size()),
      held_mb_(held(points)),
      hottest_(points.size() - 1),
      free_(1, 1e8, false, kSilentS, kStuckS),
      pressure_(0, 100, true, kSilentS, kStuckS),
      celsius_(-40, 150, true, kSilentS, kStuckS),
      headroom_(0, 3, true, kSilentS, kStuckS),
      battery_(1, 100, false, kBatterySilentS, kBatteryStuckS),
      load_(0, 1, true, kSilentS, kStuckS) {}

std::optional<Kind> Sensors::give(double at_s, const Signals& signals, std::size_t point) {
  if (signals.throttles_at && *signals.throttles_at >= kLeastLimit && *signals.throttles_at <= kMostLimit) {
    throttles_at_ = signals.throttles_at;
  }
  if (signals.charging) charging_ = *signals.charging;
  const auto is_state = [&](Sensor sensor) { return (signals.states & sensor) != 0; };
  free_.give(at_s, signals.free_mb, is_state(kFreeMb));
  pressure_.give(at_s, signals.pressure, is_state(kPressure));
  celsius_.give(at_s, signals.celsius, is_state(kCelsius));
  headroom_.give(at_s, signals.headroom, is_state(kHeadroom));
  battery_.give(at_s, signals.battery, is_state(kBattery));
  load_.give(at_s, signals.waited, is_state(kWaited));
  return look(at_s, point);
}

std::optional<Kind> Sensors::look(double at_s, std::size_t point) {
  const bool memory = look_at_memory(at_s, point);
  const bool heat = look_at_heat(at_s, point);
  const bool energy = look_at_battery(at_s);
  const bool load = look_at_load(at_s);
  until_s_ = kInfinite;
  for (const Reading* each : {&free_, &pressure_, &celsius_, &headroom_, &battery_, &load_}) {
    if (each->until_s() >= at_s) until_s_ = std::min(until_s_, each->until_s());
  }
  if (memory) return Kind::kMemory;
  if (heat) return Kind::kHeat;
  if (energy) return Kind::kEnergy;
  if (load) return Kind::kLoad;
  return std::nullopt;
}

bool Sensors::look_at_memory(double at_s, std::size_t point) {
  const std::optional<double> free = free_.believed(at_s), pressure = pressure_.believed(at_s);
  const double before = memory_mb_;
  double smallest = kInfinite, largest = 0, larger = kInfinite;  // larger: the next one above what may be taken now
  for (const double each : held_mb_) {
    smallest = std::min(smallest, each);
    largest = std::max(largest, each);
    if (each > memory_mb_) larger = std::min(larger, each);
  }
  if ((!free && !pressure) || held_mb_.empty()) {
    memory_mb_ = kInfinite;
  } else if ((free && *free < kShortMb) || (pressure && *pressure >= kPressed)) {
    if (at_s - memory_s_ >= kShorterS) {
      const double lacks = free ? std::max(1.0, kShortMb - *free) : 1.0;
      memory_mb_ = std::min(memory_mb_, std::max(held_mb_[point] - lacks, smallest));
    }
  } else if ((!free || *free >= kPlentyMb) && (!pressure || *pressure < kRelaxed) && at_s - memory_s_ >= kPlentierS) {
    memory_mb_ = std::max(memory_mb_, free ? held_mb_[point] + (*free - kPlentyMb) : larger);
    if (memory_mb_ >= largest) memory_mb_ = kInfinite;
  }
  if (memory_mb_ != before) memory_s_ = at_s;
  return memory_mb_ != before;
}

bool Sensors::look_at_heat(double at_s, std::size_t point) {
  const std::optional<double> celsius = celsius_.believed(at_s);
  std::optional<double> headroom = headroom_.believed(at_s);
  const std::size_t before = hottest_;
  if (celsius && throttles_at_) {
    const double by_degrees = std::max(0.0, 1 - (*throttles_at_ - *celsius) / kDegrees);
    headroom = headroom ? std::max(*headroom, by_degrees) : by_degrees;
  }
  if (!headroom) {
    hottest_ = count_ - 1;
  } else if (*headroom >= kHot && at_s - heat_s_ >= kHotterS) {
    const std::size_t most = std::min(hottest_, point);
    hottest_ = most > 0 ? most - 1 : 0;
  } else if (*headroom <= kCool && at_s - heat_s_ >= kCoolerS) {
    hottest_ = std::min(hottest_ + 1, count_ - 1);
  }
  if (hottest_ != before) heat_s_ = at_s;
  return hottest_ != before;
}

bool Sensors::look_at_battery(double at_s) {
  const std::optional<double> battery = battery_.believed(at_s);
  const bool before = saving_;
  if (!battery || charging_ || *battery >= kCharged) {
    saving_ = false;
  } else if (*battery <= kLow) {
    saving_ = true;
  }
  return saving_ != before;
}

bool Sensors::look_at_load(double at_s) {
  const std::optional<double> waited = load_.believed(at_s);
  const double before = waited_;
  if (!waited) {
    waited_ = 0;
  } else if (std::abs(*waited - waited_) >= kLoadBand) {
    waited_ = std::min(*waited, kMostLoad);
  }
  return waited_ != before;
}

}  // namespace adaptivenet
