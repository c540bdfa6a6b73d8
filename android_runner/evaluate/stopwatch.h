// A clock that stands still while a thread is ready to run and other programs have the processors. See
// toolkit/devices/local/stopwatch.py, which does the same and says why.
#pragma once

#include <chrono>
#include <vector>

namespace adaptivenet {

using Clock = std::chrono::steady_clock;

// A moment: when it ended what came before it and begins what comes after it, and for how long the thread had waited.
// Looking at that takes the time between the two.
struct Stamp {
  Clock::time_point ended;
  Clock::time_point begins;
  std::chrono::nanoseconds waited{0};

  // From here to `other`: by an ordinary clock, and without the time for which the thread waited, of which what fits
  // into the two looks is theirs.
  std::chrono::nanoseconds wall_until(const Stamp& other) const { return other.ended - begins; }
  std::chrono::nanoseconds until(const Stamp& other) const;
};

// Takes stamps for the thread that made it.
class Stopwatch {
 public:
  Stopwatch();
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void start() { stamps_.assign(1, stamp()); }
  void split() { stamps_.push_back(stamp()); }

  // This moment takes the place of the last one.
  void split_again() { stamps_.back() = stamp(); }

  const std::vector<Stamp>& stamps() const { return stamps_; }

 private:
  Stamp stamp() const;
  std::chrono::nanoseconds waited() const;

  int file_ = -1;  // what the kernel counts of this thread
  std::vector<Stamp> stamps_;
};

}  // namespace adaptivenet
