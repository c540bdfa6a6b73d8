// Tensors in plain memory, as they come in and go out; inside an engine they are the engine's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace adaptivenet {

using Shape = std::vector<std::int64_t>;

enum class DType { kFloat32, kFloat16, kBFloat16, kInt64, kInt32, kInt8, kUInt8, kBool };

enum class Layout { kContiguous, kChannelsLast };  // the order of 4-D tensors in memory: NCHW or NHWC

struct TensorType {
  Shape shape;
  DType dtype = DType::kFloat32;

  bool operator==(const TensorType&) const = default;
};

// The name that manifests use, which is numpy's: "float32". `dtype_from_name` throws std::invalid_argument.
const char* name_of(DType dtype);
DType dtype_from_name(const std::string& name);
std::size_t size_of(DType dtype);

// The number of elements and of bytes. Throw std::overflow_error beyond 2^62.
std::int64_t elements_of(const Shape& shape);
std::int64_t bytes_of(const TensorType& type);

// As errors show a type: "float32 (1, 3, 224, 224)".
std::string to_string(const TensorType& type);

// Copies the values of a tensor of four dimensions from one order in memory to another.
void copy_in_layout(std::span<const std::int64_t> shape, std::size_t element_bytes, const std::byte* from, Layout given,
                    std::byte* to, Layout wanted);

// A view of a contiguous tensor (row-major, channels first) in somebody else's memory.
struct TensorView {
  TensorType type;
  const std::byte* data = nullptr;
};

// A contiguous tensor with memory of its own.
struct Tensor {
  TensorType type;
  std::vector<std::byte> data;

  TensorView view() const { return {type, data.data()}; }
};

}  // namespace adaptivenet
