// Says in the log what the process did when it crashed. Programs come from packs. The libraries that run them do not
// check everything: a program that is damaged or hostile can crash the runner although its SHA-256 is right. The caller
// is shown the end of the log, so the name of that program must be there.
#pragma once

namespace adaptivenet {

// While this object exists, the report of a crash says: `what` crashed while it was `done` (loaded, run). Both texts
// must exist as long as the object does. Only one thread makes such objects.
class CrashNote {
 public:
  CrashNote(const char* what, const char* done);
  ~CrashNote();
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;
};

// From now on, when any thread of this process crashes, one line on stderr says so; then the process ends as it would
// have ended without this. A stack overflow is not reported.
void report_crashes();

}  // namespace adaptivenet
