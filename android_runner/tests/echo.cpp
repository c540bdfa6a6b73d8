#include "echo.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <thread>

#include "core/crash_note.h"

namespace adaptivenet {
namespace {

void pause(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

Json count(const Json& request, const Emit& emit, const Cancelled& cancelled) {
  const int to = request.at("to");
  const int ms = request.value("ms", 0);
  for (int done = 1; done <= to; ++done) {
    if (cancelled) throw DeviceError("cancelled");
    pause(ms);
    emit({{"type", "progress"}, {"done", done}, {"total", to}});
  }
  return {{"counted", to}};
}

Json pour(const Json& request, const Emit& emit, const Cancelled& cancelled) {
  const std::string text(request.at("bytes").get<std::size_t>(), 'x');
  for (int i = request.at("to"); i > 0 && !cancelled; --i) emit({{"type", "progress"}, {"text", text}});
  return Json::object();
}

[[noreturn]] void fail(const std::string& kind) {
  if (kind == "PlanError") throw PlanError("no such plan");
  if (kind == "DeviceError") throw DeviceError("no such core");
  throw std::out_of_range("not an error of ours");
}

}  // namespace

Handler echo_handler(const std::filesystem::path& home) {
  return [home](const Json& request, const Emit& emit, const Cancelled& cancelled) -> Json {
    const std::string verb = request.at("verb");
    if (verb == "count") return count(request, emit, cancelled);
    if (verb == "pour") return pour(request, emit, cancelled);
    if (verb == "size") return {{"size", request.at("text").get<std::string>().size()}};
    if (verb == "tally") {
      std::ofstream(home / "tally", std::ios::app) << '|';
      return {{"pid", getpid()}};
    }
    if (verb == "fail") fail(request.at("kind"));
    if (verb == "stubborn") {
      for (;;) pause(1000);
    }
    if (verb == "segfault") {
      const CrashNote note("block 'x'", "loaded");
      raise(SIGSEGV);
    }
    if (verb == "crash") {
      std::fprintf(stderr, "the engine has lost its head\n");
      _exit(9);
    }
    throw ProtocolError("there is no verb '" + verb + "'");
  };
}

}  // namespace adaptivenet
