#include "serving/loader.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <set>
#include <utility>

#include "serving/freed.h"

namespace adaptivenet {
namespace {

constexpr std::size_t kMostScratches = 1;  // of a subnet that serves, or it is loaded once more
constexpr int kNice = 10;  // of 0 to 19: the loader yields to others, but on a busy device it still gets on

std::string in_mb(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

}  // namespace

Loader::Loader(const Assembler& assembler, std::vector<PointToServe> front, LoaderOptions options)
    : assembler_(assembler), options_(std::move(options)), pager_({}, 0) {
  std::vector<std::vector<Piece>> pieces;
  for (PointToServe& point : front) {
    front_.push_back(target_of(front_.size(), std::move(point.subnet)));
    points_.push_back(point.costs);
    pieces.push_back(front_.back().pieces);
  }
  pager_ = Pager(std::move(pieces), options_.limit_bytes);
  if (options_.budgets) {
    controller_.emplace(points_, *options_.budgets);
    decisions_ = asked_ = 1;
  }
  thread_ = std::thread([this] { work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  poke();
  thread_.join();
}

void Loader::want(Subnet subnet) {
  assembler_.pack().graph().require_subnet(subnet);
  {
    const std::lock_guard lock(mutex_);
    wanted_ = std::move(subnet);
    wanted_budgets_.reset();
    ++asked_;
  }
  poke();
}

void Loader::want(const Budgets& budgets) {
  Controller(points_, budgets);  // refuses what cannot be
  {
    const std::lock_guard lock(mutex_);
    wanted_.reset();
    wanted_budgets_ = budgets;
    ++asked_;
  }
  poke();
}

void Loader::sense(const Signals& signals) {
  {
    const std::lock_guard lock(mutex_);
    sensed_.push_back(signals);
  }
  poke();
}

ServingStatus Loader::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void Loader::wait() {
  std::unique_lock lock(mutex_);
  const std::uint64_t wanted = asked_;
  settled_changed_.wait(lock, [&] { return settled_ >= wanted; });
  if (outcome_) throw Error(outcome_->kind, outcome_->message);
}

void Loader::ran(const Ran& ran, bool switched) {
  const bool told = ran.point != kNoPoint && inferences_.push({ran.point, now_s(), ran.ms});
  if (told || switched) poke();
}

Loader::Target Loader::target_of(std::size_t point, Subnet subnet) const {
  assembler_.pack().graph().require_subnet(subnet);
  std::vector<Piece> pieces = assembler_.pieces(subnet);
  return {point, std::move(subnet), std::move(pieces)};
}

void Loader::poke() {
  pokes_.fetch_add(1);
  pokes_.notify_one();
}

double Loader::now_s() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
}

void Loader::work() {
  keep_in_background();
  for (;;) {
    const std::uint32_t seen = pokes_.load();
    {
      const std::lock_guard lock(mutex_);
      if (closing_) return;
      take_requests();
    }
    release_given_up();
    look_at_inferences();
    const Step step = this->step();
    if (step == Step::kSettled) settle();
    if (step != Step::kMore) pokes_.wait(seen);
  }
}

void Loader::keep_in_background() const {
  if (!assembler_.engine().loading_starts_threads()) {
    const auto thread = static_cast<id_t>(syscall(SYS_gettid));
    setpriority(PRIO_PROCESS, thread, std::max(kNice, getpriority(PRIO_PROCESS, thread)));
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (const int core : options_.cores) CPU_SET(core, &cores);
    // Cores that cannot be had are a reason to load elsewhere, not to load nothing.
    if (!options_.cores.empty()) sched_setaffinity(0, sizeof cores, &cores);
  }
}

void Loader::take_requests() {
  for (const Signals& signals : std::exchange(sensed_, {})) {
    if (controller_) decisions_ += controller_->sense(now_s(), signals);
  }
  if (taken_ == asked_) return;
  taken_ = asked_;
  if (wanted_) {
    const auto known = std::find_if(front_.begin(), front_.end(), [&](auto& each) { return each.subnet == *wanted_; });
    const std::size_t point = known == front_.end() ? kNoPoint : known - front_.begin();
    by_name_ = target_of(point, *std::exchange(wanted_, std::nullopt));
    bars_.erase(by_name_->subnet);
  } else if (wanted_budgets_) {
    by_name_.reset();
    const Budgets budgets = *std::exchange(wanted_budgets_, std::nullopt);
    if (controller_) {
      controller_->set_budget(now_s(), budgets);
    } else {
      controller_.emplace(points_, budgets);
    }
    ++decisions_;
  }
}

void Loader::look_at_inferences() {
  while (const auto ran = inferences_.pop()) {
    if (!controller_ || by_name_) continue;
    decisions_ += controller_->observe(ran->ended_s, ran->ms, ran->point);
  }
}

std::vector<const Loader::Target*> Loader::candidates() const {
  if (by_name_) return {&*by_name_};
  std::vector<const Target*> found;
  if (controller_) {
    for (std::size_t point = controller_->point() + 1; point-- > 0;) found.push_back(&front_[point]);
  }
  return found;
}

Loader::Step Loader::step() {
  for (const Target* target : candidates()) {
    if (barred(*target)) continue;
    if (target->subnet != serves_) return advance(*target);
    const Step step = load_ahead();
    return step == Step::kSettled ? tidy(*target) : step;
  }
  return Step::kSettled;
}

Loader::Step Loader::advance(const Target& target) {
  const std::vector<Piece> missing = pager_.missing_of(target.pieces);
  note([&](ServingStatus& status) {
    status.loading = target.subnet;
    status.loading_point = target.point;
  });
  if (missing.empty()) {
    attempt(target, [&] { serve(target); });
    return Step::kMore;
  }
  const std::int64_t bytes = bytes_of(missing);
  const auto around = target.point == kNoPoint ? std::nullopt : std::optional(target.point);
  if (!pager_.make_room(bytes, target.pieces, around)) {
    // What runs for the last time takes memory that is free in a moment.
    if (running_old_ > 0) return Step::kWait;
    bar(target, {"DeviceError", "a subnet needs " + in_mb(bytes) + " beside the " + in_mb(pager_.bytes()) +
                                    " that are loaded; the limit is " + in_mb(options_.limit_bytes)});
    return Step::kMore;
  }
  attempt(target, [&] { load(target, missing.front()); });
  return Step::kMore;
}

Loader::Step Loader::load_ahead() {
  if (serves_point_ == kNoPoint) return Step::kSettled;
  const auto point = pager_.ahead(serves_point_, [&](std::size_t each) { return barred(front_[each]); });
  if (!point) return Step::kSettled;
  settle();
  const Target& target = front_[*point];
  attempt(target, [&] { load(target, pager_.missing_of(target.pieces).front()); });
  return Step::kMore;
}

bool Loader::scattered(const Target& target) const {
  std::set<std::shared_ptr<Scratch>> found;
  for (const Piece& piece : target.pieces) found.insert(scratch_of_.at(piece.name).lock());
  return found.size() > kMostScratches;
}

// After switches the blocks of a subnet have several scratch memories, each as large as what a block computes on the
// way. Loaded together, all share one. This is done beside the old ones, as any other load, and given up for a newer
// one.
Loader::Step Loader::tidy(const Target& target) {
  if (cannot_tidy_ || !scattered(target)) return Step::kSettled;
  if (tidied_.empty()) {
    if (!pager_.fits(pager_.bytes() + bytes_of(target.pieces))) return Step::kSettled;
    settle();
    scratch_ = assembler_.engine().scratch();
    scratch_for_ = target.subnet;
  }
  const auto missing = std::find_if(target.pieces.begin(), target.pieces.end(),
                                    [&](const Piece& piece) { return !tidied_.contains(piece.name); });
  try {
    if (missing != target.pieces.end()) {
      tidied_[missing->name] = assembler_.load(*missing, scratch_);
      note([](ServingStatus&) {});
      return Step::kMore;
    }
    put(target, tidied_);
    for (const Piece& piece : target.pieces) scratch_of_[piece.name] = scratch_;
    for (const auto& [name, program] : tidied_) pager_.replace(name, program);
  } catch (...) {  // what serves is whole, and stays as it is
    cannot_tidy_ = true;
  }
  tidied_.clear();
  scratch_.reset();
  return Step::kMore;
}

void Loader::load(const Target& target, const Piece& piece) {
  if (scratch_for_ != target.subnet || !scratch_) {
    scratch_ = assembler_.engine().scratch();
    scratch_for_ = target.subnet;
  }
  tidied_.clear();
  pager_.add(piece, assembler_.load(piece, scratch_));
  scratch_of_[piece.name] = scratch_;
  note([](ServingStatus&) {});
}

void Loader::attempt(const Target& target, const std::function<void()>& work) {
  try {
    work();
    return;
  } catch (const Error& error) {
    bar(target, {error.kind(), error.what()});
  } catch (const std::bad_alloc&) {
    bar(target, {"DeviceError", "there is no memory to load a subnet; give a lower memory limit"});
  } catch (const std::exception& error) {
    bar(target, {"DeviceError", std::string("a subnet does not load: ") + error.what()});
  } catch (...) {
    bar(target, {"DeviceError", "a subnet does not load, and the engine does not say why"});
  }
}

void Loader::serve(const Target& target) {
  const bool first = serves_.empty();
  put(target, pager_.programs());
  serves_ = target.subnet;
  serves_point_ = target.point;
  scratch_.reset();
  tidied_.clear();
  cannot_tidy_ = false;
  pager_.touch(target.pieces);
  note([&](ServingStatus& status) {
    status.subnet = target.subnet;
    status.point = target.point;
    status.loading.clear();
    status.loading_point = kNoPoint;
    status.switches += !first;
  });
}

void Loader::put(const Target& target, const Programs& programs) {
  auto ready = std::make_unique<Ready>();
  ready->subnet = target.subnet;
  ready->point = target.point;
  ready->chain = assembler_.chain(target.subnet, programs);
  ready->layout = assembler_.layout(target.subnet.front());
  const ReadyPtr old = slot_.put(std::move(ready));
  if (!serves_.empty() && !old) ++running_old_;
}

void Loader::release_given_up() {
  while (slot_.given_up()) --running_old_;
}

bool Loader::barred(const Target& target) const {
  const auto found = bars_.find(target.subnet);
  return found != bars_.end() && std::chrono::steady_clock::now() < found->second.until;
}

void Loader::bar(const Target& target, Failure failure) {
  scratch_.reset();
  note([&](ServingStatus& status) {
    status.error = failure.message;
    status.loading.clear();
    status.loading_point = kNoPoint;
  });
  bars_[target.subnet] = {std::chrono::steady_clock::now() + options_.bar, std::move(failure)};
}

void Loader::settle() {
  const std::vector<const Target*> wanted = candidates();
  pager_.trim();
  note([&](ServingStatus& status) {
    const bool served = !serves_.empty() && (!by_name_ || by_name_->subnet == serves_);
    outcome_.reset();
    if (!served && !wanted.empty()) outcome_ = bars_.at(wanted.front()->subnet).failure;
    status.why = why();
    settled_ = taken_;
  });
  settled_changed_.notify_all();
  if (std::exchange(given_back_, pager_.releases()) != pager_.releases()) give_freed_memory_back();
}

std::string Loader::why() const {
  if (serves_.empty()) return "nothing was loaded yet";
  if (by_name_ && by_name_->subnet != serves_) return "what was asked for cannot be loaded";
  if (by_name_ || !controller_) return "it was asked for";
  return controller_->point() == serves_point_ ? controller_->decision().why
                                               : "the controller's choice cannot be loaded";
}

void Loader::note(const std::function<void(ServingStatus&)>& change) {
  const std::lock_guard lock(mutex_);
  change(status_);
  status_.resident_bytes = pager_.bytes();
  for (const auto& [name, program] : tidied_) status_.resident_bytes += pager_.bytes_of(name);
  if (!controller_ || status_.decisions == decisions_) return;
  status_.decision = controller_->decision();
  status_.decisions = decisions_;
}

}  // namespace adaptivenet
