#include "evaluate/stopwatch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace adaptivenet {
namespace {

using std::chrono::nanoseconds;

// The second number of the kernel's schedstat, or a negative number.
long long waited_ns(int file) {
  char text[64] = {};
  long long ran = 0, waited = -1;
  if (pread(file, text, sizeof text - 1, 0) <= 0 || std::sscanf(text, "%lld %lld", &ran, &waited) != 2) return -1;
  return waited;
}

}  // namespace

nanoseconds Stamp::until(const Stamp& other) const {
  const nanoseconds in_between = other.waited - waited - (begins - ended) - (other.begins - other.ended);
  const nanoseconds wall = wall_until(other);
  return std::max(std::min(nanoseconds(1), wall), std::min(wall, wall - in_between));
}

Stopwatch::Stopwatch() : file_(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {
  if (file_ >= 0 && waited_ns(file_) < 0) {
    close(file_);
    file_ = -1;
  }
}

Stopwatch::~Stopwatch() {
  if (file_ >= 0) close(file_);
}

nanoseconds Stopwatch::waited() const { return nanoseconds(file_ < 0 ? 0 : std::max(0LL, waited_ns(file_))); }

Stamp Stopwatch::stamp() const {
  Stamp now;
  now.ended = Clock::now();
  now.waited = waited();
  now.begins = Clock::now();
  return now;
}

}  // namespace adaptivenet
