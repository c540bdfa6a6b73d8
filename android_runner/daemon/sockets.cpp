#include "daemon/sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "core/error.h"

namespace adaptivenet {
namespace {

constexpr char kPrefix[] = "adaptivenet-";
constexpr std::size_t kRandomBytes = 16;
constexpr char kDigits[] = "0123456789abcdef";

struct Address {
  explicit Address(const std::string& name) {
    // sun_path begins with a NUL: that is the abstract namespace. The name's end is given by the length.
    raw.sun_family = AF_UNIX;
    const std::size_t size = std::min(name.size(), sizeof raw.sun_path - 1);
    std::memcpy(raw.sun_path + 1, name.data(), size);
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + size);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&raw); }

  sockaddr_un raw{};
  socklen_t length = 0;
};

bool same_user(const Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

}  // namespace

void Fd::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

std::string system_error(const std::string& what) { return "cannot " + what + ": " + std::strerror(errno); }

Fd listen_at(const std::string& name) {
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const Address address(name);
  if (!listener || bind(listener.get(), address.get(), address.length) != 0 || listen(listener.get(), 64) != 0) {
    throw DeviceError(system_error("listen at @" + name));
  }
  return listener;
}

Fd accept_from(const Fd& listener) {
  Fd client(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (client && !same_user(client)) client.reset();
  return client;
}

Fd connect_to(const std::string& name) {
  Fd server(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const Address address(name);
  if (!server || connect(server.get(), address.get(), address.length) != 0) return {};
  // After a daemon was killed, any user can listen at its name.
  if (!same_user(server)) return {};
  const int flags = fcntl(server.get(), F_GETFL);
  if (flags < 0 || fcntl(server.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) return {};
  return server;
}

std::string random_name() {
  const Fd source(open("/dev/urandom", O_RDONLY | O_CLOEXEC));  // getrandom() is not in Android before 9
  std::array<unsigned char, kRandomBytes> bytes;
  if (!source || read(source.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    throw DeviceError(system_error("read /dev/urandom"));
  }
  std::string name = kPrefix;
  for (const unsigned char byte : bytes) {
    name += kDigits[byte >> 4];
    name += kDigits[byte & 15];
  }
  return name;
}

bool is_name(const std::string& text) {
  const std::size_t prefix = sizeof kPrefix - 1;
  return text.size() == prefix + 2 * kRandomBytes && text.starts_with(kPrefix) &&
         text.find_first_not_of(kDigits, prefix) == std::string::npos;
}

}  // namespace adaptivenet
