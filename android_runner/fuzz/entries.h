// What the fuzz targets do with an input, and what must hold afterwards. Also run on the corpus by the tests.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

namespace adaptivenet {

using Entry = void (*)(std::span<const std::byte> input);

// By the name of the target, which is that of its folder in the corpus. An entry returns for a good input and for one
// that is refused as it should be. It throws std::logic_error for one that was wrongly taken; whatever else it throws
// is a defect, too.
const std::map<std::string, Entry>& fuzz_entries();

}  // namespace adaptivenet
