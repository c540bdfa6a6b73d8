#include "android/machine.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>

#include "core/error.h"

namespace adaptivenet {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  while (!line.empty() && (line.back() == '\0' || line.back() == ' ' || line.back() == '\n')) line.pop_back();
  return line;
}

std::optional<long> number(const fs::path& path) {
  const auto line = first_line(path);
  if (!line || line->empty()) return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(line->c_str(), &end, 10);
  return errno != 0 || *end != '\0' ? std::nullopt : std::optional(value);
}

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

fs::path cpu_folder(int cpu) { return "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpufreq"; }

// The value of the first line of a file that begins with `key`, as /proc/cpuinfo and /proc/meminfo write them.
std::optional<std::string> field(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const auto colon = line.find(':');
    const auto begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    if (begin != std::string::npos) return line.substr(begin);
  }
  return std::nullopt;
}

std::string processor() {
  for (const char* key : {"model name", "Hardware", "Model"}) {
    if (const auto found = field("/proc/cpuinfo", key)) return *found;
  }
  utsname system{};
  return uname(&system) == 0 ? system.machine : "unknown";
}

Json memory_mb() {
  const auto megabytes = [](const char* key) -> Json {
    const auto found = field("/proc/meminfo", key);
    return found ? Json(std::strtol(found->c_str(), nullptr, 10) / 1024) : Json();
  };
  return {{"total", megabytes("MemTotal")}, {"available", megabytes("MemAvailable")}};
}

Json temperatures() {
  Json found = Json::object();
  std::error_code ignored;
  for (const auto& zone : fs::directory_iterator("/sys/class/thermal", ignored)) {
    const auto kind = first_line(zone.path() / "type");
    const auto value = number(zone.path() / "temp");
    if (kind && value) found[*kind] = static_cast<double>(*value) / 1000;
  }
  return found;
}

}  // namespace

int core_count() { return static_cast<int>(sysconf(_SC_NPROCESSORS_CONF)); }

Json describe_machine() {
  utsname system{};
  uname(&system);
  Json cores = Json::array();
  for (int cpu = 0; cpu < core_count(); ++cpu) {
    const fs::path folder = cpu_folder(cpu);
    cores.push_back({{"cpu", cpu},
                     {"max_khz", or_null(number(folder / "cpuinfo_max_freq"))},
                     {"khz", or_null(number(folder / "scaling_cur_freq"))},
                     {"governor", or_null(first_line(folder / "scaling_governor"))}});
  }
  return {{"abi", system.machine},    {"os", std::string(system.sysname) + " " + system.release},
          {"processor", processor()}, {"cores", cores},
          {"memory_mb", memory_mb()}, {"temperatures", temperatures()}};
}

std::int64_t available_bytes() {
  const auto kib = field("/proc/meminfo", "MemAvailable");
  return kib ? std::int64_t{1024} * std::strtoll(kib->c_str(), nullptr, 10) : std::int64_t{1} << 30;
}

Json machine_state(const std::vector<int>& cores) {
  Json khz = Json::array();
  for (int cpu = 0; cpu < core_count(); ++cpu) {
    if (cores.empty()) khz.push_back(or_null(number(cpu_folder(cpu) / "scaling_cur_freq")));
  }
  for (const int cpu : cores) khz.push_back(or_null(number(cpu_folder(cpu) / "scaling_cur_freq")));
  return {{"khz", khz}, {"temperatures", temperatures()}};
}

void pin(const std::vector<int>& cores) {
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  for (int cpu = 0; cores.empty() && cpu < core_count() && cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &wanted);
  for (const int cpu : cores) {
    if (cpu < 0 || cpu >= core_count() || cpu >= CPU_SETSIZE) {
      throw DeviceError("there is no core " + std::to_string(cpu) + ": this machine has 0 to " +
                        std::to_string(core_count() - 1));
    }
    CPU_SET(cpu, &wanted);
  }
  if (sched_setaffinity(0, sizeof wanted, &wanted) != 0) {
    throw DeviceError(std::string("cannot run on the cores asked for: ") + std::strerror(errno));
  }
  cpu_set_t given;  // cores that are switched off, or that this process may not use, are missing
  if (!cores.empty() && (sched_getaffinity(0, sizeof given, &given) != 0 || !CPU_EQUAL(&given, &wanted))) {
    throw DeviceError("cannot run on the cores asked for: not all of them are switched on and free to use");
  }
}

}  // namespace adaptivenet
