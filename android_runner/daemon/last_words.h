// Says in the log what the process did when it crashed: the caller is shown the end of the log.
#pragma once

namespace adaptivenet {

// From now on, when any thread of this process crashes, one line on stderr says so, and with which program of a pack
// (core/crash_note.h); then the process ends as it would have ended without this. A stack overflow is not reported.
void report_crashes();

}  // namespace adaptivenet
