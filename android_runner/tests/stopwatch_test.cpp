#include "evaluate/stopwatch.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace adaptivenet {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

nanoseconds processor_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + nanoseconds(now.tv_nsec);
}

void work(nanoseconds time) {
  for (const nanoseconds until = processor_time() + time; processor_time() < until;) {
  }
}

// The first core that this process may run on.
int a_core() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return -1;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &cores)) return core;
  }
  return -1;
}

bool stay_on(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  return sched_setaffinity(0, sizeof cores, &cores) == 0;
}

TEST(Stopwatch, DoesNotCountWhatOthersTake) {
  const int core = a_core();
  if (core < 0 || access("/proc/thread-self/schedstat", R_OK) != 0) GTEST_SKIP() << "the kernel does not count";
  std::atomic<bool> over = false;
  std::atomic<int> spinning = 0;
  std::vector<std::thread> others;
  for (int index = 0; index < 2; ++index) {
    others.emplace_back([&] {
      stay_on(core);
      for (++spinning; !over;) {
      }
    });
  }
  nanoseconds wall{0}, ran{0}, took{0};
  std::thread([&] {
    stay_on(core);
    while (spinning < 2) sched_yield();
    Stopwatch watch;
    const nanoseconds before = processor_time();
    watch.start();
    for (int part = 0; part < 30; ++part) {
      work(milliseconds(2));
      watch.split();
    }
    took = processor_time() - before;
    for (std::size_t part = 1; part < watch.stamps().size(); ++part) {
      wall += watch.stamps()[part - 1].wall_until(watch.stamps()[part]);
      ran += watch.stamps()[part - 1].until(watch.stamps()[part]);
    }
  }).join();
  over = true;
  for (std::thread& other : others) other.join();
  const nanoseconds of_others = wall - took;
  EXPECT_GT(of_others.count(), 0) << "an ordinary clock counts them";
  EXPECT_NEAR(ran.count(), took.count(), 0.25 * of_others.count());
}

TEST(Stopwatch, TakesWhatFitsIntoItsLooksForTheirs) {
  const auto at = [](long long ns) { return Clock::time_point(nanoseconds(ns)); };
  const Stamp begin{at(80), at(100), nanoseconds(1000)};
  const Stamp end{at(900), at(700'900), nanoseconds(701'300)};
  EXPECT_EQ(begin.wall_until(end), nanoseconds(800));
  EXPECT_EQ(begin.until(end), nanoseconds(520));
  // A wait within a look alone, of either stamp.
  EXPECT_EQ(begin.until({at(900), at(50'950), nanoseconds(51'000)}), nanoseconds(800));
  EXPECT_EQ((Stamp{at(50), at(50'100), nanoseconds(0)}.until({at(50'900), at(50'910), nanoseconds(50'000)})),
            nanoseconds(800));
  // The kernel's count may be a little ahead.
  EXPECT_EQ(begin.until({at(900), at(901), nanoseconds(5000)}), nanoseconds(1));
  // A look may take long though the thread did not wait: an interrupt, or another machine on the same processor.
  EXPECT_EQ((Stamp{at(50), at(100)}.until({at(900), at(200'900)})), nanoseconds(800));
}

}  // namespace
}  // namespace adaptivenet
