// What can be read and set of the machine that the runner is on.
#pragma once

#include <cstdint>
#include <vector>

#include "core/json.h"

namespace adaptivenet {

// The fields of `info` that do not depend on the runner: see docs/phone.md. What cannot be read is null or left out.
Json describe_machine();

int core_count();  // of this machine, those that are switched off counted

// The bytes that may be used before memory runs short; 1 GiB where the system does not tell.
std::int64_t available_bytes();

// Now: {"khz": for each of `cores` (all when empty), "temperatures": by thermal zone}.
Json machine_state(const std::vector<int>& cores);

// Keeps this thread, and those it starts from now on, on `cores`; on any core when empty. Throws DeviceError.
void pin(const std::vector<int>& cores);

}  // namespace adaptivenet
