// How slow the device is right now, and how much it wavers. It learns as toolkit/serving/speed.py does, which gives the
// reasons and the sources; both compute the same bits.
#pragma once

#include <array>
#include <cstddef>

namespace adaptivenet {

// What a latency has changed of what is believed.
enum class Change { kNone, kSlower, kFaster, kSurer, kNoise };

class Speed {
 public:
  static constexpr std::size_t kGroup = 32;  // ratios that are looked at together
  static constexpr std::size_t kSure = 16;   // ratios from which a slowdown is known well enough to step up

  explicit Speed(double percentile);

  double slowdown() const { return slowdown_; }
  double noise() const { return noise_; }  // sigma, as a share of the median
  double tail() const { return tail_; }    // the percentile by the median
  bool is_sure() const { return sure_ >= kSure; }
  double most() const;  // the slowdown to reckon with: surely no less than it is

  // How many of the last ratios, of all points or of the one that runs, were above `ratio` by more than noise, and of
  // how many.
  struct Above {
    std::size_t over, of;
  };
  Above above(double ratio, bool all_points) const;

  void require(double percentile);  // budgets are for another percentile from now on
  void switched(bool up);           // another point runs from now on; `up`: a slower one
  // After an inference that took so many times what was profiled. `of_another`: of a point that ran before, while the
  // one that shall run is loaded. It is not cold.
  Change observe(double ratio, bool of_another = false);

 private:
  using Group = std::array<double, kGroup>;

  Change look_at_group();
  Change learn(const Group& ranked, double median);
  Change believe(double slowdown, std::size_t sure, Change change);
  void forget(std::size_t but);
  double median_of_last(std::size_t count) const;
  double percentile_now() const;
  double assumed_tail() const;

  double slowdown_ = 1;
  double drift_ = 1;           // the slowdown as the groups since then have it, smoothed
  std::size_t sure_ = kGroup;  // from how many ratios the slowdown is known
  double noise_;
  double percentile_;
  double tail_;
  double error_;       // the standard error of a group's median, as a share of it
  double alike_ = 1;   // by what sums grow too fast, because ratios that follow each other are alike
  double median_ = 0;  // of the group before, when nothing has changed since
  double jumps_ = 0;   // how far it is from one group to the next, smoothed
  Group ratios_{};     // since the slowdown last changed or another point runs, oldest first
  std::size_t size_ = 0;
  std::size_t count_ = 0;                  // of those, since a group was last looked at
  double up_ = 0, down_ = 0;               // the two cumulative sums,
  std::size_t up_run_ = 0, down_run_ = 0;  // and over how many ratios since they were 0
  std::array<double, 4 * kGroup> kept_{};  // ratios by the median of their group, oldest first
  std::size_t kept_size_ = 0;
  std::array<double, 2 * kGroup> recent_{};  // the last ratios, whatever has changed meanwhile, oldest first
  std::size_t recent_size_ = 0;
  std::size_t since_ = 0;  // of those, since the point that runs began to
  int young_ = 0;          // inferences since the point that runs began to
  double least_;           // of their ratios by the slowdown
  bool trial_ = false;     // the first group of a point that was stepped up to
};

}  // namespace adaptivenet
