// The command line of the runner, whatever its verbs are.
#pragma once

#include "daemon/daemon.h"

namespace adaptivenet {

// What main() does: `call`, `serve`, `--version`, `--help`. Returns the exit status; 2 for a wrong command line.
int run_command_line(int argc, char** argv, const MakeHandler& make_handler);

}  // namespace adaptivenet
