#include "core/inputs.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/error.h"
#include "core/quote.h"

namespace adaptivenet {
namespace {

constexpr std::int64_t kLargest = std::int64_t{1} << 24;  // up to it float32 has every whole number

[[noreturn]] void refuse(const Input& input, const std::string& what) {
  throw DataError("the row: " + quote(input.name) + " " + what);
}

std::string listed(const std::vector<std::string_view>& names) {
  std::string text;
  for (const std::string_view name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

[[noreturn]] void refuse_name(const std::vector<Input>& inputs, std::string_view name) {
  std::vector<std::string_view> known;
  for (const Input& input : inputs) known.push_back(input.name);
  throw DataError("the row: there is no input " + quote(name) + "; the network reads " + listed(known));
}

[[noreturn]] void refuse_without(const Input& input, std::size_t count, const Given& given) {
  std::vector<std::string_view> held;
  for (std::size_t at = 0; at < count; ++at) held.push_back(given(at).name);
  std::sort(held.begin(), held.end());
  throw DataError("the row has no array " + quote(input.name) + ", which the network reads; it holds " +
                  (held.empty() ? "nothing" : listed(held)));
}

[[noreturn]] void refuse_count(const Input& input, std::size_t count) {
  std::string wanted = "(N";
  for (std::size_t at = 1; at < input.type.shape.size(); ++at) wanted += ", " + std::to_string(input.type.shape[at]);
  refuse(input, "must have shape " + wanted + "), not (1, " + std::to_string(count) + ")");
}

// Whether values of a type are taken for an input of another one: as numpy's casts "of the same kind".
bool is_held(DType given, DType wanted) {
  return given == wanted || given == DType::kBool || (given != DType::kFloat32 && wanted != DType::kBool);
}

template <typename Value>
Value value_at(const NamedValues& values, std::size_t at) {
  Value value;
  std::memcpy(&value, values.data + at * sizeof value, sizeof value);
  return value;
}

template <typename Whole>
void write_wholes(const Input& input, const NamedValues& values, std::span<float> to) {
  for (std::size_t at = 0; at < to.size(); ++at) {
    const Whole value = value_at<Whole>(values, at);
    if (input.type.dtype != DType::kFloat32 && (value < -kLargest || value > kLargest)) {
      refuse(input, "has whole numbers beyond " + std::to_string(kLargest) + ", which cannot be told apart in float32");
    }
    to[at] = static_cast<float>(value);
  }
}

void write(const Input& input, const NamedValues& values, std::span<float> to) {
  if (values.count != to.size()) refuse_count(input, values.count);
  if (!is_held(values.dtype, input.type.dtype)) {
    refuse(input, "has dtype " + std::string(name_of(values.dtype)) + "; give " + name_of(input.type.dtype));
  }
  switch (values.dtype) {
    case DType::kInt64:
      return write_wholes<std::int64_t>(input, values, to);
    case DType::kInt32:
      return write_wholes<std::int32_t>(input, values, to);
    case DType::kBool:
      for (std::size_t at = 0; at < to.size(); ++at) to[at] = values.data[at] != std::byte{0} ? 1.0f : 0.0f;
      return;
    default:
      for (std::size_t at = 0; at < to.size(); ++at) {
        to[at] = value_at<float>(values, at);
        if (!std::isfinite(to[at])) refuse(input, "holds NaN or infinite values; remove them");
      }
  }
}

}  // namespace

void write_row(const std::vector<Input>& inputs, std::size_t count, const Given& given, std::span<float> row) {
  if (inputs.empty()) {
    throw DataError("the network has one input, which has no name: it reads one tensor, of the shape of cut 0");
  }
  // The first of those that are given from `at` on under a name; `count` where there is none.
  const auto place_of = [&](std::string_view name, std::size_t at) {
    while (at < count && given(at).name != name) ++at;
    return at;
  };
  for (std::size_t at = 0; at < count; ++at) {
    const std::string_view name = given(at).name;
    if (std::none_of(inputs.begin(), inputs.end(), [&](const Input& input) { return input.name == name; })) {
      refuse_name(inputs, name);
    }
    if (place_of(name, at + 1) < count) throw DataError("the row: " + quote(name) + " is given more than once");
  }
  for (const Input& input : inputs) {
    const std::size_t at = place_of(input.name, 0);
    if (at == count) refuse_without(input, count, given);
    const auto width = static_cast<std::size_t>(elements_of(input.type.shape));
    write(input, given(at), row.first(width));
    row = row.subspan(width);
  }
}

}  // namespace adaptivenet
