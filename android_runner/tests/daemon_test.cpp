// The daemon as a process: that there is one of it, and that it leaves nothing behind.
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "core/version.h"
#include "daemon/run_folder.h"
#include "processes.h"

namespace adaptivenet {
namespace {

const Json kStop = {{"verb", "stop"}, {"version", RUNNER_VERSION}};

// A daemon has ended with `status` and has left nothing in `home` but its lock and its log.
void expect_gone(const Home& home, pid_t daemon, const std::string& name, int status = 0) {
  EXPECT_EQ(wait_for_end(daemon), status) << home.file("run/log");
  EXPECT_FALSE(socket_exists(name));
  EXPECT_FALSE(std::filesystem::exists(home.path() / "run" / "socket"));
}

TEST(Daemon, IsOne) {
  Home home;
  const pid_t daemon = home.daemon();
  Process second({RUNNER_ECHO, "serve", "--home", home.path().string(), "--idle", "300"});
  EXPECT_EQ(second.wait(), 0);
  EXPECT_EQ(second.out() + second.err(), "");
  EXPECT_EQ(home.daemon(), daemon);
}

TEST(Daemon, KeepsItsFilesPrivate) {
  Home home;
  home.daemon();
  using std::filesystem::perms;
  const auto access = [&](const char* name) { return std::filesystem::status(home.path() / name).permissions(); };
  EXPECT_EQ(access("run"), perms::owner_all);
  for (const char* name : {"run/socket", "run/lock", "run/log"}) {
    EXPECT_EQ(access(name), perms::owner_read | perms::owner_write) << name;
  }
  EXPECT_TRUE(socket_exists(home.file("run/socket")));
}

TEST(Daemon, BeginsANewLog) {
  Home home;
  const pid_t first = home.daemon();
  home.ask(kStop);
  wait_for_end(first);
  const pid_t second = home.daemon();
  EXPECT_EQ(home.file("run/log").find(std::to_string(first)), std::string::npos);
  EXPECT_NE(home.file("run/log").find(std::to_string(second)), std::string::npos);
}

TEST(Daemon, IsReplacedWhenItWasKilled) {
  Home home;
  const pid_t first = home.daemon();
  const std::string name = home.file("run/socket");
  kill(first, SIGKILL);
  EXPECT_EQ(wait_for_end(first), 128 + SIGKILL);
  EXPECT_EQ(home.file("run/socket"), name) << "it had no time to remove it";
  const pid_t second = home.daemon();
  EXPECT_NE(second, first);
  EXPECT_NE(home.file("run/socket"), name);
  home.ask(kStop);
  expect_gone(home, second, name);
}

TEST(Daemon, EndsWhenNobodyCalls) {
  Home home;
  const pid_t daemon = home.daemon(1);
  expect_gone(home, daemon, home.file("run/socket"));
}

TEST(Daemon, CancelsAJobThatNobodyWaitsFor) {
  const Home home;
  pid_t daemon = 0;
  std::string name;
  {
    daemon = home.ask(request_json(1, "tally"), 0, 1).back()["pid"];
    name = home.file("run/socket");
    Process call = home.call(request_json(2, "count", {{"to", 1000000}, {"ms", 20}}));
    call.line();
  }
  expect_gone(home, daemon, name);
}

TEST(Daemon, Stops) {
  Home home;
  for (int i = 0; i < 10; ++i) {  // calls find the next one even while the last one ends
    const pid_t daemon = home.daemon();
    const std::string name = home.file("run/socket");
    const std::vector<Json> events = home.ask(kStop);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0]["type"], "result");
    const pid_t next = home.daemon();
    EXPECT_NE(next, daemon);
    EXPECT_EQ(wait_for_end(daemon), 0);
    EXPECT_FALSE(socket_exists(name));
  }
}

TEST(Daemon, StopsForAHostOfAnotherVersion) {
  Home home;
  const pid_t daemon = home.daemon();
  const std::string name = home.file("run/socket");
  home.ask({{"verb", "stop"}, {"version", "9.9.9"}});
  expect_gone(home, daemon, name);
}

TEST(Daemon, TellsThoseWhoWaitThatItStops) {
  Home home;
  const pid_t daemon = home.daemon();
  Process runs = home.call(request_json(1, "count", {{"to", 1000000}, {"ms", 5}}));
  runs.line();
  Process waits = home.call(request_json(2, "tally"));
  EXPECT_EQ(parse_json(waits.line())["type"], "waiting");
  home.ask(kStop);
  EXPECT_EQ(runs.wait(), 1);
  EXPECT_EQ(events_in(runs.out()).back()["message"], "cancelled");
  EXPECT_EQ(waits.wait(), 1);
  EXPECT_EQ(wait_for_end(daemon), 0);
}

TEST(Daemon, StopsAtTheSignalsThatAskForIt) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    Home home;
    const pid_t daemon = home.daemon();
    const std::string name = home.file("run/socket");
    Process runs = home.call(request_json(1, "count", {{"to", 1000000}, {"ms", 5}}));
    runs.line();
    kill(daemon, signal);
    expect_gone(home, daemon, name);
    EXPECT_EQ(runs.wait(), 1);
  }
}

TEST(Daemon, EndsEvenWhenItsJobDoesNot) {
  Home home;
  const pid_t daemon = home.daemon();
  const std::string name = home.file("run/socket");
  Process runs = home.call(request_json(1, "stubborn"));
  runs.line();
  Process stop = home.call(kStop);
  expect_gone(home, daemon, name);
  EXPECT_EQ(runs.wait(), 3);
  EXPECT_EQ(stop.wait(), 0);
}

TEST(Daemon, PutsBackWhatAHostHasChanged) {
  Home home;
  const auto change = [&] {
    std::ofstream(home.path() / "run" / "restore") << "echo back >> \"$(dirname \"$0\")/../restored\"\n";
  };
  home.daemon(1);
  change();
  wait_for_end(home.daemon(1));
  EXPECT_EQ(home.file("restored"), "back\n") << "when nobody calls any more";

  const pid_t killed = home.daemon();
  change();
  kill(killed, SIGKILL);
  wait_for_end(killed);
  EXPECT_EQ(home.file("restored"), "back\n");
  home.daemon();
  EXPECT_EQ(home.file("restored"), "back\nback\n") << "by the next daemon, before it answers";
  home.ask(kStop);
  EXPECT_EQ(home.file("run/restore"), "");
  EXPECT_EQ(home.file("restored"), "back\nback\n") << "once";
}

TEST(Daemon, OutlivesAStoppedClient) {
  Home home;
  const pid_t daemon = home.daemon();
  Process frozen = home.call(request_json(1, "pour", {{"to", 4}, {"bytes", 1 << 20}}));
  frozen.line();
  kill(frozen.id(), SIGSTOP);
  EXPECT_EQ(home.daemon(), daemon);
  kill(frozen.id(), SIGCONT);
  EXPECT_EQ(frozen.wait(), 0);
  EXPECT_EQ(events_in(frozen.out()).size(), 6u);
}

TEST(Daemon, StaysWithItsOwnFolder) {
  Home home;
  const pid_t first = home.daemon();
  std::filesystem::remove_all(home.path() / "run");
  const pid_t second = home.daemon();
  EXPECT_NE(second, first);
  kill(first, SIGTERM);
  EXPECT_EQ(wait_for_end(first), 0);
  EXPECT_EQ(home.daemon(), second) << "the end of the first one did not take the second one's socket away";
}

}  // namespace
}  // namespace adaptivenet
