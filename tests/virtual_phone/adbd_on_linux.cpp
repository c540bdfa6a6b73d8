// What adbd finds on Android and not on Linux: properties, and the socket to the program that shows its dialog.
//
// Without a property service, Android's base library keeps properties in the process. They are set here before main()
// runs, from the environment variable ADBD_PROPERTIES: one NAME=VALUE on each line.
#include <cstdlib>
#include <sstream>
#include <string>

#include <android-base/properties.h>

namespace {

__attribute__((constructor)) void SetProperties() {
  const char* given = getenv("ADBD_PROPERTIES");
  std::istringstream lines(given != nullptr ? given : "");
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find('=');
    if (equals != std::string::npos) {
      android::base::SetProperty(line.substr(0, equals), line.substr(equals + 1));
    }
  }
  unsetenv("ADBD_PROPERTIES");  // the commands that adbd starts do not need it
}

}  // namespace

// Android's init gives a service its socket in an environment variable; the library for Linux does not look there.
extern "C" int android_get_control_socket(const char* name) {
  const char* descriptor = getenv(("ANDROID_SOCKET_" + std::string(name)).c_str());
  return descriptor != nullptr ? atoi(descriptor) : -1;
}
