// What each thread does with a program of a pack, for the report of a crash. Programs come from packs. The libraries
// that run them do not check everything: a program that is damaged or hostile can crash the process although its
// SHA-256 is right. The notes alone change nothing; `report_crashes` of daemon/last_words.h reads them.
#pragma once

#include <atomic>

namespace adaptivenet {

// While this object exists, a report of a crash says: `what` crashed while it was `done` (loaded, run). Both texts must
// exist as long as the object does. Of more than kCrashNotes objects at once, the last ones say nothing.
class CrashNote {
 public:
  CrashNote(const char* what, const char* done);
  ~CrashNote();
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;

 private:
  int place_;
};

struct NotedWork {
  std::atomic<bool> taken = false;
  std::atomic<const char*> what = nullptr;
  std::atomic<const char*> done = nullptr;
  std::atomic<int> thread = 0;  // its number in the system
};

inline constexpr int kCrashNotes = 16;

// The note of the thread that calls this, otherwise any; null for none. May be called by a signal handler.
const NotedWork* crash_note();

}  // namespace adaptivenet
