#include "daemon/jobs.h"

#include <algorithm>
#include <utility>

#include "daemon/events.h"

namespace adaptivenet {

struct Job {
  std::string id;
  std::string digest;
  Json body;                      // only the worker reads it once the job is queued
  std::deque<std::string> lines;  // text, not Json: a tenth of the memory, and it is read as text only
  std::uint64_t first = 0;        // the number of the first one that is kept
  std::size_t bytes = 0;
  bool ended = false;
  Cancelled cancelled = false;

  std::uint64_t count() const { return first + lines.size(); }

  void add(Json event, std::size_t most_bytes) {
    lines.push_back(event_line(id, count(), std::move(event)));
    bytes += lines.back().size();
    for (; bytes > most_bytes && lines.size() > 1; ++first) {
      bytes -= lines.front().size();
      lines.pop_front();
    }
  }
};

Jobs::Jobs(Handler handler, std::function<void()> changed, std::size_t job_bytes)
    : handler_(std::move(handler)), changed_(std::move(changed)), job_bytes_(job_bytes), worker_([this] { work(); }) {}

Jobs::~Jobs() {
  cancel();
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  worker_.join();
}

JobPtr Jobs::submit(Request request) {
  const std::lock_guard lock(mutex_);
  if (const auto known = known_.find(request.job); known != known_.end()) {
    const Job& job = *known->second;
    if (job.digest != request.digest) throw ProtocolError("job " + job.id + " is another request; choose a new id");
    const std::uint64_t count = job.count();
    if (request.from > count || (job.ended && request.from == count)) {
      throw ProtocolError("job " + job.id + " has " + std::to_string(count) + " events" +
                          (job.ended ? " and has ended" : "") + "; there is none to go on with from " +
                          std::to_string(request.from));
    }
    return known->second;
  }
  // If the job were done again, its events might have other numbers, and the caller would mix those of two runs.
  if (request.from > 0) {
    throw DeviceError("job " + request.job +
                      " is not known: the daemon was started anew, or has forgotten it. Send it again with a new id");
  }

  auto job = std::make_shared<Job>();
  job->id = std::move(request.job);
  job->digest = std::move(request.digest);
  job->body = std::move(request.body);
  if (!queue_.empty()) job->add({{"type", "waiting"}, {"ahead", queue_.size()}}, job_bytes_);
  known_[job->id] = job;
  queue_.push_back(job);
  wake_.notify_one();
  return job;
}

Jobs::Events Jobs::events(const Job& job, std::uint64_t from, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  Events events;
  events.next = std::max(from, job.first);
  if (from < job.first) {
    events.lines = event_line(job.id, job.first - 1, {{"type", "lost"}, {"count", job.first - from}});
  }
  for (; events.next < job.count(); ++events.next) {
    const std::string& line = job.lines[events.next - job.first];
    if (!events.lines.empty() && events.lines.size() + line.size() > limit) return events;
    events.lines += line;
  }
  events.ended = job.ended;
  return events;
}

bool Jobs::cancel(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto known = known_.find(id);
  if (known == known_.end() || known->second->ended) return false;
  known->second->cancelled = true;
  return true;
}

void Jobs::cancel() {
  const std::lock_guard lock(mutex_);
  for (const JobPtr& job : queue_) job->cancelled = true;
}

bool Jobs::idle() const {
  const std::lock_guard lock(mutex_);
  return queue_.empty();
}

void Jobs::work() {
  for (;;) {
    JobPtr job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      job = queue_.front();
    }
    Json event = outcome(*job);
    job->body = nullptr;
    end(job, std::move(event));
  }
}

Json Jobs::outcome(Job& job) {
  try {
    if (job.cancelled) throw DeviceError("cancelled before it began");
    append(job, {{"type", "started"}});
    Json event = handler_(job.body, [&](Json event) { append(job, std::move(event)); }, job.cancelled);
    event["type"] = "result";
    return event;
  } catch (const std::exception& error) {
    return error_event(error);
  }
}

void Jobs::append(Job& job, Json event) {
  {
    const std::lock_guard lock(mutex_);
    job.add(std::move(event), job_bytes_);
  }
  changed_();
}

void Jobs::end(const JobPtr& job, Json event) {
  {
    const std::lock_guard lock(mutex_);
    job->add(std::move(event), job_bytes_);
    job->ended = true;
    queue_.pop_front();
    // The last job is kept whatever its size: its caller may only have lost the connection.
    while (!kept_.empty() && (kept_.size() >= kKeptJobs || kept_bytes_ > kKeptBytes)) {
      kept_bytes_ -= kept_.front()->bytes;
      known_.erase(kept_.front()->id);
      kept_.pop_front();
    }
    kept_.push_back(job);
    kept_bytes_ += job->bytes;
  }
  changed_();
}

}  // namespace adaptivenet
