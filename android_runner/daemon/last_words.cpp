#include "daemon/last_words.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "core/crash_note.h"

namespace adaptivenet {
namespace {

std::atomic_flag told = ATOMIC_FLAG_INIT;

// A line of text, made without any function that a signal handler may not call.
class Line {
 public:
  Line& operator<<(const char* text) {
    while (*text != '\0' && size_ < sizeof text_) text_[size_++] = *text++;
    return *this;
  }
  void print() const { [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text_, size_); }

 private:
  char text_[512];
  std::size_t size_ = 0;
};

void tell(int signal) {
  // Several threads of an engine may crash at once: the first one reports, the others wait for the end.
  while (told.test_and_set()) pause();
  const NotedWork* const work = crash_note();
  const char* const what = work == nullptr ? nullptr : work->what.load();
  const char number[] = {static_cast<char>('0' + signal / 10), static_cast<char>('0' + signal % 10), '\0'};
  Line line;
  if (what == nullptr) {
    line << "adaptivenet-runner: it crashed";
  } else {
    line << "adaptivenet-runner: " << what << " crashed while it was " << work->done.load();
    line << ": this program of the pack is damaged, or the engine is";
  }
  line << " (signal " << number << ")\n";
  line.print();
  std::signal(signal, SIG_DFL);
  raise(signal);  // it is delivered when this function returns, and ends the process
}

}  // namespace

void report_crashes() {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) std::signal(signal, tell);
}

}  // namespace adaptivenet
