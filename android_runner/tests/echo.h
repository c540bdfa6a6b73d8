// Verbs for the tests of jobs, server and daemon, which need no pack and no engine.
#pragma once

#include <filesystem>

#include "daemon/jobs.h"

namespace adaptivenet {

// count {to, ms}    an event `progress` every `ms` milliseconds, `to` times; ends early when cancelled
// pour {to, bytes}  `to` events of so many bytes
// size {text}       result: the length of `text`
// tally             adds a byte to HOME/tally; result: the process
// fail {kind}       PlanError, DeviceError, or a std::exception
// stubborn          never ends
// crash             ends the process, after a line in its log
Handler echo_handler(const std::filesystem::path& home);

}  // namespace adaptivenet
