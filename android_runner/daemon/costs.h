// What a subnet takes besides time, measured in a process of its own: the verbs of `adaptivenet-runner alone`.
#pragma once

#include <filesystem>

#include "core/json.h"

namespace adaptivenet {

// Does what `request` says, with the pack in `home`, and returns the fields of its result. To be called once in a
// process in which nothing was loaded yet. Throws Error.
Json measure_costs(const std::filesystem::path& home, const Json& request);

}  // namespace adaptivenet
