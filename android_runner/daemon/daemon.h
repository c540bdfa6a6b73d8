// `serve`: the life of a daemon as a process.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>

#include "daemon/jobs.h"

namespace adaptivenet {

// Called once, when it is sure that this process is the daemon.
using MakeHandler = std::function<Handler(const std::filesystem::path& home)>;

// Serves HOME until a request or a signal (SIGTERM, SIGINT, SIGHUP) tells it to stop, or until nobody has called for
// `idle`. When another process serves HOME already, it does nothing. Its output goes to HOME/run/log once it can be
// called. Throws DeviceError when it cannot begin. A job that does not stop when it is cancelled ends with the process.
void serve(const std::filesystem::path& home, std::chrono::seconds idle, const MakeHandler& make_handler);

}  // namespace adaptivenet
