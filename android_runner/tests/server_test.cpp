#include "daemon/server.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <mutex>
#include <thread>

#include "asking.h"
#include "echo.h"
#include "folder.h"

namespace adaptivenet {
namespace {

using std::chrono::milliseconds;

// A client that does what it wants.
class Client {
 public:
  explicit Client(const std::string& name) {
    const auto until = Clock::now() + kPatience;
    while (!(socket_ = connect_to(name)) && Clock::now() < until) std::this_thread::yield();  // the queue may be full
    EXPECT_TRUE(socket_);
    const timeval patience = {kPatience.count(), 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }

  bool say(std::string_view text) {
    while (!text.empty()) {
      const ssize_t size = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (size <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
  }
  void send(const Json& request) { EXPECT_TRUE(say(request.dump() + "\n")); }
  void say_no_more() { shutdown(socket_.get(), SHUT_WR); }

  // The next event; null at the end of the answer.
  Json event() {
    std::size_t end;
    while ((end = text_.find('\n')) == std::string::npos) {
      char chunk[65536];
      const ssize_t size = recv(socket_.get(), chunk, sizeof chunk, 0);
      EXPECT_TRUE(size >= 0 || errno == ECONNRESET) << "no event has come";
      if (size <= 0) {
        EXPECT_EQ(text_, "") << "half an event";
        return nullptr;
      }
      text_.append(chunk, static_cast<std::size_t>(size));
    }
    const Json event = parse_json(text_.substr(0, end));
    text_.erase(0, end + 1);
    return event;
  }

  // All that is left of the answer.
  std::vector<Json> answer() {
    std::vector<Json> events;
    for (Json event = this->event(); !event.is_null(); event = this->event()) events.push_back(event);
    return events;
  }

  std::string types() {
    std::string types;
    for (const Json& event : answer()) types += event["type"].get<std::string>() + " ";
    return types;
  }

 private:
  Fd socket_;
  std::string text_;
};

class ServerTest : public testing::Test {
 protected:
  void serve(Limits limits, Handler handler) {
    ASSERT_TRUE(folder_.lock());
    server_ = std::make_unique<Server>(folder_, std::move(handler), limits, stop_.get());
    thread_ = std::thread([this] { clean_ = server_->run(); });
    name_ = folder_.socket_name();
    ASSERT_NE(name_, "");
  }
  void serve(Limits limits = {}) { serve(limits, echo_handler(home_.path())); }

  Client client() { return Client(name_); }

  std::string ask(const Json& request) {
    Client client(name_);
    client.send(request);
    return client.types();
  }

  void stop() {
    const std::uint64_t one = 1;
    EXPECT_EQ(write(stop_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }

  // Waits until the server has ended by itself. What `run` has returned.
  bool ended() {
    thread_.join();
    return clean_;
  }

  void TearDown() override {
    if (!thread_.joinable()) return;
    stop();
    thread_.join();
  }

  Folder home_;
  RunFolder folder_{home_.path()};
  Fd stop_{eventfd(0, EFD_CLOEXEC)};
  std::unique_ptr<Server> server_;
  std::thread thread_;
  bool clean_ = false;
  std::string name_;
};

TEST_F(ServerTest, AnswersWithTheEventsOfTheJobAndCloses) {
  serve();
  Client client(name_);
  client.send(request_json(1, "count", {{"to", 100}}));
  const std::vector<Json> events = client.answer();
  ASSERT_EQ(events.size(), 102u);
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i]["event"], i);
    EXPECT_EQ(events[i]["job"], job_id(1));
  }
  EXPECT_EQ(events.back()["type"], "result");
}

TEST_F(ServerTest, TakesARequestInPiecesAndWithoutALineBreak) {
  serve();
  Client client(name_);
  for (const char c : request_json(1, "count", {{"to", 1}}).dump()) client.say({&c, 1});
  client.say_no_more();
  EXPECT_EQ(client.types(), "started progress result ") << "half a hang-up is none";
}

TEST_F(ServerTest, AnswersWhatIsNoRequestWithOneErrorOfNoJob) {
  serve();
  Json foreign = request_json(1, "count");
  foreign["version"] = "9.9.9";
  const std::vector<std::pair<std::string, std::string>> wrong = {{"\n", "ProtocolError"},
                                                                  {"hello\n", "ProtocolError"},
                                                                  {"[]\n", "ProtocolError"},
                                                                  {"{}\n", "ProtocolError"},
                                                                  {std::string(3, '\0') + "\n", "ProtocolError"},
                                                                  {foreign.dump() + "\n", "VersionError"}};
  for (const auto& [text, kind] : wrong) {
    Client client(name_);
    client.say(text);
    const std::vector<Json> events = client.answer();
    ASSERT_EQ(events.size(), 1u) << text;
    EXPECT_EQ(events[0]["job"], nullptr);
    EXPECT_EQ(events[0]["event"], 0);
    EXPECT_EQ(events[0]["type"], "error");
    EXPECT_EQ(events[0]["kind"], kind);
  }
  EXPECT_EQ(ask(request_json(1, "count", {{"to", 0}})), "started result ");
}

TEST_F(ServerTest, TakesALineOf16MiBAndNoMore) {
  serve();
  const std::size_t frame = request_json(1, "size", {{"text", ""}}).dump().size();
  const Json longest = request_json(1, "size", {{"text", std::string(kLongestRequest - frame, 'x')}});
  Client client(name_);
  client.send(longest);
  const std::vector<Json> events = client.answer();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1]["size"], kLongestRequest - frame);

  Client more(name_);
  const bool sent = more.say(longest.dump() + " \n");  // the daemon may have closed before the end
  const std::vector<Json> error = more.answer();
  ASSERT_EQ(error.size(), 1u) << sent;
  EXPECT_EQ(error[0]["kind"], "ProtocolError");

  Client endless(name_);
  while (endless.say(std::string(1 << 20, 'x'))) continue;
  EXPECT_EQ(endless.types(), "error ");
}

TEST_F(ServerTest, OneJobForAllThatAskForIt) {
  serve();
  Client first(name_);
  first.send(request_json(1, "count", {{"to", 200}, {"ms", 1}}));
  first.event();
  Client second(name_);
  second.send(request_json(1, "count", {{"to", 200}, {"ms", 1}}));
  EXPECT_EQ(second.answer().size(), 202u);
  EXPECT_EQ(first.answer().size(), 201u);
  EXPECT_EQ(ask(request_json(1, "count", {{"to", 200}, {"ms", 1}, {"from", 201}})), "result ") << "and for a late one";
  EXPECT_EQ(ask(request_json(1, "count", {{"to", 2}})), "error ") << "that is another request";
}

TEST_F(ServerTest, AJobGoesOnWithoutItsClientWhoComesBack) {
  serve();
  std::int64_t next = 0;
  const Json request = request_json(1, "count", {{"to", 300}, {"ms", 1}});
  bool ended = false;
  for (int comes = 0; !ended; ++comes) {
    ASSERT_LT(comes, 300);
    Client client(name_);
    Json again = request;
    if (next > 0) again["from"] = next;
    client.send(again);
    for (int i = 0; i < 40 && !ended; ++i) {
      const Json event = client.event();
      ASSERT_FALSE(event.is_null());
      ASSERT_EQ(event["event"], next++);
      ended = event["type"] == "result";
    }
  }
  EXPECT_EQ(next, 302);
}

TEST_F(ServerTest, AClientThatDoesNotReadHoldsUpNobody) {
  serve();
  Client stuck(name_);
  stuck.send(request_json(1, "pour", {{"to", 16}, {"bytes", 1 << 20}}));  // far more than a socket takes
  Client half(name_);
  half.say("{\"verb\":");
  EXPECT_EQ(ask(request_json(2, "count", {{"to", 0}})).ends_with("started result "), true);
  EXPECT_EQ(stuck.answer().size(), 18u) << "and it gets all when it reads at last";
}

TEST_F(ServerTest, AClientThatReadsLateIsToldHowManyEventsAreLost) {
  serve({.job_bytes = 1 << 20});
  const Json request = request_json(1, "pour", {{"to", 16}, {"bytes", 1 << 20}});
  Client late(name_);
  late.send(request);
  EXPECT_TRUE(ask(request_json(2, "tally")).ends_with("started result ")) << "its job has ended without it";
  std::int64_t next = 0, lost = 0;
  std::string last;
  for (const Json& event : late.answer()) {
    last = event["type"];
    if (last == "lost") {
      lost += event["count"].get<std::int64_t>();
      next += event["count"].get<std::int64_t>() - 1;
    }
    EXPECT_EQ(event["event"], next++);
  }
  EXPECT_EQ(next, 18);
  EXPECT_GT(lost, 0);
  EXPECT_EQ(last, "result");
  EXPECT_EQ(ask(request), "lost result ") << "and one that comes back";
}

TEST_F(ServerTest, AClientThatReadsSlowlyButSteadilyIsNotCutOff) {
  serve({.idle = milliseconds(1000)});
  Client slow(name_);
  slow.send(request_json(1, "pour", {{"to", 16}, {"bytes", 1 << 19}}));
  const auto begin = Clock::now();
  int events = 0;
  while (!slow.event().is_null()) {
    ++events;
    std::this_thread::sleep_for(milliseconds(150));
  }
  EXPECT_EQ(events, 18);
  EXPECT_GT(Clock::now() - begin, milliseconds(1000)) << "longer than a client may take nothing";
}

TEST_F(ServerTest, ClientsThatAreStuckDoNotKeepItFromEnding) {
  serve({.idle = milliseconds(300)});
  Client stuck(name_);
  stuck.send(request_json(1, "pour", {{"to", 8}, {"bytes", 1 << 20}}));
  Client half(name_);
  half.say("{\"verb\":");
  Client silent(name_);
  EXPECT_TRUE(ended());
}

TEST_F(ServerTest, AClientThatWaitsKeepsItFromEnding) {
  serve({.idle = milliseconds(200)});
  EXPECT_EQ(ask(request_json(1, "count", {{"to", 1}, {"ms", 1500}})), "started progress result ");
}

TEST_F(ServerTest, EndsWhenNobodyCalls) {
  serve({.idle = milliseconds(100)});
  EXPECT_TRUE(ended());
  EXPECT_EQ(folder_.socket_name(), "");
  EXPECT_FALSE(connect_to(name_));
}

TEST_F(ServerTest, EndsWithItsJobWhenNobodyWaitsForIt) {
  serve({.idle = milliseconds(100)});
  {
    Client client(name_);
    client.send(request_json(1, "count", {{"to", 1000000}, {"ms", 10}}));
    client.event();
  }
  EXPECT_TRUE(ended());
}

TEST_F(ServerTest, ARequestIsTakenFromAClientThatHangsUpAtOnce) {
  serve();
  const Json request = request_json(1, "tally");
  Client(name_).send(request);
  EXPECT_EQ(ask(request), "started result ");
  EXPECT_EQ(std::filesystem::file_size(home_.path() / "tally"), 1u);
}

TEST_F(ServerTest, StopCancelsTheJobsAndEnds) {
  serve();
  Client runs(name_);
  runs.send(request_json(1, "count", {{"to", 1000000}, {"ms", 5}}));
  runs.event();
  Client waits(name_);
  waits.send(request_json(2, "tally"));
  EXPECT_EQ(waits.event()["ahead"], 1);
  Client unheard(name_);

  Client stops(name_);
  stops.send(Json{{"verb", "stop"}, {"version", "9.9.9"}});
  EXPECT_EQ(stops.answer(), (std::vector<Json>{{{"job", nullptr}, {"event", 0}, {"type", "result"}}}));
  EXPECT_EQ(folder_.socket_name(), "");
  EXPECT_FALSE(connect_to(name_));
  EXPECT_EQ(runs.answer().back()["message"], "cancelled");
  EXPECT_EQ(waits.types(), "error ");
  EXPECT_EQ(unheard.types(), "") << "it may send its request to the next daemon";
  EXPECT_TRUE(ended());
  EXPECT_FALSE(std::filesystem::exists(home_.path() / "tally"));
}

TEST_F(ServerTest, CancelEndsAJobAndNothingElse) {
  serve();
  Client runs(name_);
  runs.send(request_json(1, "count", {{"to", 1000000}, {"ms", 5}}));
  runs.event();
  const auto cancel = [&](int job) {
    Client client(name_);
    client.send(request_json(job, "cancel"));
    return client.answer();
  };
  EXPECT_EQ(cancel(1), (std::vector<Json>{{{"job", nullptr}, {"event", 0}, {"type", "result"}, {"cancelled", true}}}));
  EXPECT_EQ(runs.answer().back()["message"], "cancelled");
  EXPECT_EQ(cancel(1).at(0)["cancelled"], false);
  EXPECT_EQ(ask(request_json(2, "tally")), "started result ");
}

TEST_F(ServerTest, AnswersAllWhoStopIt) {
  serve();
  Client runs(name_);
  runs.send(request_json(1, "count", {{"to", 1000000}, {"ms", 200}}));
  runs.event();
  Client first(name_);
  Client second(name_);
  first.send(Json{{"verb", "stop"}});
  const bool sent = second.say("{\"verb\": \"stop\"}\n");
  EXPECT_EQ(first.types(), "result ");
  const std::string types = second.types();
  EXPECT_TRUE(types == (sent ? "result " : "") || types == "") << "it came too late to be heard";
  EXPECT_TRUE(ended());
}

TEST_F(ServerTest, DoesNotWaitForAJobThatDoesNotEnd) {
  std::mutex mutex;
  std::condition_variable changed;
  bool released = false;
  serve({.grace = milliseconds(200)}, [&](const Json&, const Emit&, const Cancelled&) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return released; });
    return Json::object();
  });
  Client client(name_);
  client.send(request_json(1, "any"));
  client.event();
  stop();
  EXPECT_FALSE(ended());
  {
    const std::lock_guard lock(mutex);
    released = true;
  }
  changed.notify_one();
  server_.reset();  // the job uses what is here
}

TEST_F(ServerTest, DoesNotWaitForAClientThatDoesNotRead) {
  serve({.grace = milliseconds(200)});
  Client stuck(name_);
  stuck.send(request_json(1, "pour", {{"to", 8}, {"bytes", 1 << 20}}));
  EXPECT_EQ(ask(request_json(2, "count", {{"to", 0}})).ends_with("result "), true);
  stop();
  EXPECT_TRUE(ended());
}

TEST_F(ServerTest, ServesMoreClientsThanItTakesAtOnce) {
  serve();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(std::make_unique<Client>(name_));
    clients.back()->send(request_json(i, "count", {{"to", 3}}));
  }
  for (const auto& client : clients) EXPECT_EQ(client->types().ends_with("progress progress progress result "), true);
}

TEST_F(ServerTest, KeepsNoFileOpenForAClientThatHasGone) {
  const auto open_files = [] {
    const std::filesystem::directory_iterator files("/proc/self/fd");
    return std::distance(begin(files), end(files));
  };
  serve();
  ask(request_json(0, "count", {{"to", 1}}));
  const auto before = open_files();
  for (int i = 1; i < 50; ++i) {
    ask(request_json(i, "count", {{"to", 1}}));
    Client(name_).send(request_json(1000, "count", {{"to", 1}}));
    Client gone(name_);
  }
  // The server notices soon, by itself, that a client went: this one comes after those that went.
  ask(request_json(2000, "count", {{"to", 1}}));
  for (int i = 0; open_files() > before && i < 1000; ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(open_files(), before);
}

TEST_F(ServerTest, OtherUsersAreNotServed) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  serve();
  // Runs connect_to() as another user; whether it is satisfied with what listens there.
  const auto connects = [](const std::string& name) {
    const pid_t other = fork();
    if (other == 0) _exit(setuid(65534) == 0 && connect_to(name) ? 0 : 1);
    int status = 0;
    waitpid(other, &status, 0);
    return status == 0;
  };
  EXPECT_FALSE(connects(name_)) << "a caller takes no daemon of another user";

  const std::string name = random_name();
  const Fd listener = listen_at(name);
  connects(name);
  EXPECT_FALSE(accept_from(listener)) << "a daemon takes no caller of another user";
  const Fd own = connect_to(name);
  EXPECT_TRUE(accept_from(listener));
}

}  // namespace
}  // namespace adaptivenet
