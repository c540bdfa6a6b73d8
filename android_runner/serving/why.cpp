#include "serving/why.h"

#include <cmath>
#include <cstdio>

namespace adaptivenet {
namespace {

std::string number(const char* format, double value) {
  char text[400];  // the largest double has 309 digits before its point
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string in_words(double slowdown) {
  if (slowdown == 1) return "as fast as profiled";
  if (slowdown < 1) return number("%.2f times faster than profiled", 1 / slowdown);
  return number("%.2f times slower than profiled", slowdown);
}

std::string because(Kind cause, const Speed& speed, const Sensors& sensors, const Budgets& budgets,
                    std::size_t points) {
  switch (cause) {
    case Kind::kNoise:
      return number("percentile %.0f is ", budgets.percentile) + number("%.2f times the median, ", speed.tail()) +
             in_words(speed.slowdown());
    case Kind::kLoad:
      return number("other programs have the processors for %.0f%% of the time", 100 * sensors.waited());
    case Kind::kMemory:
      if (std::isinf(sensors.memory_mb())) return "free memory leaves all points";
      return number("free memory leaves points of at most %.0f MB", sensors.memory_mb());
    case Kind::kHeat:
      return "heat leaves " + std::to_string(sensors.hottest() + 1) + " of " + std::to_string(points) + " points";
    case Kind::kEnergy:
      return sensors.saving() ? "the battery is low" : "the battery need not be spared";
    case Kind::kBudget:
      return "other budgets, " + in_words(speed.slowdown());
    default:
      return in_words(speed.slowdown());
  }
}

}  // namespace

std::string why(Kind says, Kind cause, const std::vector<Point>& points, std::size_t here, std::size_t to,
                const Speed& speed, const Sensors& sensors, const Budgets& budgets, double limit_ms,
                std::optional<std::size_t> tried) {
  const auto milliseconds = [&](std::size_t at) { return points[at].latency_ms * speed.slowdown() * speed.tail(); };
  const auto allowed = [&](std::size_t at) {
    return number("%.2f ms of ", milliseconds(at)) + number("%.2f ms allowed", limit_ms);
  };
  const auto named = [&](std::size_t at) { return number("%.2f ms", points[at].latency_ms); };
  std::string line = because(cause, speed, sensors, budgets, points.size()) + ": ";
  if (says == Kind::kBounded) {
    line += here == to ? "no more steps up in this minute; " : "the last switch of this minute; ";
  }
  if (says == Kind::kNothingFits) {
    line += "nothing fits; " + named(to) + ", the fastest, takes " + allowed(to);
  } else if (here == to) {
    line += named(to) + " takes " + allowed(to);
  } else if (milliseconds(here) > limit_ms) {
    line += named(here) + " would take " + allowed(here) + "; " + named(to) + " fits";
  } else if (cause == Kind::kSlower && to < here) {
    line += named(here) + " would take about " + allowed(here) + "; " + named(to) + " fits surely";
  } else {
    line += "from " + named(here) + " to " + named(to) + ", which takes " + allowed(to);
  }
  if (!points[to].resident_mb && (budgets.memory_mb || std::isfinite(sensors.memory_mb()))) {
    line += "; its memory is not known";
  }
  if (!points[to].energy_mj && budgets.energy_mj) line += "; its energy is not known";
  if (tried) line += "; " + named(*tried) + " will be tried";
  return line;
}

}  // namespace adaptivenet
