#include "daemon/jobs.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "asking.h"

namespace adaptivenet {
namespace {

// Jobs whose handler a test steers: verb `go` emits `progress` for every step that the test lets it make.
class JobsTest : public testing::Test {
 protected:
  Request request(int number, const std::string& verb, Json fields = Json::object()) {
    return read_request(request_json(number, verb, std::move(fields)).dump());
  }

  JobPtr submit(int number, const std::string& verb, Json fields = Json::object()) {
    return jobs_->submit(request(number, verb, std::move(fields)));
  }

  // The error that `submit` throws.
  std::string refusal(Request request) {
    try {
      jobs_->submit(std::move(request));
    } catch (const Error& error) {
      return error.kind();
    }
    return "none";
  }

  void step(int count = 1) {
    const std::lock_guard lock(mutex_);
    steps_ += count;
    change_.notify_all();
  }

  std::vector<Json> events(const JobPtr& job, std::uint64_t from = 0) {
    std::vector<Json> events;
    std::istringstream lines(jobs_->events(*job, from, std::size_t{1} << 40).lines);
    for (std::string line; std::getline(lines, line);) events.push_back(parse_json(line));
    return events;
  }

  std::string types(const JobPtr& job) {
    std::string types;
    for (const Json& event : events(job)) types += event["type"].get<std::string>() + " ";
    return types;
  }

  template <class Condition>
  void wait_until(Condition condition) {
    std::unique_lock lock(mutex_);
    while (!condition()) {
      ASSERT_EQ(change_.wait_for(lock, kPatience), std::cv_status::no_timeout) << "nothing has happened";
    }
  }

  void wait_for_events(const JobPtr& job, std::size_t count) {
    wait_until([&] { return events(job).size() >= count; });
  }

  void wait_for_end(const JobPtr& job) {
    Jobs::Events seen;
    wait_until([&] { return (seen = jobs_->events(*job, seen.next, std::size_t{1} << 40)).ended; });
  }

  Json handle(const Json& request, const Emit& emit, const Cancelled& cancelled) {
    {
      const std::lock_guard lock(mutex_);
      done_.push_back(request["job"]);
      threads_.insert(std::this_thread::get_id());
    }
    const std::string verb = request["verb"];
    if (verb == "go") {
      for (int done = 0; done < request.at("steps"); ++done) {
        {
          std::unique_lock lock(mutex_);
          change_.wait(lock, [&] { return steps_ > 0 || cancelled; });
          if (cancelled) throw DeviceError("cancelled");
          --steps_;
        }
        emit({{"type", "progress"}, {"done", done}});
      }
      return {{"steps", request.at("steps")}};
    }
    if (verb == "pour") {
      for (int i = 0; i < request.at("to"); ++i) {
        emit({{"type", "progress"}, {"text", std::string(request.at("bytes").get<std::size_t>(), 'x')}});
      }
      return Json::object();
    }
    if (verb == "plan") throw PlanError("plan \xff");
    if (verb == "version") throw VersionError("version");
    if (verb == "other") throw std::out_of_range("other");
    if (verb == "lie") return {{"type", "error"}, {"job", "another"}, {"event", 77}, {"value", 1.5}};
    if (verb == "nothing") return nullptr;
    return Json::object();
  }

  void cancel() {
    {
      const std::lock_guard lock(mutex_);
      jobs_->cancel();
    }
    change_.notify_all();
  }

  void TearDown() override {
    if (jobs_) cancel();
  }

  std::mutex mutex_;
  std::condition_variable change_;
  int steps_ = 0;
  std::vector<std::string> done_;
  std::set<std::thread::id> threads_;
  std::unique_ptr<Jobs> jobs_ =
      std::make_unique<Jobs>([this](const Json& request, const Emit& emit,
                                    const Cancelled& cancelled) { return handle(request, emit, cancelled); },
                             [this] {
                               const std::lock_guard lock(mutex_);
                               change_.notify_all();
                             });
};

TEST_F(JobsTest, NumbersItsEventsAndEndsWithTheResult) {
  const JobPtr job = submit(1, "go", {{"steps", 2}});
  step(2);
  wait_for_end(job);
  const std::string id = job_id(1);
  EXPECT_EQ(events(job), (std::vector<Json>{
                             {{"job", id}, {"event", 0}, {"type", "started"}},
                             {{"job", id}, {"event", 1}, {"type", "progress"}, {"done", 0}},
                             {{"job", id}, {"event", 2}, {"type", "progress"}, {"done", 1}},
                             {{"job", id}, {"event", 3}, {"type", "result"}, {"steps", 2}},
                         }));
  EXPECT_TRUE(jobs_->idle());
}

TEST_F(JobsTest, SaysHowManyAreAheadOfAJobThatWaits) {
  const JobPtr first = submit(1, "go", {{"steps", 1}});
  const JobPtr second = submit(2, "go", {{"steps", 1}});
  const JobPtr third = submit(3, "quick");
  EXPECT_EQ(events(second)[0], (Json{{"job", job_id(2)}, {"event", 0}, {"type", "waiting"}, {"ahead", 1}}));
  EXPECT_EQ(events(third)[0]["ahead"], 2);
  EXPECT_FALSE(jobs_->idle());
  step(2);
  wait_for_end(third);
  EXPECT_EQ(types(first), "started progress result ");
  EXPECT_EQ(types(second), "waiting started progress result ");
  EXPECT_EQ(types(third), "waiting started result ");
  const JobPtr fourth = submit(4, "quick");
  wait_for_end(fourth);
  EXPECT_EQ(types(fourth), "started result ") << "nothing was ahead of it";
}

TEST_F(JobsTest, AreDoneInTheirOrderOnOneThread) {
  std::vector<std::string> ids;
  JobPtr last = submit(100, "go", {{"steps", 1}});
  ids.push_back(job_id(100));
  for (int i = 99; i >= 80; --i) {
    last = submit(i, "quick");
    ids.push_back(job_id(i));
  }
  step();
  wait_for_end(last);
  EXPECT_EQ(done_, ids);
  EXPECT_EQ(threads_.size(), 1u);
  EXPECT_EQ(threads_.count(std::this_thread::get_id()), 0u);
}

TEST_F(JobsTest, AKnownJobIsNotDoneAgain) {
  const JobPtr job = submit(1, "go", {{"steps", 1}});
  EXPECT_EQ(submit(1, "go", {{"steps", 1}}), job) << "while it runs";
  const JobPtr waits = submit(2, "quick");
  EXPECT_EQ(submit(2, "quick"), waits) << "while it waits";
  EXPECT_EQ(submit(2, "quick", {{"from", 1}}), waits);
  step();
  wait_for_end(waits);
  EXPECT_EQ(submit(1, "go", {{"steps", 1}, {"from", 2}}), job) << "when it has ended";
  EXPECT_EQ(done_.size(), 2u);
}

TEST_F(JobsTest, AnotherRequestForAKnownJobIsRefused) {
  const JobPtr job = submit(1, "go", {{"steps", 1}});
  EXPECT_EQ(refusal(request(1, "go", {{"steps", 2}})), "ProtocolError");
  step();
  wait_for_end(job);
  EXPECT_EQ(refusal(request(1, "quick")), "ProtocolError");
  EXPECT_EQ(done_.size(), 1u);
}

TEST_F(JobsTest, GoesOnOnlyFromAnEventThatIsOrWillBe) {
  EXPECT_EQ(refusal(request(1, "go", {{"steps", 1}, {"from", 1}})), "DeviceError") << "not a known job";
  const JobPtr job = submit(1, "go", {{"steps", 1}});
  wait_for_events(job, 1);
  EXPECT_EQ(refusal(request(1, "go", {{"steps", 1}, {"from", 1}})), "none") << "the next one";
  EXPECT_EQ(refusal(request(1, "go", {{"steps", 1}, {"from", 2}})), "ProtocolError") << "nobody can have seen event 1";
  step();
  wait_for_end(job);
  EXPECT_EQ(refusal(request(1, "go", {{"steps", 1}, {"from", 2}})), "none");
  EXPECT_EQ(refusal(request(1, "go", {{"steps", 1}, {"from", 3}})), "ProtocolError") << "there is no event 3";
  EXPECT_TRUE(done_.size() == 1);
}

TEST_F(JobsTest, EndWithTheErrorThatWasThrown) {
  const std::vector<std::pair<std::string, std::string>> kinds = {
      {"plan", "PlanError"}, {"version", "VersionError"}, {"other", "DeviceError"}, {"go", "DeviceError"}};
  int number = 0;
  for (const auto& [verb, kind] : kinds) {  // `go` lacks the field `steps`: an error of the JSON library
    const JobPtr job = submit(++number, verb);
    wait_for_end(job);
    EXPECT_EQ(types(job), "started error ") << verb;
    EXPECT_EQ(events(job)[1]["kind"], kind) << verb;
    EXPECT_EQ(events(job)[1]["event"], 1) << verb;
  }
  EXPECT_TRUE(jobs_->idle());
}

TEST_F(JobsTest, AHandlerCannotForgeTheEnvelope) {
  const JobPtr lie = submit(1, "lie");
  const JobPtr nothing = submit(2, "nothing");
  wait_for_end(nothing);
  EXPECT_EQ(events(lie)[1], (Json{{"job", job_id(1)}, {"event", 1}, {"type", "result"}, {"value", 1.5}}));
  EXPECT_EQ(events(nothing).back()["type"], "result");
}

TEST_F(JobsTest, GivesEventsInPiecesAndSaysWhichIsTheLast) {
  const JobPtr job = submit(1, "pour", {{"to", 5}, {"bytes", 1000}});
  wait_for_end(job);
  std::string lines;
  std::vector<std::uint64_t> pieces;
  for (Jobs::Events piece; !piece.ended;) {
    piece = jobs_->events(*job, piece.next, 2500);
    EXPECT_LE(piece.lines.size(), 2500u);
    pieces.push_back(piece.next);
    lines += piece.lines;
    ASSERT_LT(pieces.size(), 10u);
  }
  EXPECT_EQ(pieces, (std::vector<std::uint64_t>{3, 5, 7}));
  EXPECT_EQ(lines, jobs_->events(*job, 0, std::size_t{1} << 40).lines);

  const Jobs::Events one = jobs_->events(*job, 1, 10);
  EXPECT_EQ(one.next, 2u) << "an event that is longer than the limit comes alone";
  EXPECT_GT(one.lines.size(), 1000u);
}

TEST_F(JobsTest, EventsThatHaveNotBeenYetAreNone) {
  const JobPtr job = submit(1, "go", {{"steps", 1}});
  wait_for_events(job, 1);
  const Jobs::Events events = jobs_->events(*job, 1, 100);
  EXPECT_EQ(events.lines, "");
  EXPECT_EQ(events.next, 1u);
  EXPECT_FALSE(events.ended);
}

TEST_F(JobsTest, KeepsTheJobsThatEndedLast) {
  JobPtr last;
  std::vector<JobPtr> all;
  for (int i = 0; i < 17; ++i) all.push_back(last = submit(i, "quick"));
  wait_for_end(last);
  EXPECT_EQ(refusal(request(0, "quick", {{"from", 1}})), "DeviceError") << "the first of 17 is forgotten";
  for (int i = 1; i < 17; ++i) EXPECT_EQ(submit(i, "quick"), all[static_cast<std::size_t>(i)]);
  EXPECT_EQ(events(all[0]).back()["type"], "result") << "who is attached to it keeps it";
  EXPECT_EQ(done_.size(), 17u);

  wait_for_end(submit(0, "quick"));
  EXPECT_EQ(done_.size(), 18u) << "done anew";
}

TEST_F(JobsTest, KeepsFewerWhenTheyAreLarge) {
  const int mebibyte = 1 << 20;
  wait_for_end(submit(1, "pour", {{"to", 40}, {"bytes", mebibyte}}));
  wait_for_end(submit(2, "quick"));
  wait_for_end(submit(3, "pour", {{"to", 40}, {"bytes", mebibyte}}));
  EXPECT_EQ(refusal(request(1, "pour", {{"to", 40}, {"bytes", mebibyte}, {"from", 1}})), "none");
  wait_for_end(submit(4, "pour", {{"to", 100}, {"bytes", mebibyte}}));
  EXPECT_EQ(refusal(request(1, "pour", {{"to", 40}, {"bytes", mebibyte}, {"from", 1}})), "DeviceError");
  EXPECT_EQ(refusal(request(2, "quick", {{"from", 1}})), "none") << "80 MiB were too much, 40 MiB are not";
  EXPECT_EQ(refusal(request(3, "pour", {{"to", 40}, {"bytes", mebibyte}, {"from", 1}})), "none");
  EXPECT_EQ(refusal(request(4, "pour", {{"to", 100}, {"bytes", mebibyte}, {"from", 1}})), "none") << "the last";
  wait_for_end(submit(5, "quick"));
  EXPECT_EQ(refusal(request(3, "pour", {{"to", 40}, {"bytes", mebibyte}, {"from", 1}})), "DeviceError");
  EXPECT_EQ(refusal(request(4, "pour", {{"to", 100}, {"bytes", mebibyte}, {"from", 1}})), "none") << "its last 64 MiB";
}

TEST_F(JobsTest, CancelEndsTheRunningJobAndThoseThatWait) {
  const JobPtr runs = submit(1, "go", {{"steps", 2}});
  const JobPtr waits = submit(2, "quick");
  step();
  wait_for_events(runs, 2);
  cancel();
  wait_for_end(waits);
  EXPECT_EQ(types(runs), "started progress error ");
  EXPECT_EQ(events(runs).back()["message"], "cancelled");
  EXPECT_EQ(types(waits), "waiting error ") << "it has not begun";
  EXPECT_EQ(done_.size(), 1u);
  EXPECT_TRUE(jobs_->idle());
}

TEST_F(JobsTest, KeepsSoManyBytesOfTheEventsOfAJobAndTellsHowManyAreLost) {
  constexpr std::size_t kBytes = 4000;
  const auto emits = [](const Json& request, const Emit& emit, const Cancelled&) {
    for (int i = 0; i < request.at("to"); ++i) emit({{"type", "progress"}, {"done", i}});
    return Json::object();
  };
  for (const int to : {0, 1, 10, 30, 500, 5000}) {
    Jobs jobs(emits, [] {}, kBytes);
    const JobPtr job = jobs.submit(request(1, "any", {{"to", to}}));
    while (!jobs.idle()) std::this_thread::yield();
    const std::uint64_t count = static_cast<std::uint64_t>(to) + 2;
    for (const std::uint64_t from : {std::uint64_t{0}, count / 2, count - 1}) {
      const Jobs::Events all = jobs.events(*job, from, std::size_t{1} << 40);
      EXPECT_EQ(all.next, count);
      EXPECT_TRUE(all.ended);
      std::istringstream lines(all.lines);
      std::uint64_t next = from;
      std::size_t bytes = 0;
      for (std::string line; std::getline(lines, line);) {
        const Json event = parse_json(line);
        if (event["type"] == "lost") {
          EXPECT_EQ(next, from) << "it comes first";
          next += event["count"].get<std::uint64_t>();
          EXPECT_EQ(event["event"], next - 1);
          EXPECT_EQ(event["job"], job_id(1));
          continue;
        }
        bytes += line.size() + 1;
        EXPECT_EQ(event["event"], next++);
      }
      EXPECT_EQ(next, count);
      EXPECT_LE(bytes, kBytes);
      EXPECT_EQ(all.lines.find("lost") != std::string::npos, to >= 500 && from < count - 1);
    }
    EXPECT_NO_THROW(jobs.submit(request(1, "any", {{"to", to}, {"from", count - 1}})));
    EXPECT_THROW(jobs.submit(request(1, "any", {{"to", to}, {"from", count}})), ProtocolError);
  }
}

TEST_F(JobsTest, CancelOfOneLeavesTheOthers) {
  const JobPtr runs = submit(1, "go", {{"steps", 1}});
  const JobPtr waits = submit(2, "quick");
  const JobPtr after = submit(3, "quick");
  wait_for_events(runs, 1);
  EXPECT_TRUE(jobs_->cancel(job_id(2)));
  EXPECT_FALSE(jobs_->cancel(job_id(4))) << "nobody has sent it";
  step();
  wait_for_end(after);
  EXPECT_EQ(types(runs), "started progress result ");
  EXPECT_EQ(types(waits), "waiting error ");
  EXPECT_EQ(types(after), "waiting started result ");
  EXPECT_FALSE(jobs_->cancel(job_id(1))) << "it has ended";
  EXPECT_EQ(events(runs).back()["type"], "result");
}

TEST_F(JobsTest, AResultThatCameAllTheSameIsOne) {
  Jobs jobs([](const Json&, const Emit&, const Cancelled&) { return Json{{"value", 1}}; }, [] {});
  const JobPtr job = jobs.submit(request(1, "any"));
  while (!jobs.idle()) std::this_thread::yield();
  jobs.cancel();
  EXPECT_TRUE(jobs.events(*job, 0, 1000).ended);
  EXPECT_NE(jobs.events(*job, 0, 1000).lines.find("\"value\":1"), std::string::npos);
}

TEST_F(JobsTest, TheDestructorCancelsAndWaits) {
  std::atomic<bool> seen = false;
  {
    Jobs jobs(
        [&](const Json&, const Emit& emit, const Cancelled& cancelled) {
          emit({{"type", "progress"}});
          while (!cancelled) std::this_thread::yield();
          seen = true;
          return Json::object();
        },
        [] {});
    const JobPtr job = jobs.submit(request(1, "any"));
    while (jobs.events(*job, 0, 1000).next < 2) std::this_thread::yield();
  }
  EXPECT_TRUE(seen);
}

TEST_F(JobsTest, ManyReadersSeeEveryEventOnce) {
  constexpr int kEvents = 20000;
  const JobPtr job = submit(1, "pour", {{"to", kEvents}, {"bytes", 10}});
  std::vector<std::thread> readers;
  std::atomic<int> good = 0;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&, i] {
      std::string lines;
      for (Jobs::Events piece; !piece.ended; lines += piece.lines) {
        piece = jobs_->events(*job, piece.next, static_cast<std::size_t>(100 + 1000 * i));
        if (piece.lines.empty()) std::this_thread::yield();
      }
      std::istringstream text(lines);
      int count = 0;
      for (std::string line; std::getline(text, line); ++count) {
        if (parse_json(line)["event"] != count) return;
      }
      if (count == kEvents + 2) ++good;
    });
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(good, 3);
}

}  // namespace
}  // namespace adaptivenet
