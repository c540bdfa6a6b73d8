// File descriptors that close themselves, and the sockets between `call` and `serve`.
#pragma once

#include <string>
#include <utility>

namespace adaptivenet {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { reset(); }

  void reset();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// What errno says about the call that just failed: "cannot open run/lock: Permission denied".
std::string system_error(const std::string& what);

// A listening, non-blocking socket `name` in Linux's abstract namespace, which ends with the process and leaves no
// file. Throws DeviceError.
Fd listen_at(const std::string& name);

// The next client of `listener`, non-blocking; empty when there is none, or when it belongs to another user.
Fd accept_from(const Fd& listener);

// A blocking connection to `name`; empty when nobody of this user listens there or the queue is full.
Fd connect_to(const std::string& name);

// A name that nobody can guess.
std::string random_name();
bool is_name(const std::string& text);  // whether random_name() may have made it

}  // namespace adaptivenet
