// `call`: sends one request to the daemon, which it starts when none runs, and prints the events of the answer.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace adaptivenet {

struct Call {
  std::filesystem::path home;      // absolute
  std::string request;             // JSON
  std::vector<std::string> serve;  // the arguments that run a daemon for `home`; see Starter
  // A daemon takes a request and sends its first event at once, whatever it does. One that does neither for so long
  // hangs.
  std::chrono::milliseconds hangs = std::chrono::seconds(30);
};

// Prints whole lines only. Returns the exit status: 0 after a result, 1 after an error. Throws DeviceError when there
// is no answer: no daemon can be reached, it hangs or has ended, or nobody reads what is printed.
int call(const Call& what);

}  // namespace adaptivenet
