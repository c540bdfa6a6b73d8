// The daemon: takes requests at a socket, has their jobs done, and answers with the events.
#pragma once

#include <chrono>
#include <list>

#include "daemon/connection.h"
#include "daemon/jobs.h"
#include "daemon/run_folder.h"
#include "daemon/sockets.h"

namespace adaptivenet {

struct Limits {
  // After so long without a client the daemon ends. A client that has to take or send something and does not for so
  // long is disconnected.
  std::chrono::milliseconds idle = std::chrono::seconds(300);
  // When the daemon ends: how long a cancelled job may go on, and clients may take to read what is left. It must be
  // shorter than kPatience in client.cpp, for which a caller waits for a new daemon.
  std::chrono::milliseconds grace = std::chrono::seconds(5);
  std::size_t job_bytes = Jobs::kJobBytes;  // of the events that are kept of one job, while it runs and afterwards
};

// One thread does everything but the jobs, and never waits for one client: a slow client delays neither others nor
// jobs.
class Server {
 public:
  // Listens, and publishes the socket in `folder`, whose lock must be held. Ends when `stop`, a file descriptor,
  // becomes readable. Throws DeviceError.
  Server(RunFolder& folder, Handler handler, Limits limits, int stop);
  ~Server();

  // Serves until the end. Returns false when a job did not end in time: then only the end of the process ends it.
  bool run();

 private:
  bool ending() const { return end_by_ != Clock::time_point::max(); }
  void begin_to_end(const char* reason);
  void wait();
  int milliseconds_to_wait() const;
  void take_clients();
  void take_request(Connection& client);
  void send_to_clients();

  RunFolder& folder_;
  const Limits limits_;
  const int stop_;
  const Fd changed_;  // an eventfd: a job has changed
  Fd listener_;
  Jobs jobs_;
  std::list<Connection> clients_;
  Clock::time_point now_;
  Clock::time_point quiet_since_;  // when the last client went
  Clock::time_point end_by_ = Clock::time_point::max();
};

}  // namespace adaptivenet
