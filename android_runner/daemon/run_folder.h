// HOME/run: where a daemon and those who call it find each other.
#pragma once

#include <filesystem>
#include <string>

#include "daemon/sockets.h"

namespace adaptivenet {

class RunFolder {
 public:
  // Opens HOME/run, and makes it when it is missing; mode 0700. HOME itself must be there. Throws DeviceError.
  explicit RunFolder(const std::filesystem::path& home);

  const std::filesystem::path& path() const { return path_; }

  // For the daemon. All throw DeviceError.
  bool lock();                            // until this object or process ends; false when another process has it
  void publish(const std::string& name);  // the socket's name. Needs the lock
  void withdraw() noexcept;               // removes what was published
  void restore() noexcept;                // runs, once, the shell script `restore`, which puts back what a host changed
  void log_output();                      // stdout and stderr of this process go to a new `log` from here on

  // For callers.
  std::string socket_name() const;  // what a daemon has published; it may be dead. Empty when there is none
  std::string log_tail() const;     // the last lines of the log; empty when there is none

 private:
  Fd open_file(const char* name, int flags) const;

  std::filesystem::path path_;
  Fd folder_;  // files are opened relative to it: if HOME is replaced, this object still uses the old folder
  Fd lock_;
};

}  // namespace adaptivenet
