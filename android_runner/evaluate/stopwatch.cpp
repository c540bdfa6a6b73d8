#include "evaluate/stopwatch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace adaptivenet {
namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds kUndisturbed{100'000};  // if a look took more, the thread lost the processor meanwhile
constexpr int kLooks = 5;

// The second number of the kernel's schedstat, or a negative number.
long long waited_ns(int file) {
  char text[64] = {};
  long long ran = 0, waited = -1;
  if (pread(file, text, sizeof text - 1, 0) <= 0 || std::sscanf(text, "%lld %lld", &ran, &waited) != 2) return -1;
  return waited;
}

}  // namespace

nanoseconds Stamp::until(const Stamp& other) const {
  // The two clocks are not read at the same moment.
  const nanoseconds wall = wall_until(other);
  return std::min(wall, std::max(nanoseconds(0), wall - (other.waited_before - waited)));
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
  for (int look = 0; look < kLooks; ++look) {
    const auto before = Clock::now();
    now.waited = waited();
    now.begins = Clock::now();
    if (now.begins - before < kUndisturbed) break;
  }
  // Where the thread lost the processor between the moment and the look that counts, it waited for all of that.
  const nanoseconds took = now.begins - now.ended;
  now.waited_before = now.waited - (took < kUndisturbed ? nanoseconds(0) : took);
  return now;
}

}  // namespace adaptivenet
