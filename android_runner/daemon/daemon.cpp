#include "daemon/daemon.h"

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "core/version.h"
#include "daemon/last_words.h"
#include "daemon/run_folder.h"
#include "daemon/server.h"

namespace adaptivenet {
namespace {

// A file descriptor that is readable when one of the signals that end a daemon has come. Call before any thread is
// made: threads inherit that these signals are blocked.
Fd catch_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  Fd fd(signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!fd) throw DeviceError(system_error("make a signalfd"));
  return fd;
}

}  // namespace

void serve(const std::filesystem::path& home, std::chrono::seconds idle, const MakeHandler& make_handler) {
  prctl(PR_SET_NAME, "adaptivenet");  // otherwise `ps` would show "exe", because Starter runs /proc/self/exe
  umask(077);
  RunFolder folder(home);
  if (!folder.lock()) return;
  folder.restore();  // a daemon that was killed may have left settings changed

  const Fd stop = catch_signals();
  Limits limits;
  limits.idle = idle;
  Server server(folder, make_handler(home), limits, stop.get());
  folder.log_output();
  report_crashes();
  std::fprintf(stderr, "adaptivenet-runner %s, process %d\n", RUNNER_VERSION, static_cast<int>(getpid()));
  const bool done = server.run();
  folder.restore();
  if (!done) {
    std::fprintf(stderr, "the job did not end in time; the process ends with it\n");
    _exit(0);
  }
}

}  // namespace adaptivenet
