#include "daemon/jobs.h"

#include <utility>

#include "daemon/events.h"

namespace adaptivenet {

struct Job {
  std::string id;
  std::string digest;
  Json body;                      // only the worker reads it once the job is queued
  std::deque<std::string> lines;  // text, not Json: a tenth of the memory, and it is read as text only
  std::size_t bytes = 0;
  bool ended = false;
  Cancelled cancelled = false;

  void add(Json event) {
    lines.push_back(event_line(id, lines.size(), std::move(event)));
    bytes += lines.back().size();
  }
};

Jobs::Jobs(Handler handler, std::function<void()> changed)
    : handler_(std::move(handler)), changed_(std::move(changed)), worker_([this] { work(); }) {}

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
    const std::size_t count = job.lines.size();
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
  if (!queue_.empty()) job->add({{"type", "waiting"}, {"ahead", queue_.size()}});
  known_[job->id] = job;
  queue_.push_back(job);
  wake_.notify_one();
  return job;
}

Jobs::Events Jobs::events(const Job& job, std::uint64_t from, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  Events events;
  for (events.next = from; events.next < job.lines.size(); ++events.next) {
    const std::string& line = job.lines[events.next];
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
    job.add(std::move(event));
  }
  changed_();
}

void Jobs::end(const JobPtr& job, Json event) {
  {
    const std::lock_guard lock(mutex_);
    job->add(std::move(event));
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
