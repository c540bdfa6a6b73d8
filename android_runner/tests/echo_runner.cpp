// The runner's command line and daemon, with the verbs of echo.h.
#include "daemon/command_line.h"
#include "echo.h"

int main(int argc, char** argv) { return adaptivenet::run_command_line(argc, argv, adaptivenet::echo_handler); }
