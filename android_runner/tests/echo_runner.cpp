// The runner's command line and daemon, with the verbs of echo.h.
#include "core/error.h"
#include "daemon/command_line.h"
#include "echo.h"

int main(int argc, char** argv) {
  using namespace adaptivenet;
  return run_command_line(argc, argv, echo_handler, [](const std::filesystem::path& home, const Json& request) -> Json {
    if (request["verb"] != "where") throw DeviceError("there is only 'where'");
    return {{"home", home.string()}};
  });
}
