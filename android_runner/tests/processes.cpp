#include "processes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

namespace adaptivenet {
namespace {

struct Pipe {
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    read = Fd(ends[0]);
    write = Fd(ends[1]);
  }
  Fd read;
  Fd write;
};

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int status_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

Process::Process(const std::vector<std::string>& command, const std::filesystem::path& folder) {
  Pipe out;
  Pipe err;
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  id_ = fork();
  if (id_ == 0) {
    dup2(out.write.get(), STDOUT_FILENO);
    dup2(err.write.get(), STDERR_FILENO);
    const int another = dup(err.write.get());  // a second number for the pipe, which a daemon must close as well
    if (another > 0 && chdir(folder.c_str()) == 0) execv(arguments[0], arguments.data());
    _exit(127);
  }
  out_ = std::move(out.read);
  err_ = std::move(err.read);
}

Process::~Process() {
  if (id_ < 0) return;
  kill(id_, SIGKILL);
  waitpid(id_, nullptr, 0);
}

bool Process::read_some() {
  pollfd polled[] = {{out_.get(), POLLIN, 0}, {err_.get(), POLLIN, 0}};
  if (poll(polled, 2, static_cast<int>(std::chrono::milliseconds(kPatience).count())) <= 0) {
    ADD_FAILURE() << "neither output nor its end; so far: " << printed_ << errors_;
    return false;
  }
  char chunk[65536];
  for (int i = 0; i < 2; ++i) {
    if (polled[i].revents == 0) continue;
    Fd& pipe = i == 0 ? out_ : err_;
    const ssize_t size = read(pipe.get(), chunk, sizeof chunk);
    if (size <= 0) {
      pipe.reset();
    } else {
      (i == 0 ? printed_ : errors_).append(chunk, static_cast<std::size_t>(size));
    }
  }
  return true;
}

std::string Process::line() {
  std::size_t end;
  while ((end = printed_.find('\n', line_begin_)) == std::string::npos) {
    if (!out_ || !read_some()) return "";
  }
  const std::string line = printed_.substr(line_begin_, end - line_begin_);
  line_begin_ = end + 1;
  return line;
}

int Process::wait() {
  while ((out_ || err_) && read_some()) continue;
  int status = 0;
  if (waitpid(id_, &status, 0) != id_) return -1;
  id_ = -1;
  return status_of(status);
}

Home::Home() : path_(std::filesystem::canonical(folder_.path()) / "a home") {
  std::filesystem::create_directory(path_);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Home::~Home() {
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    const pid_t id = std::atoi(process.path().filename().c_str());
    if (id == 0 || content(process.path() / "cmdline").find(path()) == std::string::npos) continue;
    kill(id, SIGKILL);
    waitpid(id, nullptr, 0);
  }
}

std::vector<std::string> Home::command(const std::string& request, int idle) const {
  return {RUNNER_ECHO, "call", "--home", path().string(), "--idle", std::to_string(idle), request};
}

std::vector<Json> Home::ask(const Json& request, int status, int idle) const {
  Process call = this->call(request, idle);
  EXPECT_EQ(call.wait(), status) << call.out() << call.err();
  return events_in(call.out());
}

pid_t Home::daemon(int idle) { return ask(request_json(next_++, "tally"), 0, idle).back()["pid"]; }

std::string Home::file(const char* name) const { return content(path() / name); }

int wait_for_end(pid_t daemon) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  int status = 0;
  while (waitpid(daemon, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > until) {
      ADD_FAILURE() << "process " << daemon << " does not end";
      return -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return status_of(status);
}

bool socket_exists(const std::string& name) { return content("/proc/net/unix").find("@" + name) != std::string::npos; }

std::vector<Json> events_in(const std::string& lines) {
  std::vector<Json> events;
  std::istringstream text(lines);
  for (std::string line; std::getline(text, line);) events.push_back(parse_json(line));
  return events;
}

}  // namespace adaptivenet
