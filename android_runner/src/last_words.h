// What the process was doing when it crashed. Programs come from packs, and the libraries that run them check much of
// them but not all: one that is damaged or hostile in spite of its right SHA-256 can still end the runner. Then its name
// must be in the log, whose end is what the caller is told.
#pragma once

namespace adaptivenet {

// While it lives, a crash is told as one of `what`, "while it was" `done`. Both must outlive it. One thread does this.
class Doing {
 public:
  Doing(const char* what, const char* done);
  ~Doing();
  Doing(const Doing&) = delete;
  Doing& operator=(const Doing&) = delete;
};

// From now on a crash of this process, in whatever thread, is told on stderr, in one line, before it ends as it would
// have. Not that of a stack which has no room left.
void tell_last_words();

}  // namespace adaptivenet
