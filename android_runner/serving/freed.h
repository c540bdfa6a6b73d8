// What malloc keeps of the memory that was freed.
#pragma once

namespace adaptivenet {

// Gives the pages of all memory that is free back to the system, as far as the C library can: glibc's keeps most of
// what a thread has freed. Takes some milliseconds. Changes no setting of the process.
void give_freed_memory_back();

}  // namespace adaptivenet
