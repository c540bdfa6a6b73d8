#include "serving/controller.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "serving/why.h"

namespace adaptivenet {
namespace {

// The reasons are in toolkit/serving/controller.py.
constexpr double kMinuteS = 60;
constexpr std::size_t kUps = 9;
constexpr double kWaitS = 0.25, kLongestWaitS = 120;
constexpr double kFailed = 4;
constexpr std::size_t kFaultless = 8, kSparing = 4;
constexpr double kSmall = 1.05, kSmallWaitS = 2;
constexpr double kTriedS = 10;

constexpr double kInfinite = std::numeric_limits<double>::infinity();

Kind kind_of(Change change) {
  if (change == Change::kSlower) return Kind::kSlower;
  return change == Change::kNoise ? Kind::kNoise : Kind::kFaster;
}

const Budgets& checked(const Budgets& budgets) {
  budgets.require();
  return budgets;
}

std::vector<Point> checked(std::vector<Point> points) {
  const auto faster = [](const Point& one, const Point& other) { return one.latency_ms < other.latency_ms; };
  const auto is_time = [](const Point& point) { return std::isfinite(point.latency_ms) && point.latency_ms > 0; };
  if (points.empty() || !std::all_of(points.begin(), points.end(), is_time) ||
      !std::is_sorted(points.begin(), points.end(), faster)) {
    throw DeviceError("a front needs at least one point, and positive latencies in ascending order");
  }
  return points;
}

}  // namespace

Controller::Controller(std::vector<Point> points, const Budgets& budgets)
    : points_(checked(std::move(points))),
      budgets_(checked(budgets)),
      speed_(budgets_.percentile),
      sensors_(points_),
      wait_s_(kWaitS) {
  const std::optional<std::size_t> found = best(0, 1);
  decision_.point = found.value_or(0);
  decision_ = decision_for(found ? Kind::kStart : Kind::kNothingFits, decision_.point);
}

bool Controller::observe(double ended_s, double latency_ms, std::size_t ran) {
  if (!(std::isfinite(latency_ms) && latency_ms > 0)) return false;
  pass(std::isfinite(ended_s) ? ended_s : now_s_ + latency_ms / 1000);
  const Change change = speed_.observe(latency_ms / points_[ran].latency_ms, ran != point());
  if (now_s_ > sensors_.until_s()) {
    if (const std::optional<Kind> kind = sensors_.look(now_s_, point())) return decide(*kind);
  }
  if (change != Change::kNone) return decide(kind_of(change));
  return now_s_ >= again_s_ && decide(cause_);
}

bool Controller::sense(double at_s, const Signals& signals) {
  pass(at_s);
  const std::optional<Kind> kind = sensors_.give(now_s_, signals, point());
  return kind && decide(*kind);
}

void Controller::set_budget(double at_s, const Budgets& budgets) {
  budgets.require();
  pass(at_s);
  budgets_ = budgets;
  speed_.require(budgets.percentile);
  decide(Kind::kBudget);
}

void Controller::pass(double at_s) {
  if (std::isfinite(at_s)) now_s_ = std::max(now_s_, at_s);
}

// What an inference may take by the profile's clock, which leaves out the time in which others run.
double Controller::limit_ms() const { return budgets_.latency_ms * (1 - sensors_.waited()); }

double Controller::takes_ms(std::size_t at, double slowdown) const {
  return points_[at].latency_ms * slowdown * speed_.tail();
}

// Whether a point fits all budgets; what is not known of it fits.
bool Controller::may(std::size_t at, double slowdown) const {
  const Point& point = points_[at];
  if (at > sensors_.hottest() || takes_ms(at, slowdown) > limit_ms()) return false;
  if (!sensors_.may(at)) return false;
  if (point.resident_mb && budgets_.memory_mb && *point.resident_mb > *budgets_.memory_mb) return false;
  return !point.energy_mj || !budgets_.energy_mj || *point.energy_mj <= *budgets_.energy_mj;
}

// The best point that fits, reckoning with `slowdown_here` for the point `here`; none where none does.
std::optional<std::size_t> Controller::best(std::size_t here, double slowdown_here) const {
  const double most = speed_.most();
  const auto fits = [&](std::size_t at) { return may(at, at == here ? slowdown_here : most); };
  std::size_t found = points_.size();
  while (found > 0 && !fits(found - 1)) --found;
  if (found == 0) return std::nullopt;
  --found;
  if (!sensors_.saving()) return found;
  std::size_t fastest = found;
  for (std::size_t at = found + 1; at-- > 0;) {
    if (!fits(at)) continue;
    fastest = at;
    if (cost(at, found) <= cost(found, at) / 2) return at;
  }
  return fastest;
}

// The energy of a point; its time where the energy of either of two is not known.
double Controller::cost(std::size_t at, std::size_t other) const {
  return points_[at].energy_mj && points_[other].energy_mj ? *points_[at].energy_mj : points_[at].latency_ms;
}

// What to run, now that something has changed, or that what had to wait may be tried. Whether a decision was made.
bool Controller::decide(Kind kind) {
  const std::size_t here = point();
  const bool sure = speed_.is_sure();
  again_s_ = kInfinite;
  if (tried_s_ && now_s_ - *tried_s_ > kTriedS) {
    wait_s_ = kWaitS;
    tried_s_.reset();
  }
  // Few inferences tell that the device is slower, but not how much: then what runs needs a margin as well.
  const std::optional<std::size_t> found = best(here, sure ? slowdown() : speed_.most());
  std::size_t to = found.value_or(0);
  cause_ = kind = in_direction(kind, to);
  const auto first = switches_s_.begin() + (kSwitches - switched_);
  const std::size_t recent =
      std::count_if(first, switches_s_.end(), [&](double at_s) { return now_s_ - at_s < kMinuteS; });
  const bool careful = to > here && may(here, slowdown());
  if (careful && kind != Kind::kBudget) {
    if (sure) judge_try();
    const std::size_t wanted = std::exchange(to, best_lately(here, to, recent));
    if (to == here) {
      again_s_ = now_s_ + kWaitS;
      return stay(kind, wanted);
    }
  }
  if (to == here) {
    if ((kind == Kind::kSlower || kind == Kind::kFaster) && slowdown() == decision_.slowdown) return false;
    return stay(found ? kind : Kind::kNothingFits);
  }
  const std::size_t most = careful ? kUps : kSwitches - 1;
  if (recent > most) {
    again_s_ = switches_s_[kSwitches - 1 - most] + kMinuteS;
    return stay(Kind::kBounded);
  }
  const bool small = points_[to].latency_ms < kSmall * points_[here].latency_ms;
  const double from_s = switched_s_ + (small ? std::max(wait_s_, kSmallWaitS) : wait_s_);
  if (careful && kind != Kind::kBudget && !(sure && now_s_ >= from_s)) {
    if (sure) again_s_ = from_s;
    return stay(kind, to);
  }
  if (!found) return switch_to(Kind::kNothingFits, to);
  if (!careful && recent == kSwitches - 1) {
    // The last switch of this minute goes to the fastest point that fits: it need not be followed by another.
    std::size_t fastest = 0;
    while (!may(fastest, speed_.most())) ++fastest;
    return switch_to(fastest == to ? kind : Kind::kBounded, fastest);
  }
  return switch_to(kind, to);
}

// The best point up to `best` that would have been within the budget in most of the last inferences, in the more of
// them the more of this minute's switches are used up; `here` where there is none.
std::size_t Controller::best_lately(std::size_t here, std::size_t best, std::size_t recent) const {
  for (std::size_t at = best; at > here; --at) {
    const auto [over, of] = over_lately(at, true);
    if ((kSparing + recent) * over <= 2 * of && may(at, speed_.most())) return at;
  }
  return here;
}

// Now that a step up is possible again: was the last one that failed its point's own fault?
void Controller::judge_try() {
  if (!failed_) return;
  const auto [over, of] = over_lately(*failed_, false);
  if (kFaultless * over < of) wait_s_ = std::min(kFailed * wait_s_, kLongestWaitS);
  failed_.reset();
}

// How many of the last inferences would have been over the budget as ones of `at`, and of how many.
Speed::Above Controller::over_lately(std::size_t at, bool all_points) const {
  return speed_.above(limit_ms() / points_[at].latency_ms, all_points);
}

// A slowdown that was worked out anew can go either way.
Kind Controller::in_direction(Kind kind, std::size_t to) const {
  if (kind != Kind::kSlower && kind != Kind::kFaster) return kind;
  if (to == point()) return slowdown() > decision_.slowdown ? Kind::kSlower : Kind::kFaster;
  return to > point() ? Kind::kFaster : Kind::kSlower;
}

// The point stays, and `tried` will be tried. False where that is nothing new.
bool Controller::stay(Kind says, std::optional<std::size_t> tried) {
  Decision decision = decision_for(says, point(), tried);
  if (decision == decision_) return false;
  decision_ = std::move(decision);
  return true;
}

bool Controller::switch_to(Kind says, std::size_t to) {
  const bool up = to > point();
  if (up) {
    tried_s_ = now_s_;
    failed_.reset();
  } else if (tried_s_ && (cause_ == Kind::kSlower || cause_ == Kind::kNoise || cause_ == Kind::kLoad)) {
    failed_ = point();
    tried_s_.reset();
  }
  switched_s_ = now_s_;
  std::copy(switches_s_.begin() + 1, switches_s_.end(), switches_s_.begin());
  switches_s_.back() = now_s_;
  switched_ = std::min(switched_ + 1, kSwitches);
  decision_ = decision_for(says, to);
  speed_.switched(up);
  return true;
}

Decision Controller::decision_for(Kind says, std::size_t to, std::optional<std::size_t> tried) const {
  return {to, slowdown(), says, why(says, cause_, points_, point(), to, speed_, sensors_, budgets_, limit_ms(), tried)};
}

}  // namespace adaptivenet
