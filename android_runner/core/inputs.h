// A network's several inputs in one row of float32 numbers, which is what a pack's cut 0 holds then (docs/pack.md).
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace adaptivenet {

// One of them: its name in the network's `forward`, its shape at batch size 1, and float32, int64, int32 or bool.
struct Input {
  std::string name;
  TensorType type;
};

// Values of one of them, row-major, wherever they lie: float32, int64, int32 or bool.
struct NamedValues {
  std::string_view name;
  DType dtype = DType::kFloat32;
  const std::byte* data = nullptr;
  std::size_t count = 0;
};

// Of those that are given, in any order, each by its number from 0 on. What a caller has need not be copied for it.
using Given = std::function<NamedValues(std::size_t)>;

// Writes all inputs, of which `count` are given, to `row`, which holds as many numbers as they do. Takes and refuses
// what Python's `BlockPack.row` does, in its words: throws DataError when one is missing, unknown, given twice or does
// not fit; what is in the row then is no input. Allocates nothing but that error.
void write_row(const std::vector<Input>& inputs, std::size_t count, const Given& given, std::span<float> row);

}  // namespace adaptivenet
