#include "daemon/command_line.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string_view>

#include "core/files.h"
#include "core/version.h"
#include "daemon/client.h"
#include "daemon/events.h"
#include "daemon/requests.h"
#include "daemon/starter.h"

namespace adaptivenet {
namespace {

constexpr char kHelp[] =
    "adaptivenet-runner " RUNNER_VERSION
    ": measures and runs the blocks of a pack.\n"
    "\n"
    "  adaptivenet-runner call --home HOME [--idle SECONDS] REQUEST\n"
    "      Sends one request to the daemon of the folder HOME, and starts the daemon first when none runs. REQUEST is\n"
    "      a JSON object, or @ and the path of a file that holds one. The answer is a list of events, each a line of\n"
    "      JSON. Exit status: 0 after a result, 1 after an error, 3 without an answer.\n"
    "\n"
    "  adaptivenet-runner serve --home HOME [--idle SECONDS]\n"
    "      The daemon itself. Ends after so many seconds (300) without a client.\n"
    "\n"
    "  adaptivenet-runner alone --home HOME REQUEST\n"
    "      Does one request in this process, without the daemon, and answers as `call` does.\n"
    "\n"
    "  adaptivenet-runner --version\n"
    "  adaptivenet-runner --help\n"
    "\n"
    "The requests and events are listed in docs/phone.md.\n";

constexpr int kLongestIdle = 7 * 24 * 3600;  // seconds

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::filesystem::path home;
  int idle = 300;
  std::vector<std::string> operands;
};

int seconds_of(const std::string& text) {
  int seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || seconds < 1 || seconds > kLongestIdle) {
    throw UsageError("--idle takes 1 to " + std::to_string(kLongestIdle) + " seconds, not '" + text + "'");
  }
  return seconds;
}

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--home" || argument == "--idle") {
      if (++i == arguments.size()) throw UsageError(argument + " needs a value");
      if (argument == "--home") {
        options.home = arguments[i];
      } else {
        options.idle = seconds_of(arguments[i]);
      }
    } else if (argument.starts_with("-")) {
      throw UsageError("there is no option '" + argument + "'");
    } else {
      options.operands.push_back(argument);
    }
  }
  if (options.home.empty()) throw UsageError("--home HOME is missing");
  std::error_code error;
  options.home = std::filesystem::canonical(options.home, error);
  if (error) throw UsageError("there is no folder HOME: " + error.message());
  return options;
}

// The request as one line.
std::string request_line(const std::string& operand) {
  std::string text;
  try {
    text = operand.starts_with("@") ? read_text(operand.substr(1), kLongestRequest) : operand;
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());
  }
  // In JSON a carriage return counts as a line break does: it is a space between tokens, and not allowed in a string.
  std::replace(text.begin(), text.end(), '\n', '\r');
  return text + '\n';
}

// A file that is opened later must not get the number of a standard stream that the caller has closed.
void open_standard_streams() {
  int fd = 0;
  while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDWR);
  if (fd >= 0) close(fd);
}

int answer_alone(const std::filesystem::path& home, const std::string& line, const Alone& alone) {
  std::string job;
  Json event;
  try {
    const Request request = read_request(line);
    job = request.job;
    if (request.kind != Request::Kind::kJob)
      throw ProtocolError("there is no daemon here to stop, nor a job to cancel");
    event = alone(home, request.body);
    event["type"] = "result";
  } catch (const std::exception& error) {
    event = error_event(error);
  }
  std::fputs(event_line(job, 0, event).c_str(), stdout);
  return event["type"] == "result" ? 0 : 1;
}

int run(int argc, const std::vector<std::string>& arguments, const MakeHandler& make_handler, const Alone& alone) {
  const std::string verb = arguments.empty() ? "" : arguments[0];
  if (verb == "--help" || verb == "--version") {
    std::fputs(verb == "--help" ? kHelp : "adaptivenet-runner " RUNNER_VERSION "\n", stdout);
    return 0;
  }
  if (verb != "call" && verb != "serve" && verb != "alone") throw UsageError("call, serve or alone is missing");

  const Options options = parse({arguments.begin() + 1, arguments.end()});
  if (options.operands.size() != (verb == "serve" ? 0 : 1)) {
    throw UsageError(verb + (verb == "serve" ? " takes no REQUEST" : " takes one REQUEST"));
  }
  if (verb == "alone") return answer_alone(options.home, request_line(options.operands[0]), alone);
  if (verb == "serve") {
    serve(options.home, std::chrono::seconds(options.idle), make_handler);
    return 0;
  }
  std::vector<std::string> daemon = command_of_this_program(argc);
  daemon.insert(daemon.end(), {"serve", "--home", options.home.string(), "--idle", std::to_string(options.idle)});
  return call({options.home, request_line(options.operands[0]), std::move(daemon)});
}

}  // namespace

int run_command_line(int argc, char** argv, const MakeHandler& make_handler, const Alone& alone) {
  open_standard_streams();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, {argv + std::min(argc, 1), argv + argc}, make_handler, alone);
  } catch (const UsageError& error) {
    std::fprintf(stderr, "adaptivenet-runner: %s. Try --help.\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "adaptivenet-runner: %s\n", error.what());
    return 3;
  }
}

}  // namespace adaptivenet
