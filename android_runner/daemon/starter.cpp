#include "daemon/starter.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "core/error.h"

namespace adaptivenet {
namespace {

// A shell over adb does not return while any process has its pipes open, under whatever number.
void close_all_but_standard() {
  std::vector<int> open;
  if (DIR* folder = opendir("/proc/self/fd")) {
    while (const dirent* entry = readdir(folder)) {
      const int fd = std::atoi(entry->d_name);
      if (fd > STDERR_FILENO && fd != dirfd(folder)) open.push_back(fd);
    }
    closedir(folder);
  }
  for (const int fd : open) close(fd);
}

[[noreturn]] void become(const std::vector<std::string>& command, int output) {
  setsid();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);

  const int null = open("/dev/null", O_RDWR);
  if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0) {
    _exit(126);
  }
  close_all_but_standard();

  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execv("/proc/self/exe",
        arguments.data());  // not by its name, which may be relative, or belong to another file by now
  std::perror("cannot run the program again");
  _exit(127);
}

}  // namespace

void Starter::start() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw DeviceError(system_error("make a pipe"));
  output_ = Fd(ends[0]);
  const Fd write_end(ends[1]);
  process_ = fork();
  if (process_ == 0) become(command_, write_end.get());
  if (process_ < 0) throw DeviceError(system_error("start a process"));
}

bool Starter::runs() {
  int status = 0;
  if (process_ < 0) return false;
  if (waitpid(process_, &status, WNOHANG) == 0) return true;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  process_ = -1;
  return false;
}

void Starter::wait(std::chrono::milliseconds limit) {
  if (!output_) return std::this_thread::sleep_for(limit);
  pollfd polled = {output_.get(), POLLIN, 0};
  if (poll(&polled, 1, static_cast<int>(limit.count())) <= 0) return;
  char chunk[4096];
  const ssize_t size = read(output_.get(), chunk, sizeof chunk);
  if (size > 0) {
    printed_.append(chunk, static_cast<std::size_t>(size));
  } else {
    output_.reset();
  }
}

std::vector<std::string> command_of_this_program(int argc) {
  std::vector<std::string> all;
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  for (std::string argument; std::getline(file, argument, '\0');) all.push_back(argument);
  const auto count = static_cast<std::size_t>(argc);
  if (argc < 1 || all.size() < count) throw DeviceError("/proc/self/cmdline does not say how this program was run");
  all.resize(all.size() - count + 1);
  return all;
}

}  // namespace adaptivenet
