#include "last_words.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>

namespace adaptivenet {
namespace {

std::atomic<const char*> what_now = nullptr;
std::atomic<const char*> done_now = nullptr;

void print(const char* text) {
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, std::strlen(text));
}

// Only what a signal handler may call.
void tell(int signal) {
  const char* const what = what_now;
  print("adaptivenet-runner: ");
  print(what == nullptr ? "it" : what);
  print(" crashed");
  if (what != nullptr) {
    print(" while it was ");
    print(done_now);
    print(": this program of the pack is damaged, or the engine is");
  }
  const char number[] = {static_cast<char>('0' + signal / 10), static_cast<char>('0' + signal % 10), '\0'};
  print(" (signal ");
  print(number);
  print(")\n");
  raise(signal);  // the handler is gone: the process ends as without it
}

}  // namespace

Doing::Doing(const char* what, const char* done) {
  done_now = done;
  what_now = what;
}

Doing::~Doing() { what_now = nullptr; }

void tell_last_words() {
  struct sigaction action = {};
  action.sa_handler = tell;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigaction(signal, &action, nullptr);
}

}  // namespace adaptivenet
