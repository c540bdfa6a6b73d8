// `call` as a program: what it prints, its exit status, and how it finds and starts the daemon.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <list>
#include <thread>

#include "core/error.h"
#include "core/version.h"
#include "daemon/client.h"
#include "daemon/requests.h"
#include "daemon/run_folder.h"
#include "processes.h"

namespace adaptivenet {
namespace {

std::string message_of(const Json& event) { return event["message"].get<std::string>(); }

TEST(Call, PrintsTheEventsAndEndsWithZeroAfterAResult) {
  const Home home;
  const std::vector<Json> events = home.ask(request_json(1, "count", {{"to", 3}}));
  ASSERT_EQ(events.size(), 5u);
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i]["event"], i);
  EXPECT_EQ(events[4], (Json{{"job", job_id(1)}, {"event", 4}, {"type", "result"}, {"counted", 3}}));
}

TEST(Call, AnswersAloneWithoutADaemon) {
  const Home home;
  const auto answer = [&](const Json& request, int status) {
    std::vector<std::string> command = home.command(request.dump());
    *std::find(command.begin(), command.end(), "call") = "alone";
    Process alone(command);
    EXPECT_EQ(alone.wait(), status);
    return events_in(alone.out()).at(0);
  };
  EXPECT_EQ(answer(request_json(1, "where"), 0), (Json{{"job", job_id(1)},
                                                       {"event", 0},
                                                       {"type", "result"},
                                                       {"home", std::filesystem::canonical(home.path()).string()}}));
  EXPECT_EQ(message_of(answer(request_json(2, "count"), 1)), "there is only 'where'");
  EXPECT_EQ(answer({{"verb", "stop"}}, 1)["kind"], "ProtocolError");
  Json foreign = request_json(3, "where");
  foreign["version"] = "9.9.9";
  EXPECT_EQ(answer(foreign, 1)["version"], RUNNER_VERSION);
  EXPECT_FALSE(std::filesystem::exists(home.path() / "run")) << "no daemon was started";
}

TEST(Call, PrintsEventsAsTheyHappen) {
  const Home home;
  Process call = home.call(request_json(1, "count", {{"to", 1000000}, {"ms", 1}}));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(parse_json(call.line())["event"], i);
}

TEST(Call, EndsWithOneAfterAnError) {
  const Home home;
  const std::vector<Json> plan = home.ask(request_json(1, "fail", {{"kind", "PlanError"}}), 1);
  EXPECT_EQ(plan.back()["kind"], "PlanError");
  EXPECT_EQ(home.ask(request_json(2, "fail", {{"kind", "other"}}), 1).back()["kind"], "DeviceError");
  Json foreign = request_json(3, "count", {{"to", 1}});
  foreign["version"] = "9.9.9";
  const std::vector<Json> events = home.ask(foreign, 1);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["kind"], "VersionError");
  EXPECT_EQ(events[0]["version"], RUNNER_VERSION);
  Process malformed(home.command("{\"verb\": "));
  EXPECT_EQ(malformed.wait(), 1);
  EXPECT_EQ(events_in(malformed.out()).at(0)["kind"], "ProtocolError");
}

TEST(Call, EndsWithThreeAndTheLogWhenTheDaemonDies) {
  const Home home;
  Process call = home.call(request_json(1, "crash"));
  EXPECT_EQ(call.wait(), 3);
  EXPECT_EQ(call.out().find("result"), std::string::npos);
  EXPECT_NE(call.err().find("the engine has lost its head"), std::string::npos) << call.err();
  EXPECT_EQ(home.ask(request_json(2, "count", {{"to", 0}})).size(), 2u) << "a new daemon is started";
}

TEST(Call, SaysWhichProgramCrashedTheDaemon) {
  const Home home;
  Process call = home.call(request_json(1, "segfault"));
  EXPECT_EQ(call.wait(), 3);
  EXPECT_NE(call.err().find("block 'x' crashed while it was loaded"), std::string::npos) << call.err();
  EXPECT_NE(call.err().find("(signal 11)"), std::string::npos) << call.err();
}

TEST(Call, DoesNotWaitForADaemonThatHangs) {
  Home home;
  const pid_t daemon = home.daemon();
  kill(daemon, SIGSTOP);
  try {
    call({home.path(), request_json(1, "tally").dump() + "\n", {}, std::chrono::milliseconds(300)});
    ADD_FAILURE() << "it has answered";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("it hangs, or was stopped"), std::string::npos) << error.what();
  }
  kill(daemon, SIGCONT);
}

TEST(Call, DoesNotWaitForADaemonThatDoesNotTakeTheRequest) {
  Home home;
  const pid_t daemon = home.daemon();
  kill(daemon, SIGSTOP);
  const std::string longer = request_json(1, "size", {{"text", std::string(8 << 20, 'x')}}).dump() + "\n";
  try {
    call({home.path(), longer, {}, std::chrono::milliseconds(300)});
    ADD_FAILURE() << "it has answered";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("has not taken the request for 300 ms"), std::string::npos)
        << error.what();
  }
  kill(daemon, SIGCONT);
  EXPECT_EQ(home.ask(request_json(2, "tally")).back()["pid"], daemon) << "which serves others";
}

TEST(Call, WaitsForADaemonThatTakesTheRequestSlowlyButSteadily) {
  const Home home;
  RunFolder folder(home.path());
  const std::string name = random_name();
  const Fd listener = listen_at(name);
  folder.publish(name);
  constexpr auto kHangs = std::chrono::milliseconds(1000);
  const std::string longer = request_json(1, "size", {{"text", std::string(1 << 20, 'x')}}).dump() + "\n";
  std::size_t taken = 0;
  std::thread daemon([&] {
    pollfd polled = {listener.get(), POLLIN, 0};
    poll(&polled, 1, -1);
    const Fd client = accept_from(listener);
    std::vector<char> piece(std::size_t{64} << 10);
    while (taken < longer.size()) {
      const ssize_t size = recv(client.get(), piece.data(), piece.size(), MSG_DONTWAIT);
      if (size > 0) taken += static_cast<std::size_t>(size);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    const std::string answer = "{\"job\":null,\"event\":0,\"type\":\"result\"}\n";
    send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
  });
  testing::internal::CaptureStdout();
  EXPECT_EQ(call({home.path(), longer, {}, kHangs}), 0);
  EXPECT_NE(testing::internal::GetCapturedStdout().find("result"), std::string::npos);
  daemon.join();
  EXPECT_EQ(taken, longer.size());
}

TEST(Call, ReadsTheRequestFromAFile) {
  const Home home;
  const std::filesystem::path file = home.path() / "request.json";
  const std::string operand = std::string("@").append(file);
  std::ofstream(file) << request_json(1, "count", {{"to", 1}}).dump(2) << "\n\n";
  Process call(home.command(operand));
  EXPECT_EQ(call.wait(), 0) << call.out() << call.err();

  // A line break that JSON does not allow must not become one that it does.
  std::ofstream(file) << "{\"verb\": \"st\nop\"}";
  Process wrong(home.command(operand));
  EXPECT_EQ(wrong.wait(), 1);
  EXPECT_NE(message_of(events_in(wrong.out()).at(0)).find("not JSON"), std::string::npos);

  const std::string frame = request_json(2, "size", {{"text", ""}}).dump();
  std::ofstream(file) << request_json(2, "size", {{"text", std::string(kLongestRequest - frame.size(), 'x')}});
  Process long_one(home.command(operand));
  EXPECT_EQ(long_one.wait(), 0) << long_one.out() << long_one.err();
  EXPECT_EQ(events_in(long_one.out()).back()["size"], kLongestRequest - frame.size());

  std::ofstream(file, std::ios::app) << ' ';
  Process too_long(home.command(operand));
  EXPECT_EQ(too_long.wait(), 2);
  Process missing(home.command(operand + ".missing"));
  EXPECT_EQ(missing.wait(), 2);
  EXPECT_NE(missing.err().find("missing"), std::string::npos);
}

TEST(Call, AWrongCommandLineEndsWithTwo) {
  const Home home;
  const std::string path = home.path();
  const std::vector<std::vector<std::string>> wrong = {{},
                                                       {"cal"},
                                                       {"call"},
                                                       {"call", "{}"},
                                                       {"call", "--home"},
                                                       {"call", "--home", path},
                                                       {"call", "--home", path, "{}", "{}"},
                                                       {"call", "--home", path, "--idle", "0", "{}"},
                                                       {"call", "--home", path, "--idle", "1x", "{}"},
                                                       {"call", "--home", path, "--idle", "", "{}"},
                                                       {"call", "--home", path, "--idle", "9999999999999", "{}"},
                                                       {"call", "--home", path, "--quiet", "{}"},
                                                       {"call", "--home", path + "/missing", "{}"},
                                                       {"serve", "--home", path, "{}"},
                                                       {"serve"}};
  for (std::vector<std::string> arguments : wrong) {
    arguments.insert(arguments.begin(), RUNNER_ECHO);
    Process process(arguments);
    EXPECT_EQ(process.wait(), 2) << Json(arguments);
    EXPECT_EQ(process.out(), "");
    EXPECT_TRUE(process.err().starts_with("adaptivenet-runner: ")) << process.err();
  }
  EXPECT_FALSE(std::filesystem::exists(home.path() / "run"));
}

TEST(Call, SaysItsVersionAndItsUsage) {
  Process version({RUNNER_ECHO, "--version"});
  EXPECT_EQ(version.wait(), 0);
  EXPECT_EQ(version.out(), "adaptivenet-runner " RUNNER_VERSION "\n");
  Process help({RUNNER_ECHO, "--help"});
  EXPECT_EQ(help.wait(), 0);
  EXPECT_NE(help.out().find("--idle SECONDS"), std::string::npos);
}

TEST(Call, TheDaemonHoldsNothingOfItsCaller) {
  Home home;
  const pid_t daemon = home.daemon();  // has waited for the end of all the caller's pipes
  const std::filesystem::path files = "/proc/" + std::to_string(daemon) + "/fd";
  for (const auto& file : std::filesystem::directory_iterator(files)) {
    const std::string target = std::filesystem::read_symlink(file);
    const std::string number = file.path().filename();
    EXPECT_FALSE(target.starts_with("pipe:")) << number << " is " << target;
    if (number == "0") {
      EXPECT_EQ(target, "/dev/null");
    } else if (number == "1" || number == "2") {
      EXPECT_EQ(target, (home.path() / "run" / "log").string());
    }
  }
  EXPECT_EQ(getsid(daemon), daemon) << "and not its session";
}

TEST(Call, ManyAtOnceStartOneDaemon) {
  for (int round = 0; round < 3; ++round) {
    const Home home;
    std::list<Process> calls;
    for (int i = 0; i < 8; ++i) calls.emplace_back(home.command(request_json(i, "tally").dump()));
    std::vector<Json> daemons;
    for (Process& call : calls) {
      EXPECT_EQ(call.wait(), 0) << call.err();
      daemons.push_back(events_in(call.out()).back()["pid"]);
    }
    EXPECT_EQ(daemons, std::vector<Json>(8, daemons[0]));
    EXPECT_EQ(home.file("tally").size(), 8u);
  }
}

TEST(Call, OneJobIsDoneOnceHoweverManyCall) {
  const Home home;
  std::list<Process> calls;
  for (int i = 0; i < 6; ++i) calls.emplace_back(home.command(request_json(1, "tally").dump()));
  for (Process& call : calls) EXPECT_EQ(call.wait(), 0);
  home.ask(request_json(1, "tally"));
  EXPECT_EQ(home.file("tally").size(), 1u);
  for (Process& call : calls) EXPECT_EQ(call.out(), calls.front().out());
}

TEST(Call, GoesOnWhereAKilledOneStopped) {
  const Home home;
  Json request = request_json(1, "count", {{"to", 2000}, {"ms", 1}});
  std::int64_t next = 0;
  for (int comes = 0; comes < 4; ++comes) {
    Process call = home.call(request);
    for (int i = 0; i < 50; ++i) ASSERT_EQ(parse_json(call.line())["event"], next++);
    request["from"] = next;
  }  // the end of `call` kills it
  for (const Json& event : home.ask(request)) ASSERT_EQ(event["event"], next++);
  EXPECT_EQ(next, 2002);
}

TEST(Call, DoesNotGoOnAfterTheDaemonWasLost) {
  Home home;
  Json request = request_json(1, "count", {{"to", 10}});
  home.ask(request);
  kill(home.daemon(), SIGKILL);
  request["from"] = 5;
  const std::vector<Json> events = home.ask(request, 1);
  EXPECT_EQ(events.at(0)["kind"], "DeviceError");
  EXPECT_EQ(events.at(0)["job"], nullptr);
}

TEST(Call, EndsWhenNobodyReadsItsEvents) {
  const Home home;
  Process call = home.call(request_json(1, "count", {{"to", 1}, {"ms", 3600000}}), 1);
  EXPECT_EQ(parse_json(call.line())["type"], "started");
  call.close_output();
  EXPECT_EQ(call.wait(), 3);
  EXPECT_NE(call.err().find("nobody reads"), std::string::npos);
}

TEST(Call, WorksFromARelativeHomeAndThroughALoader) {
  const Home home;
  const std::string request = request_json(1, "tally").dump();
  Process relative({RUNNER_ECHO, "call", "--home", home.path().filename(), request}, home.path().parent_path());
  EXPECT_EQ(relative.wait(), 0) << relative.err();
  const std::vector<Json> events = home.ask(request_json(2, "tally"));
  EXPECT_EQ(events.back()["pid"], events_in(relative.out()).back()["pid"]);

  const std::filesystem::path program = RUNNER_ECHO;
  const std::string loader = "/lib64/ld-linux-x86-64.so.2";
  if (!std::filesystem::exists(loader)) GTEST_SKIP() << "no loader that is known here";
  const Home other;
  Process loaded({loader, "--library-path", ".", "./" + program.filename().string(), "call", "--home",
                  other.path().string(), "--idle", "77", request},
                 program.parent_path());
  EXPECT_EQ(loaded.wait(), 0) << loaded.err();
  const pid_t daemon = events_in(loaded.out()).back()["pid"];
  std::ifstream file("/proc/" + std::to_string(daemon) + "/cmdline");
  std::vector<std::string> command;
  for (std::string argument; std::getline(file, argument, '\0');) command.push_back(argument);
  EXPECT_EQ(command, (std::vector<std::string>{loader, "--library-path", ".", "./" + program.filename().string(),
                                               "serve", "--home", other.path().string(), "--idle", "77"}));
}

TEST(Call, SendsItsRequestToTheNextDaemonWhenOneEndsBeforeItHasReadIt) {
  const Home home;
  RunFolder folder(home.path());
  const std::string name = random_name();
  Fd listener = listen_at(name);
  folder.publish(name);
  Process call = home.call(request_json(1, "tally"));
  pollfd polled = {listener.get(), POLLIN, 0};
  ASSERT_EQ(poll(&polled, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())), 1);
  listener.reset();
  EXPECT_EQ(call.wait(), 0) << call.err();
  EXPECT_EQ(events_in(call.out()).back()["type"], "result");
}

TEST(Call, SaysWhyNoDaemonCanBeStarted) {
  const Home home;
  std::ofstream(home.path() / "run") << "a file";
  Process call = home.call(request_json(1, "tally"));
  EXPECT_EQ(call.wait(), 3);
  EXPECT_EQ(call.out(), "");
  EXPECT_NE(call.err().find((home.path() / "run").string()), std::string::npos) << call.err();

  const Home other;
  std::filesystem::create_directories(other.path() / "run" / "lock");
  Process locked = other.call(request_json(1, "tally"));
  EXPECT_EQ(locked.wait(), 3);
  EXPECT_NE(locked.err().find("status 3"), std::string::npos) << locked.err();
  EXPECT_NE(locked.err().find("run/lock"), std::string::npos) << "what the daemon has printed";
}

TEST(Call, GivesUpWhenADaemonHoldsTheLockButDoesNotAnswer) {
  const Home home;
  RunFolder folder(home.path());
  ASSERT_TRUE(folder.lock());
  std::ofstream(home.path() / "run" / "log") << "what the mute one has said\n";
  Process call = home.call(request_json(1, "tally"));
  EXPECT_EQ(call.wait(), 3);
  EXPECT_NE(call.err().find("within 10 s"), std::string::npos) << call.err();
  EXPECT_NE(call.err().find("what the mute one has said"), std::string::npos) << call.err();
}

}  // namespace
}  // namespace adaptivenet
