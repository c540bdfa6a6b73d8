#include "core/crash_note.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace adaptivenet {
namespace {

std::array<NotedWork, kCrashNotes> notes;

int this_thread() { return static_cast<int>(syscall(SYS_gettid)); }

}  // namespace

CrashNote::CrashNote(const char* what, const char* done) : place_(0) {
  while (place_ < kCrashNotes && notes[place_].taken.exchange(true)) ++place_;
  if (place_ == kCrashNotes) return;
  notes[place_].thread = this_thread();
  notes[place_].done = done;
  notes[place_].what = what;
}

CrashNote::~CrashNote() {
  if (place_ == kCrashNotes) return;
  notes[place_].what = nullptr;
  notes[place_].taken = false;
}

const NotedWork* crash_note() {
  const int thread = this_thread();
  const NotedWork* found = nullptr;
  for (const NotedWork& note : notes) {
    if (note.what == nullptr) continue;
    if (note.thread == thread) return &note;
    found = &note;
  }
  return found;
}

}  // namespace adaptivenet
