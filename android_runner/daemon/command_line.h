// The command line of the runner, whatever its verbs are.
#pragma once

#include <filesystem>
#include <functional>

#include "core/json.h"
#include "daemon/daemon.h"

namespace adaptivenet {

// Does what a request says, with the folder `home`, and returns the fields of its result; throws Error.
using Alone = std::function<Json(const std::filesystem::path& home, const Json& request)>;

// What main() does: `call`, `serve`, `alone`, `--version`, `--help`. Returns the exit status; 2 for a wrong command
// line.
int run_command_line(int argc, char** argv, const MakeHandler& make_handler, const Alone& alone);

}  // namespace adaptivenet
