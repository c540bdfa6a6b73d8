// The daemon: takes requests at a socket, has their jobs done, and answers with the events.
#pragma once

#include <chrono>
#include <list>

#include "connection.h"
#include "jobs.h"
#include "run_folder.h"
#include "sockets.h"

namespace adaptivenet {

struct Limits {
  // After so long without a client the daemon ends. A client that takes or sends nothing for so long, though it has to,
  // does not count as one and is sent away.
  std::chrono::milliseconds idle = std::chrono::seconds(300);
  // How long a cancelled job may go on, and clients may take to read what is left. Shorter than a caller waits for a
  // new daemon (kPatience in client.cpp).
  std::chrono::milliseconds grace = std::chrono::seconds(5);
};

// One thread does everything but the jobs, and waits for nobody: a slow client holds up neither the others nor a job.
class Server {
 public:
  // Listens, and publishes the socket in `folder`, whose lock must be held. Ends when `stop`, a file descriptor,
  // becomes readable. Throws DeviceError.
  Server(RunFolder& folder, Handler handler, Limits limits, int stop);
  ~Server();

  // To the end. False when a job did not end in time: then only the end of the process ends it.
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
