// One client of the daemon: first its request is read, then the events of its job are sent. Never blocks.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "daemon/jobs.h"
#include "daemon/sockets.h"

namespace adaptivenet {

using Clock = std::chrono::steady_clock;

class Connection {
 public:
  Connection(Fd socket, Clock::time_point now) : socket_(std::move(socket)), moved_(now) {}

  int fd() const { return socket_.get(); }
  bool reading() const { return reading_; }
  short wants() const;  // what to poll for

  // When the last byte came from the client or went to it, while the client has to send or take something; else `now`.
  Clock::time_point quiet_since(Clock::time_point now) const;

  // Takes what has come. True when the request is whole.
  bool read(Clock::time_point now);
  const std::string& request() const { return in_; }
  bool too_long() const;  // whether the request reached the longest that is allowed

  // What to send, once the request is whole: nothing yet, one line, or the events of a job.
  void hold();
  bool held() const { return held_; }
  void answer(std::string line);
  void follow(JobPtr job, std::uint64_t from);

  // Sends what there is. False when all is done or the client is gone.
  bool send(const Jobs& jobs, Clock::time_point now);

 private:
  Fd socket_;
  Clock::time_point moved_;
  bool reading_ = true;
  bool gone_ = false;
  std::string in_;
  bool held_ = false;
  bool last_ = false;  // nothing comes after `out_`
  std::string out_;
  std::size_t sent_ = 0;  // bytes of `out_`
  JobPtr job_;
  std::uint64_t next_ = 0;  // event of job_
};

}  // namespace adaptivenet
