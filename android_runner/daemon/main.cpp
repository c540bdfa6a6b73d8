// adaptivenet-runner: see docs/phone.md.
#include <memory>

#include "daemon/command_line.h"
#include "daemon/costs.h"
#include "daemon/verbs.h"

int main(int argc, char** argv) {
  using namespace adaptivenet;
  const auto make_handler = [](const std::filesystem::path& home) -> Handler {
    const auto runner = std::make_shared<Runner>(home);
    return [runner](const Json& request, const Emit& emit, const Cancelled& cancelled) {
      return runner->handle(request, emit, cancelled);
    };
  };
  return run_command_line(argc, argv, make_handler, measure_costs);
}
