// The queue of jobs, the one thread that does them, and the record of their events.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/requests.h"
#include "daemon/verbs.h"

namespace adaptivenet {

// Does a request and returns the fields of its result. May throw anything that is a std::exception.
using Handler = std::function<Json(const Json& request, const Emit& emit, const Cancelled& cancelled)>;

struct Job;
using JobPtr = std::shared_ptr<Job>;

class Jobs {
 public:
  static constexpr std::size_t kKeptJobs = 16;                      // that have ended
  static constexpr std::size_t kKeptBytes = std::size_t{64} << 20;  // of their events, the last job's not counted

  static constexpr std::size_t kJobBytes = std::size_t{64} << 20;  // of the events of one job

  // `changed` is called on the worker's thread after every event and after the end of every job. A job keeps its last
  // events, of at most `job_bytes`, the last one whatever its size.
  Jobs(Handler handler, std::function<void()> changed, std::size_t job_bytes = kJobBytes);
  ~Jobs();  // cancels, and waits for the running job

  // The job with the request's id: the one that is known, else a new one at the end of the queue.
  // Throws ProtocolError when the known job has another request or fewer events than `from`, DeviceError when `from` is
  // not 0 and the job is not known.
  JobPtr submit(Request request);

  struct Events {
    std::string lines;       // events in order, a line each
    std::uint64_t next = 0;  // the number after the last of them
    bool ended = false;      // whether that was the last of the job
  };
  // The events of `job` from number `from` on: as many as fit into `limit` bytes, one at least if there is one. In the
  // place of those that are no longer kept comes one event `lost`, with the number of the last of them.
  Events events(const Job& job, std::uint64_t from, std::size_t limit) const;

  // Tells a job to end, with an error. False when there is none of this id that runs or waits.
  bool cancel(const std::string& id);
  // The same for all jobs. Submit none after this.
  void cancel();

  bool idle() const;  // no job runs or waits

 private:
  void work();
  Json outcome(Job& job);
  void append(Job& job, Json event);
  void end(const JobPtr& job, Json event);

  const Handler handler_;
  const std::function<void()> changed_;
  const std::size_t job_bytes_;

  mutable std::mutex mutex_;  // guards everything below, and all of a Job but its body
  std::condition_variable wake_;
  bool closing_ = false;
  std::map<std::string, JobPtr> known_;
  std::deque<JobPtr> queue_;  // the first one runs, or is about to
  std::deque<JobPtr> kept_;   // those that have ended, the oldest first
  std::size_t kept_bytes_ = 0;
  std::thread worker_;
};

}  // namespace adaptivenet
