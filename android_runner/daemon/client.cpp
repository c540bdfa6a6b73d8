#include "daemon/client.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "daemon/run_folder.h"
#include "daemon/sockets.h"
#include "daemon/starter.h"

namespace adaptivenet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(10);  // for a daemon to be there
constexpr auto kPause = std::chrono::milliseconds(50);
constexpr char kNoReader[] = "nobody reads the events";

std::string quoted(const char* what, const std::string& text) {
  return text.empty() ? "" : std::string("; ") + what + ":\n" + text;
}

std::string known_of(const Starter& starter, const RunFolder& folder) {
  return quoted("it printed", starter.printed()) +
         quoted(("the end of " + (folder.path() / "log").string()).c_str(), folder.log_tail());
}

// A connection to the daemon, which is started when none runs. Several callers may do this at once: each starts a
// daemon, and only the one that gets the lock stays.
Fd reach(const RunFolder& folder, Starter& starter, Clock::time_point until) {
  for (;;) {
    if (const std::string name = folder.socket_name(); !name.empty()) {
      if (Fd daemon = connect_to(name)) return daemon;
    }
    if (Clock::now() >= until) {
      throw DeviceError("no daemon has answered within " + std::to_string(kPatience.count()) + " s" +
                        known_of(starter, folder));
    }
    if (!starter.runs()) {
      if (starter.status() != 0) {
        throw DeviceError("the daemon cannot be started, it ended with status " + std::to_string(starter.status()) +
                          known_of(starter, folder));
      }
      // None was started here yet, or the one that was started found the lock taken: by a daemon that has just begun,
      // or by one that is about to end.
      starter.start();
    }
    starter.wait(kPause);
  }
}

[[noreturn]] void refuse_to_wait(const char* does_not, std::chrono::milliseconds hangs) {
  throw DeviceError("the daemon has not " + std::string(does_not) + " for " + std::to_string(hangs.count()) +
                    " ms: it hangs, or was stopped");
}

// When nobody reads what is printed here, the call ends: the daemon must not count it as a client.
void require_reader(const pollfd& printed) {
  if (printed.revents & (POLLERR | POLLHUP)) throw DeviceError(kNoReader);
}

// False when the daemon has closed the connection. It may read slowly, but not nothing for so long.
bool send_line(const Fd& daemon, std::string_view line, std::chrono::milliseconds hangs) {
  while (!line.empty()) {
    const ssize_t size = send(daemon.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size >= 0) {
      line.remove_prefix(static_cast<std::size_t>(size));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
    pollfd polled[] = {{daemon.get(), POLLOUT, 0}, {STDOUT_FILENO, 0, 0}};
    const int found = poll(polled, 2, static_cast<int>(hangs.count()));
    if (found == 0) refuse_to_wait("taken the request", hangs);
    if (found > 0) require_reader(polled[1]);
  }
  return true;
}

bool print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t size = write(STDOUT_FILENO, text.data(), text.size());
    if (size >= 0) {
      text.remove_prefix(static_cast<std::size_t>(size));
    } else if (errno == EAGAIN) {  // another process that shares this stdout may have made it non-blocking
      pollfd polled = {STDOUT_FILENO, POLLOUT, 0};
      poll(&polled, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

// The exit status after the last event of an answer; nothing when it is not the last.
std::optional<int> status_after(const std::string& event) {
  try {
    const Json type = parse_json(event).at("type");
    if (type == "result") return 0;
    if (type == "error") return 1;
  } catch (const std::exception&) {
    // No event at all, or no runner.
  }
  return std::nullopt;
}

struct Answer {
  std::string last_event;
  bool broken = false;  // whether the connection broke before the request was read or the whole answer was sent
};

Answer converse(const Fd& daemon, std::string_view request, std::chrono::milliseconds hangs) {
  Answer answer;
  answer.broken = !send_line(daemon, request, hangs);  // even then there may be an answer: that the request is too long
  std::string text;
  for (;;) {
    pollfd polled[] = {{daemon.get(), POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
    const bool heard = !answer.last_event.empty() || !text.empty();
    const int found = poll(polled, 2, heard ? -1 : static_cast<int>(hangs.count()));
    if (found < 0) continue;
    if (found == 0) refuse_to_wait("answered", hangs);
    require_reader(polled[1]);
    if (polled[0].revents == 0) continue;

    char chunk[65536];
    const ssize_t size = recv(daemon.get(), chunk, sizeof chunk, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) answer.broken = true;
    if (size <= 0) return answer;
    text.append(chunk, static_cast<std::size_t>(size));
    const std::size_t in_chunk = std::string_view(chunk, static_cast<std::size_t>(size)).rfind('\n');
    if (in_chunk == std::string_view::npos) continue;
    const std::size_t end = text.size() - static_cast<std::size_t>(size) + in_chunk;
    if (!print(std::string_view(text).substr(0, end + 1))) throw DeviceError(kNoReader);
    const std::size_t before = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
    const std::size_t begin = before == std::string::npos ? 0 : before + 1;
    answer.last_event = text.substr(begin, end - begin);
    text.erase(0, end + 1);
  }
}

}  // namespace

int call(const Call& what) {
  const RunFolder folder(what.home);
  Starter starter(what.serve);
  const auto until = Clock::now() + kPatience;
  for (;;) {
    const Fd daemon = reach(folder, starter, until);
    const Answer answer = converse(daemon, what.request, what.hangs);
    if (answer.broken && answer.last_event.empty()) continue;  // that daemon has not read the request
    if (const std::optional<int> status = status_after(answer.last_event)) return *status;
    throw DeviceError("the daemon ended without an answer" + known_of(starter, folder));
  }
}

}  // namespace adaptivenet
