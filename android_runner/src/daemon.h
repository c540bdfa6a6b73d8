// `serve`: the life of a daemon as a process.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>

#include "jobs.h"

namespace adaptivenet {

// Called once, when it is sure that this process is the daemon.
using MakeHandler = std::function<Handler(const std::filesystem::path& home)>;

// Serves HOME until it is told to stop, by a request or a signal (SIGTERM, SIGINT, SIGHUP), or nobody has called for so
// long; or does nothing when another process serves it. Its output goes to HOME/run/log once it can be called.
// Throws DeviceError when it cannot begin. A job that does not let itself be cancelled is ended with the process.
void serve(const std::filesystem::path& home, std::chrono::seconds idle, const MakeHandler& make_handler);

}  // namespace adaptivenet
