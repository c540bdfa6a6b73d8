#include "daemon/run_folder.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "core/error.h"

namespace adaptivenet {
namespace {

constexpr char kLock[] = "lock";
constexpr char kSocket[] = "socket";
constexpr char kNewSocket[] = ".part-socket";
constexpr char kLog[] = "log";
constexpr char kRestore[] = "restore";
constexpr std::size_t kLongestName = 107;  // of a socket
constexpr off_t kTail = 2000;              // bytes of the log that an error quotes

std::string read_from(const Fd& file, off_t offset, std::size_t limit) {
  std::string text(limit, '\0');
  const ssize_t size = file ? pread(file.get(), text.data(), text.size(), offset) : 0;
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  return text;
}

}  // namespace

RunFolder::RunFolder(const std::filesystem::path& home) : path_(home / "run") {
  const Fd parent(open(home.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) throw DeviceError(system_error("open the folder " + home.string()));
  if (mkdirat(parent.get(), "run", 0700) != 0 && errno != EEXIST) {
    throw DeviceError(system_error("make the folder " + path_.string()));
  }
  folder_ = Fd(openat(parent.get(), "run", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status{};
  if (!folder_ || fstat(folder_.get(), &status) != 0) throw DeviceError(system_error("open " + path_.string()));
  if (status.st_uid != geteuid()) throw DeviceError("the folder " + path_.string() + " belongs to another user");
  if ((status.st_mode & 07777) != 0700 && fchmod(folder_.get(), 0700) != 0) {
    throw DeviceError(system_error("make the folder " + path_.string() + " private"));
  }
}

Fd RunFolder::open_file(const char* name, int flags) const {
  return Fd(openat(folder_.get(), name, flags | O_NOFOLLOW | O_CLOEXEC, 0600));
}

bool RunFolder::lock() {
  Fd file = open_file(kLock, O_RDWR | O_CREAT);
  if (!file) throw DeviceError(system_error("open " + (path_ / kLock).string()));
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    throw DeviceError(system_error("lock " + (path_ / kLock).string()));
  }
  lock_ = std::move(file);
  return true;
}

void RunFolder::publish(const std::string& name) {
  const Fd file = open_file(kNewSocket, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file || write(file.get(), name.data(), name.size()) != static_cast<ssize_t>(name.size()) ||
      renameat(folder_.get(), kNewSocket, folder_.get(), kSocket) != 0) {
    throw DeviceError(system_error("write " + (path_ / kSocket).string()));
  }
}

void RunFolder::withdraw() noexcept { unlinkat(folder_.get(), kSocket, 0); }

void RunFolder::restore() noexcept {
  if (faccessat(folder_.get(), kRestore, F_OK, 0) != 0) return;
  std::string shell = "sh";
  std::string script = (path_ / kRestore).string();
  char* command[] = {shell.data(), script.data(), nullptr};
  pid_t process = 0;
  if (posix_spawnp(&process, "sh", nullptr, nullptr, command, environ) != 0) return;
  while (waitpid(process, nullptr, 0) < 0 && errno == EINTR) continue;
  unlinkat(folder_.get(), kRestore, 0);
}

void RunFolder::log_output() {
  std::fflush(nullptr);
  const Fd file = open_file(kLog, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
  if (!file || dup2(file.get(), STDOUT_FILENO) < 0 || dup2(file.get(), STDERR_FILENO) < 0) {
    throw DeviceError(system_error("write " + (path_ / kLog).string()));
  }
}

std::string RunFolder::socket_name() const {
  std::string name = read_from(open_file(kSocket, O_RDONLY | O_NONBLOCK), 0, kLongestName);
  return is_name(name) ? name : "";
}

std::string RunFolder::log_tail() const {
  const Fd file = open_file(kLog, O_RDONLY | O_NONBLOCK);
  struct stat status{};
  if (!file || fstat(file.get(), &status) != 0) return "";
  return read_from(file, std::max<off_t>(status.st_size - kTail, 0), static_cast<std::size_t>(kTail));
}

}  // namespace adaptivenet
