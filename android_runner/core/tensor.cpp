#include "core/tensor.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "core/quote.h"

namespace adaptivenet {
namespace {

struct Kind {
  DType dtype;
  const char* name;
  std::size_t size;
};

constexpr std::array kKinds = {
    Kind{DType::kFloat32, "float32", 4}, Kind{DType::kFloat16, "float16", 2}, Kind{DType::kBFloat16, "bfloat16", 2},
    Kind{DType::kInt64, "int64", 8},     Kind{DType::kInt32, "int32", 4},     Kind{DType::kInt8, "int8", 1},
    Kind{DType::kUInt8, "uint8", 1},     Kind{DType::kBool, "bool", 1},
};

const Kind& kind_of(DType dtype) {
  return *std::find_if(kKinds.begin(), kKinds.end(), [&](const Kind& kind) { return kind.dtype == dtype; });
}

std::int64_t times(std::int64_t count, std::int64_t side) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 62;
  if (side < 0) throw std::overflow_error("a shape with a side of " + std::to_string(side));
  if (side > 0 && count > kLimit / side) throw std::overflow_error("a shape with more than 2^62 elements or bytes");
  return count * side;
}

}  // namespace

const char* name_of(DType dtype) { return kind_of(dtype).name; }

DType dtype_from_name(const std::string& name) {
  for (const Kind& kind : kKinds) {
    if (name == kind.name) return kind.dtype;
  }
  throw std::invalid_argument("there is no dtype " + quote(name));
}

std::size_t size_of(DType dtype) { return kind_of(dtype).size; }

std::int64_t elements_of(const Shape& shape) {
  // An empty tensor may have other sides of any size.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t side : shape) count = times(count, side);
  return count;
}

std::int64_t bytes_of(const TensorType& type) {
  return times(elements_of(type.shape), static_cast<std::int64_t>(size_of(type.dtype)));
}

std::string to_string(const TensorType& type) {
  std::string text = name_of(type.dtype) + std::string(" (");
  for (std::size_t at = 0; at < type.shape.size(); ++at) text += (at ? ", " : "") + std::to_string(type.shape[at]);
  return text + (type.shape.size() == 1 ? ",)" : ")");
}

void copy_in_layout(std::span<const std::int64_t> shape, std::size_t element_bytes, const std::byte* from, Layout given,
                    std::byte* to, Layout wanted) {
  const auto images = static_cast<std::size_t>(shape[0]), channels = static_cast<std::size_t>(shape[1]);
  const auto pixels = static_cast<std::size_t>(shape[2] * shape[3]);
  if (given == wanted) {
    std::memcpy(to, from, images * channels * pixels * element_bytes);
    return;
  }
  // An (n, a, b) array of elements becomes (n, b, a).
  const bool to_last = wanted == Layout::kChannelsLast;
  const std::size_t a = to_last ? channels : pixels, b = to_last ? pixels : channels;
  for (std::size_t image = 0; image < images; ++image, from += a * b * element_bytes, to += a * b * element_bytes) {
    for (std::size_t i = 0; i < a; ++i) {
      for (std::size_t j = 0; j < b; ++j) {
        std::memcpy(to + (j * a + i) * element_bytes, from + (i * b + j) * element_bytes, element_bytes);
      }
    }
  }
}

}  // namespace adaptivenet
