#include "daemon/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace adaptivenet {
namespace {

constexpr std::size_t kChunk = std::size_t{64} << 10;
constexpr int kChunksAtOnce = 32;  // so much of a request is read before the other clients have their turn

bool later(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

short Connection::wants() const {
  if (reading_) return POLLIN;
  return out_.empty() ? 0 : POLLOUT;  // poll() always says when the client is gone
}

Clock::time_point Connection::quiet_since(Clock::time_point now) const {
  return reading_ || !out_.empty() ? moved_ : now;
}

bool Connection::too_long() const { return in_.size() > kLongestRequest; }

bool Connection::read(Clock::time_point now) {
  char chunk[kChunk];
  for (int i = 0; i < kChunksAtOnce && reading_ && !gone_; ++i) {
    const ssize_t size = recv(socket_.get(), chunk, sizeof chunk, MSG_DONTWAIT);
    if (size < 0) {
      gone_ = !later(errno);
      break;
    }
    moved_ = now;
    const char* end = std::find(chunk, chunk + size, '\n');
    in_.append(chunk, static_cast<std::size_t>(end - chunk));
    if (size == 0 && in_.empty()) gone_ = true;
    if (size == 0 || end != chunk + size || too_long()) reading_ = false;
  }
  return !reading_ && !gone_;
}

void Connection::hold() {
  in_ = {};
  held_ = true;
}

void Connection::answer(std::string line) {
  in_ = {};
  held_ = false;
  out_ = std::move(line);
  last_ = true;
}

void Connection::follow(JobPtr job, std::uint64_t from) {
  in_ = {};
  job_ = std::move(job);
  next_ = from;
}

bool Connection::send(const Jobs& jobs, Clock::time_point now) {
  while (!gone_) {
    if (out_.empty() && job_ && !last_) {
      Jobs::Events events = jobs.events(*job_, next_, kChunk);
      out_ = std::move(events.lines);
      next_ = events.next;
      last_ = events.ended;
      moved_ = now;
    }
    if (out_.empty()) return !last_;
    const ssize_t size = ::send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0) {
      gone_ = !later(errno);
      break;
    }
    moved_ = now;
    sent_ += static_cast<std::size_t>(size);
    if (sent_ == out_.size()) {
      out_.clear();
      sent_ = 0;
    }
  }
  return !gone_;
}

}  // namespace adaptivenet
