// How a caller starts the daemon.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sockets.h"

namespace adaptivenet {

// Runs a command as a daemon: in its own session, without the files that are open here. What the daemon prints before
// it sends its output elsewhere is kept here.
class Starter {
 public:
  // The command's arguments; the program is that of this process.
  explicit Starter(std::vector<std::string> command) : command_(std::move(command)) {}

  void start();  // throws DeviceError

  // Whether a process was started here and has not ended.
  bool runs();

  // The exit status of the last one that ended (128 + the signal when one ended it); 0 before.
  int status() const { return status_; }

  // Waits until the process prints, ends, or sends its output elsewhere, but no longer than `limit`.
  void wait(std::chrono::milliseconds limit);

  const std::string& printed() const { return printed_; }

 private:
  std::vector<std::string> command_;
  pid_t process_ = -1;
  int status_ = 0;
  Fd output_;
  std::string printed_;
};

// The words that started this program, up to argv[0] of its main(). There is more than one when a loader was started
// with the program, as in `./ld-linux-aarch64.so.1 --library-path . ./adaptivenet-runner call`. `argc` is main()'s.
// Throws DeviceError.
std::vector<std::string> command_of_this_program(int argc);

}  // namespace adaptivenet
