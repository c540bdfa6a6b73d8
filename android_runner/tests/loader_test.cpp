// What the loader does when loading fails, when memory is short, and when inferences slow down.
#include "serving/loader.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <new>
#include <set>
#include <thread>

#include "core/error.h"
#include "fake_engine.h"
#include "refusal.h"
#include "served.h"

namespace adaptivenet {
namespace {

using std::chrono::milliseconds;

struct Serving {
  explicit Serving(LoaderOptions options = {}, const std::string& engine_name = "fake")
      : served(engine_name), engine(static_cast<FakeEngine&>(*served.engine)), options(std::move(options)) {}

  Model& model() {
    if (!made) made = std::make_unique<Model>(served.pack, served.engine, served.front, options);
    return *made;
  }
  const Subnet& subnet(std::size_t point) const { return served.front[point].subnet; }
  std::int64_t bytes(std::size_t point) { return model().bytes_of(subnet(point)); }
  std::vector<std::byte> infer(Ran* ran = nullptr) {
    std::vector<std::byte> output(model().output_bytes());
    const Ran found = model().infer(input_of(served.pack, 0), Layout::kContiguous, output);
    if (ran != nullptr) *ran = found;
    return output;
  }

  Served served;
  FakeEngine& engine;
  LoaderOptions options;
  std::unique_ptr<Model> made;
};

LoaderOptions within(double budget_ms, std::int64_t limit_bytes = 0) {
  LoaderOptions options;
  options.budgets = Budgets{budget_ms};
  options.limit_bytes = limit_bytes;
  return options;
}

// Waits for what no call waits for: what is loaded ahead, and what is released later.
template <typename Holds>
void until(Holds holds) {
  while (!holds()) std::this_thread::sleep_for(milliseconds(1));
}

// A gate that loads of one block wait at.
class Gate {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    waits_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void until_somebody_waits() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waits_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false, waits_ = false;
};

TEST(Loader, InferencesGoOnWhileASubnetIsLoaded) {
  Gate gate;
  Serving serving(within(5));
  serving.engine.before_load = [&](const std::string& block) {
    if (block == "p0") gate.wait();
  };
  serving.model().wait();
  const auto before = serving.infer();
  serving.model().activate(serving.subnet(0));
  gate.until_somebody_waits();
  for (int at = 0; at < 100; ++at) EXPECT_EQ(serving.infer(), before);
  EXPECT_EQ(serving.model().status().loading, serving.subnet(0));
  EXPECT_EQ(serving.model().status().loading_point, 0u);
  EXPECT_EQ(serving.model().status().point, 4u);
  gate.open();
  serving.model().wait();
  Ran ran;
  serving.infer(&ran);
  EXPECT_EQ(ran.point, 0u);
  EXPECT_FALSE(serving.engine.clashed);
}

TEST(Loader, ReleasesOnItsOwnThreadWhatRanMeanwhile) {
  Gate runs;
  Serving serving;
  serving.model().activate(serving.subnet(0));
  serving.model().wait();
  std::atomic<bool> held = true;
  serving.engine.before_run = [&] {
    if (held) runs.wait();
  };
  std::thread infers([&] { serving.infer(); });
  runs.until_somebody_waits();
  serving.model().activate(serving.subnet(3));
  serving.model().wait();
  EXPECT_EQ(serving.engine.loaded, 6) << "p0, m1 and o3 still run";
  held = false;
  runs.open();
  infers.join();
  until([&] { return serving.model().status().resident_bytes == serving.bytes(3); });
  EXPECT_EQ(serving.engine.loaded, 3);
}

TEST(Loader, AFreshSubnetSharesNoScratchMemoryWithTheOneThatRuns) {
  Serving serving;
  serving.model().activate(serving.subnet(0));
  serving.model().wait();
  std::atomic<bool> done = false;
  std::thread infers([&] {
    while (!done) serving.infer();
  });
  for (std::size_t at = 0; at < 200; ++at) {
    serving.model().activate(serving.subnet(at % 5));
    serving.model().wait();
  }
  done = true;
  infers.join();
  EXPECT_FALSE(serving.engine.clashed);
}

TEST(Loader, BlocksOfSeveralSwitchesAreLoadedOnceMoreTogether) {
  Serving serving;
  std::atomic<bool> broken = true;
  const auto serve = [&](std::size_t point) {
    serving.model().activate(serving.subnet(point));
    serving.model().wait();
  };
  serve(1);  // p0 o1 m3
  EXPECT_EQ(serving.engine.scratches, 1);
  serving.engine.before_load = [&](const std::string& block) {
    if (block == "o1" && broken) throw DeviceError("o1 was loaded once more");
  };
  serve(3);  // o0: it has a scratch memory, and o1 and m3 have another
  until([&] { return serving.engine.loads == 6; });
  const auto output = serving.infer();
  EXPECT_EQ(serving.model().status().error, "") << "what serves is whole";
  broken = false;
  serve(4);  // o2 o3
  until([&] { return serving.engine.scratches == 1; });
  EXPECT_EQ(serving.engine.loads, 12);
  serve(3);
  EXPECT_EQ(serving.infer(), output);
  EXPECT_FALSE(serving.engine.clashed);
}

struct Fault {
  const char* name;
  std::function<void(const std::filesystem::path& blob)> happens;  // either to the blob,
  std::function<void()> thrown;                                    // or in the engine
  std::string says;
};

class FaultyLoad : public testing::TestWithParam<Fault> {};

TEST_P(FaultyLoad, TheOldSubnetServesOnAndTheNextBestComes) {
  const Fault& fault = GetParam();
  Serving serving(within(2));
  serving.options.bar = milliseconds(200);
  serving.model().wait();
  ASSERT_EQ(serving.model().status().point, 1u);
  const std::filesystem::path blob =
      serving.served.folder.path() / "pack" / serving.served.pack.block_artifact("o2", "onnx").file;
  std::atomic<bool> broken = true;
  if (fault.happens) {
    std::filesystem::copy_file(blob, blob.string() + ".whole");
    fault.happens(blob);
  } else {
    serving.engine.before_load = [&](const std::string& block) {
      if (block == "o2" && broken) fault.thrown();
    };
  }
  const auto before = serving.infer();
  // Asked for by name: the old one serves on.
  serving.model().activate(serving.subnet(4));
  const std::string said = refusal<Error>([&] { serving.model().wait(); });
  EXPECT_TRUE(says(said, fault.says)) << said;
  EXPECT_EQ(serving.model().status().error, said);
  EXPECT_EQ(serving.model().status().point, 1u);
  EXPECT_EQ(serving.infer(), before);
  // By the controller: the next best serves.
  serving.model().set_budgets({5});
  serving.model().wait();
  EXPECT_EQ(serving.model().status().point, 3u);
  EXPECT_TRUE(says(serving.model().status().why, "cannot be loaded"));
  until([&] { return serving.engine.scratches == 1; });
  const int loads = serving.engine.loads;
  for (int at = 0; at < 20; ++at) serving.infer();
  EXPECT_EQ(serving.engine.loads, loads) << "it is not tried again for a while";
  // After that while it is tried again.
  broken = false;
  if (fault.happens) std::filesystem::rename(blob.string() + ".whole", blob);
  until([&] {
    serving.infer();
    return serving.model().status().point == 4;
  });
}

void damage(const std::filesystem::path& blob) {
  std::fstream file(blob, std::ios::in | std::ios::out | std::ios::binary);
  file.put('!');
}

struct NoException {};

INSTANTIATE_TEST_SUITE_P(
    Each, FaultyLoad,
    testing::Values(Fault{"missing", [](auto& blob) { std::filesystem::remove(blob); }, {}, "is missing"},
                    Fault{"damaged", damage, {}, "is damaged"},
                    Fault{"cut", [](auto& blob) { std::filesystem::resize_file(blob, 10); }, {}, "has 10 bytes"},
                    Fault{"refused", {}, [] { throw DeviceError("block 'o2' does not load"); }, "does not load"},
                    Fault{"no_memory", {}, [] { throw std::bad_alloc(); }, "there is no memory"},
                    Fault{"standard", {}, [] { throw std::runtime_error("oops"); }, "oops"},
                    Fault{"anything", {}, [] { throw NoException(); }, "does not say why"}),
    [](const auto& info) { return info.param.name; });

TEST(Loader, WhenNothingLoadsTheErrorIsThatOfTheBest) {
  Serving serving(within(5));
  serving.engine.before_load = [&](const std::string& block) { throw PackError("no " + block); };
  EXPECT_EQ(refusal<Error>([&] { serving.model().wait(); }), "no o0");
  EXPECT_THROW(serving.infer(), DeviceError);
}

TEST(Loader, WhatIsAskedForByNameIsTriedAtOnce) {
  Serving serving;
  std::atomic<bool> broken = true;
  serving.engine.before_load = [&](const std::string& block) {
    if (broken && block == "o3") throw PackError("damaged");
  };
  for (int time = 0; time < 2; ++time) {
    serving.model().activate(serving.subnet(0));
    EXPECT_EQ(refusal<Error>([&] { serving.model().wait(); }), "damaged");
  }
  broken = false;
  serving.model().activate(serving.subnet(0));
  serving.model().wait();
  EXPECT_EQ(serving.model().status().point, 0u);
}

TEST(Loader, KeepsWithinTheLimit) {
  // o0 100, o1 200, o2 300, o3 400, p0 500, m1 600, m3 700
  constexpr std::int64_t kLimit = 2200;
  for (const std::string engine : {"fake", "fake, joined"}) {
    Serving serving(within(5, kLimit), engine);
    serving.model().wait();
    std::set<std::size_t> served;
    for (std::size_t at = 0; at < 60; ++at) {
      serving.model().activate(serving.subnet(at * at * at % 5));
      try {
        serving.model().wait();
      } catch (const Error& error) {
        EXPECT_TRUE(says(error.what(), "the limit is 0.0 MB"));
      }
      served.insert(serving.model().status().point);
      serving.infer();
      EXPECT_LE(serving.model().status().resident_bytes, kLimit);
    }
    EXPECT_GT(served.size(), 1u);
  }
}

TEST(Loader, APointThatDoesNotFitBesideTheOldOneIsReachedByWayOfAnother) {
  Serving serving(within(3, 2400));
  serving.model().wait();
  ASSERT_EQ(serving.model().status().point, 2u);
  serving.model().set_budgets({2});  // p0, o1, m3: 1,400 bytes beside 1,100
  serving.model().wait();
  EXPECT_EQ(serving.model().status().point, 0u) << "which needs 500 beside them";
  serving.model().activate(serving.subnet(1));  // 900 more bytes beside the 1,500 of point 0
  serving.model().wait();
  EXPECT_EQ(serving.model().status().point, 1u);
  EXPECT_LE(serving.model().status().resident_bytes, 2400);
}

TEST(Loader, LoadsNeighboursAheadWhereThereIsRoom) {
  Serving serving(within(3, 100'000));
  serving.model().wait();
  until([&] { return serving.engine.loaded == 6; });  // of points 1, 2 and 3 together: p0 o1 m3 o0 m1 o3
  const int loads = serving.engine.loads;
  serving.model().set_budgets({4});
  serving.model().wait();
  EXPECT_EQ(serving.model().status().point, 3u);
  // The switch itself has loaded nothing. Then o2 was loaded ahead, and o0, o1 and m3 once more together.
  until([&] { return serving.engine.loads == loads + 4 && serving.engine.loaded == 7; });
}

TEST(Loader, SlowInferencesBringAFasterPoint) {
  Serving serving(within(5));
  serving.engine.before_run = [] { std::this_thread::sleep_for(milliseconds(8)); };
  serving.model().wait();
  until([&] {
    serving.infer();
    return serving.model().status().point == 0;
  });
  EXPECT_GT(serving.model().status().decision.slowdown, 1);
}

TEST(Loader, LoadsInTheBackgroundAndOnCoresOfItsOwn) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &all)) --last;
  LoaderOptions options;
  options.cores = {last};
  Serving serving(options);
  std::atomic<int> nice = -1, cores = -1, core = -1;
  serving.engine.before_load = [&](const std::string&) {
    cpu_set_t own;
    sched_getaffinity(0, sizeof own, &own);
    cores = CPU_COUNT(&own);
    core = CPU_ISSET(last, &own) ? last : -1;
    nice = getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)));
  };
  const int before = getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)));
  serving.model().activate(serving.subnet(0));
  serving.model().wait();
  EXPECT_EQ(nice, std::max(before, 10));
  EXPECT_EQ(cores, 1);
  EXPECT_EQ(core, last);
  EXPECT_EQ(getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid))), before);
}

// In bytes, of the process, not counting files that are mapped.
std::int64_t memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return 1024 * std::stoll(line.substr(8));
  }
  return 0;
}

class Freed : public testing::TestWithParam<bool> {};

TEST_P(Freed, MemoryIsGivenBack) {
  const bool at_the_end = GetParam();  // of the heap of the loader's thread; otherwise something lies behind it
#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "another malloc than glibc's";
#endif
  constexpr std::int64_t kPiece = 32 << 10, kPieces = 1024;
  Serving serving;
  std::vector<std::vector<char>> last;  // of each load
  serving.engine.before_load = [&](const std::string&) {
    std::vector<char>(24 << 20, 'x');  // of twice as much as this, glibc gives nothing back by itself from now on
    std::vector<std::vector<char>> pieces;
    for (std::int64_t at = 0; at < kPieces; ++at) pieces.emplace_back(kPiece, 'x');
    if (!at_the_end) last.push_back(std::move(pieces.back()));
  };
  serving.model().activate(serving.subnet(0));
  serving.model().wait();
  const std::int64_t before = memory();
  EXPECT_GT(before, kPiece * kPieces);
  serving.model().activate(serving.subnet(4));
  serving.model().wait();
  serving.infer();
  serving.model().activate(serving.subnet(0));
  serving.model().wait();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (memory() > before - kPiece * kPieces / 2 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_LT(memory(), before - kPiece * kPieces / 2);
}

INSTANTIATE_TEST_SUITE_P(Loader, Freed, testing::Bool());

TEST(Loader, EndsInTheMiddleOfALoad) {
  for (int time = 0; time < 20; ++time) {
    Serving serving(within(5));
    serving.model();
  }
}

}  // namespace
}  // namespace adaptivenet
