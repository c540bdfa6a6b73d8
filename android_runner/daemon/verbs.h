// What the runner does for a request: the verbs, without sockets and processes.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "core/json.h"

namespace adaptivenet {

// Called with one event, an object with at least "type". See docs/phone.md.
using Emit = std::function<void(Json event)>;

// True once nobody wants the answer any more. Long verbs look at it between two images or rounds.
using Cancelled = std::atomic<bool>;

class Runner {
 public:
  // `home` is the folder with blobs, packs and data. Nothing is opened yet.
  explicit Runner(std::filesystem::path home);
  ~Runner();

  // Does what `request` says and returns the fields of its result. Throws Error. Requests come one at a time, always on
  // the same thread; blocks stay loaded between requests.
  Json handle(const Json& request, const Emit& emit, const Cancelled& cancelled);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace adaptivenet
