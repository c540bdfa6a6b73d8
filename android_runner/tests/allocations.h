// Counts what is allocated by `new` and by the C library for aligned memory, thread by thread.
#pragma once

#include <cstddef>

namespace adaptivenet {

std::size_t allocations_of_this_thread();

}  // namespace adaptivenet
