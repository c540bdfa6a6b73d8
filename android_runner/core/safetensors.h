// Reads safetensors files, in which images and labels come. Trusts nothing in them.
#pragma once

#include <map>
#include <span>
#include <string>

#include "core/tensor.h"

namespace adaptivenet {

// The tensors in `file`, by name, as views into it. Throws DataError, with the reason, unless the file is what the
// format says: 8 bytes that give the length of the header (at most 1 MiB here), a JSON object without duplicate keys,
// for each tensor exactly dtype, shape and data_offsets, offsets that fit dtype and shape, no holes, no overlaps, and
// nothing after the last tensor. An entry "__metadata__" must be an object of strings, and is left out.
std::map<std::string, TensorView> read_safetensors(std::span<const std::byte> file);

}  // namespace adaptivenet
