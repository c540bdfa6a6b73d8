// The thread that decides which subnet serves, loads it beside the one that runs, and releases what is no longer
// needed. The thread that infers never waits for it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "serving/assembler.h"
#include "serving/controller.h"
#include "serving/pager.h"
#include "serving/ring.h"
#include "serving/slot.h"

namespace adaptivenet {

inline constexpr std::size_t kNoPoint = static_cast<std::size_t>(-1);

struct PointToServe {
  Subnet subnet;
  Point costs;  // as profiled
};

struct LoaderOptions {
  std::optional<Budgets> budgets;  // the controller decides from the beginning; without, nothing is loaded yet
  std::int64_t limit_bytes = 0;    // of what is loaded; 0: no limit, and nothing is kept beside what serves
  std::vector<int> cores;          // to load on; empty: as the thread that makes the loader
  // A subnet that could not be loaded is not tried again for so long, unless it is asked for by name.
  std::chrono::milliseconds bar = std::chrono::seconds(30);
};

// What the loader knows, at one moment.
struct ServingStatus {
  Subnet subnet;                 // that serves, from the next inference on; empty before the first is loaded
  std::size_t point = kNoPoint;  // its index in the front
  Subnet loading;                // what is loaded beside it
  std::size_t loading_point = kNoPoint;
  Decision decision;                // the controller's latest one, which it may still be loading
  std::uint64_t decisions = 0;      // how many it has made; 0 without budgets
  std::int64_t resident_bytes = 0;  // of the artifacts of all that is loaded
  std::uint64_t switches = 0;       // of the subnet that serves, after the first
  std::string why;                  // that one serves
  std::string error;                // the last one of loading
};

// One inference, as the thread that infers tells of it.
struct Ran {
  std::size_t point = kNoPoint;
  double ms = 0;
};

class Loader {
 public:
  // `front` is fastest first; it may be empty when there are no budgets. Throws BudgetError for budgets that are none,
  // DeviceError for a front that is none, and GraphError for what is no subnet. What `assembler` points to must exist
  // as long as this.
  Loader(const Assembler& assembler, std::vector<PointToServe> front, LoaderOptions options);
  ~Loader();  // no inference may run

  Slot& slot() { return slot_; }

  // From any thread. These return at once.
  void want(Subnet subnet);            // this one serves from now on, whatever the budget; throws GraphError
  void want(const Budgets& budgets);   // the controller decides from now on; throws BudgetError, DeviceError
  void sense(const Signals& signals);  // what sensors say now, for the controller
  ServingStatus status() const;

  // Waits until what was asked for serves, or another point in its place. Throws the error of loading when what was
  // asked for by name cannot be loaded, or when nothing serves at all.
  void wait();

  // From the thread that infers. Never waits; `switched`: the slot has a newer subnet than the one that ran.
  void ran(const Ran& ran, bool switched);

 private:
  struct Target {
    std::size_t point = kNoPoint;
    Subnet subnet;
    std::vector<Piece> pieces;
  };
  struct Failure {
    const char* kind = nullptr;  // a literal
    std::string message;
  };
  struct Bar {
    std::chrono::steady_clock::time_point until;
    Failure failure;
  };
  enum class Step { kMore, kWait, kSettled };

  Target target_of(std::size_t point, Subnet subnet) const;
  void poke();
  double now_s() const;

  // All of these on the loader's thread.
  void work();
  void keep_in_background() const;
  void take_requests();
  void look_at_inferences();
  std::vector<const Target*> candidates() const;  // the best first
  Step step();
  Step advance(const Target& target);
  Step load_ahead();
  Step tidy(const Target& target);
  bool scattered(const Target& target) const;
  void load(const Target& target, const Piece& piece);
  void serve(const Target& target);
  void put(const Target& target, const Programs& programs);
  void attempt(const Target& target, const std::function<void()>& work);  // bars the target when that throws
  void release_given_up();
  bool barred(const Target& target) const;
  std::string why() const;
  void bar(const Target& target, Failure failure);
  void settle();
  void note(const std::function<void(ServingStatus&)>& change);

  const Assembler assembler_;
  const LoaderOptions options_;
  std::vector<Target> front_;
  std::vector<Point> points_;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  Slot slot_;

  // Of the loader's thread.
  std::optional<Controller> controller_;
  std::uint64_t decisions_ = 0;
  std::optional<Target> by_name_;
  Subnet serves_;
  std::size_t serves_point_ = kNoPoint;
  Pager pager_;
  std::map<Subnet, Bar> bars_;
  ScratchPtr scratch_;                                        // of what is being loaded
  Subnet scratch_for_;                                        // for this subnet
  std::map<std::string, std::weak_ptr<Scratch>> scratch_of_;  // that each piece was loaded with
  Programs tidied_;               // pieces of the subnet that serves, loaded once more with one scratch memory
  bool cannot_tidy_ = false;      // the subnet that serves: that has failed
  std::uint64_t given_back_ = 0;  // of the pager's releases
  int running_old_ = 0;           // subnets that were displaced while they ran, and are not given up yet

  struct Observed {
    std::size_t point;
    double ended_s, ms;
  };
  Ring<Observed, 256> inferences_;
  std::atomic<std::uint32_t> pokes_ = 0;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable settled_changed_;
  bool closing_ = false;
  std::optional<Subnet> wanted_;
  std::optional<Budgets> wanted_budgets_;
  std::vector<Signals> sensed_;
  std::uint64_t asked_ = 0, taken_ = 0, settled_ = 0;  // counts of requests
  std::optional<Failure> outcome_;
  ServingStatus status_;

  std::thread thread_;
};

}  // namespace adaptivenet
