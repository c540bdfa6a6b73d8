#include "serving/speed.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace adaptivenet {
namespace {

// The reasons are in toolkit/serving/speed.py.
constexpr double kBand = 0.03;
constexpr double kLeastNoise = 0.01, kMostNoise = 0.10, kFirstNoise = 0.05;
constexpr double kGain = 0.25, kSlowGain = 0.125;
constexpr double kAlike = 1.5, kMostAlike = 2;
constexpr double kSlack = 1.5, kCut = 4, kSlowerAt = 8, kFasterAt = 12;
constexpr double kMostRatio = 1e6;
constexpr double kMargin = 3;
constexpr double kMedian = 1.2533141373155003;
constexpr double kNormal = 0.886226925452758;
constexpr double kMad = 1.482602218505602;
constexpr int kCold = 3, kYoung = 5;
constexpr double kExtreme = 1.5;
constexpr double kFar = 2;
struct Sigmas {
  double percentile, sigmas;
};
constexpr std::array<Sigmas, 5> kPercentiles = {{{50, 0}, {75, 0.6745}, {90, 1.2816}, {95, 1.6449}, {99, 2.3263}}};

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// Of ratios in ascending order.
double median_of(const double* ranked, std::size_t size) {
  const std::size_t half = size / 2;
  return size % 2 == 1 ? ranked[half] : (ranked[half - 1] + ranked[half]) / 2;
}

// The standard error of a group's median, if its ratios have nothing to do with each other.
double error_of(double noise) { return kMedian * noise / std::sqrt(static_cast<double>(Speed::kGroup)); }

}  // namespace

Speed::Speed(double percentile)
    : noise_(kFirstNoise),
      percentile_(percentile),
      tail_(assumed_tail()),
      error_(error_of(kFirstNoise)),
      least_(kInfinite) {}

double Speed::most() const {
  if (slowdown_ == 1) return 1;
  return slowdown_ * (1 + kMargin * error_ / std::sqrt(static_cast<double>(sure_) / static_cast<double>(kGroup)));
}

Speed::Above Speed::above(double ratio, bool all_points) const {
  const double far = ratio * (1 + kFar * std::max(kBand, noise_));
  const std::size_t of = all_points ? recent_size_ : since_;
  const auto end = recent_.begin() + recent_size_;
  const auto over = std::count_if(end - of, end, [&](double each) { return each > far; });
  return {static_cast<std::size_t>(over), of};
}

void Speed::require(double percentile) {
  percentile_ = percentile;
  tail_ = percentile_now();
}

void Speed::switched(bool up) {
  forget(0);
  since_ = 0;
  young_ = 0;
  least_ = kInfinite;
  trial_ = up;
  median_ = 0;
}

Change Speed::observe(double ratio, bool of_another) {
  ratio = std::min(std::max(ratio, 1 / kMostRatio), kMostRatio);
  const double by = ratio / slowdown_;
  const bool young = young_ < kYoung && !of_another;
  if (young) {
    ++young_;
    least_ = std::min(least_, by);
    if (young_ <= kCold) return Change::kNone;
  }
  if (recent_size_ == recent_.size()) {
    std::copy(recent_.begin() + 1, recent_.end(), recent_.begin());
    --recent_size_;
  }
  recent_[recent_size_++] = ratio;
  since_ = std::min(since_ + 1, recent_.size());
  if (size_ == kGroup) {
    std::copy(ratios_.begin() + 1, ratios_.end(), ratios_.begin());
    --size_;
  }
  ratios_[size_++] = ratio;
  ++count_;
  if (young && young_ == kYoung && least_ > kExtreme && size_ > 1) {
    return believe((ratios_[size_ - 2] + ratio) / 2, 2, Change::kSlower);
  }
  const double sigma = std::max(kBand, noise_) * alike_;
  const double z = (by - 1) / sigma;
  up_ = std::max(0.0, up_ + std::min(z, kCut) - kSlack);
  up_run_ = up_ > 0 ? std::min(up_run_ + 1, size_) : 0;
  down_ = std::max(0.0, down_ + std::min(-z, kCut) - kSlack);
  down_run_ = down_ > 0 ? std::min(down_run_ + 1, size_) : 0;
  if (up_ >= kSlowerAt) {
    const double median = median_of_last(up_run_);
    const double far = median * (1 + kCut * sigma);
    if (ratio <= far) return believe(median, up_run_, Change::kSlower);
    // It does not belong to the others: a hiccup, or the first of a step that is larger. The next one tells.
    const double before = ratios_[size_ - 2];
    if (before > far) return believe(std::min(ratio, before), 2, Change::kSlower);
  }
  if (down_ >= kFasterAt) return believe(median_of_last(down_run_), down_run_, Change::kFaster);
  if (sure_ < kSure && size_ == kSure) return believe(median_of_last(size_), kSure, Change::kSurer);
  return count_ >= kGroup && size_ == kGroup ? look_at_group() : Change::kNone;
}

// After 32 ratios without a step.
Change Speed::look_at_group() {
  Group ranked = ratios_;
  std::sort(ranked.begin(), ranked.end());
  const double median = median_of(ranked.data(), kGroup);
  const double error = error_;
  const double off = median / slowdown_ - 1;
  const bool trial = trial_;
  trial_ = false;
  count_ = 0;
  if (sure_ < kGroup) {
    learn(ranked, median);
    return believe(median, kGroup, Change::kSurer);
  }
  if (off > kBand + (trial ? error : 3 * error)) return believe(median, kGroup, Change::kSlower);
  if (off < -(kBand + 3 * error)) return believe(median, kGroup, Change::kFaster);
  const Change change = learn(ranked, median);
  if (slowdown_ != 1) {
    drift_ += kGain * (median - drift_);
    if (std::abs(drift_ - 1) <= kBand || std::abs(drift_ - slowdown_) > error * slowdown_) {
      return believe(drift_, kGroup, Change::kSurer);
    }
  }
  return change;
}

// The noise and the tail, from a group in ascending order.
Change Speed::learn(const Group& ranked, double median) {
  Group deviations;
  for (std::size_t at = 0; at < kGroup; ++at) deviations[at] = std::abs(ranked[at] - median);
  std::sort(deviations.begin(), deviations.end());
  const double seen = std::min(std::max(kMad * median_of(deviations.data(), kGroup) / median, kLeastNoise), kMostNoise);
  noise_ += kGain * (seen - noise_);
  if (median_ > 0) jumps_ += kSlowGain * (std::abs(median / median_ - 1) - jumps_);
  median_ = median;
  const double jumps = kNormal * jumps_;
  error_ = std::max(error_of(noise_), jumps);
  alike_ = std::min(std::max(jumps / (kAlike * error_of(noise_)), 1.0), kMostAlike);
  if (kept_size_ == kept_.size()) {
    std::copy(kept_.begin() + kGroup, kept_.end(), kept_.begin());
    kept_size_ -= kGroup;
  }
  for (const double ratio : ranked) kept_[kept_size_++] = ratio / median;
  const double tail = percentile_now();
  if (std::abs(tail - tail_) <= kBand * tail_) return Change::kNone;
  tail_ = tail;
  return Change::kNoise;
}

Change Speed::believe(double slowdown, std::size_t sure, Change change) {
  drift_ = slowdown;
  slowdown_ = std::abs(slowdown - 1) <= kBand ? 1 : slowdown;
  sure_ = sure;
  if (change == Change::kSurer) {
    forget(size_);
  } else {
    forget(std::min(sure, size_));
    median_ = 0;
  }
  return change;
}

// All ratios but the last few, and the sums.
void Speed::forget(std::size_t but) {
  std::copy(ratios_.begin() + (size_ - but), ratios_.begin() + size_, ratios_.begin());
  size_ = but;
  count_ = 0;
  up_ = down_ = 0;
  up_run_ = down_run_ = 0;
}

double Speed::median_of_last(std::size_t count) const {
  Group ranked;
  std::copy(ratios_.begin() + (size_ - count), ratios_.begin() + size_, ranked.begin());
  std::sort(ranked.begin(), ranked.begin() + count);
  return median_of(ranked.data(), count);
}

// The percentile of the ratios that were kept, by nearest rank; what normal noise has while they are few.
double Speed::percentile_now() const {
  if (percentile_ == 50 || kept_size_ < kept_.size()) return assumed_tail();
  auto ranked = kept_;
  std::sort(ranked.begin(), ranked.end());
  const auto rank = static_cast<std::size_t>(std::ceil(percentile_ * static_cast<double>(ranked.size()) / 100));
  return std::max(1.0, ranked[rank - 1]);
}

double Speed::assumed_tail() const {
  std::size_t at = 1;
  while (percentile_ > kPercentiles[at].percentile) ++at;
  const auto& [low, from_sigma] = kPercentiles[at - 1];
  const auto& [high, to_sigma] = kPercentiles[at];
  const double sigmas = from_sigma + (to_sigma - from_sigma) * (percentile_ - low) / (high - low);
  return 1 + sigmas * noise_;
}

}  // namespace adaptivenet
