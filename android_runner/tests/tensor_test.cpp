#include "core/tensor.h"

#include <cstdint>
#include <stdexcept>

#include "refusal.h"

namespace adaptivenet {
namespace {

constexpr std::int64_t kLimit = std::int64_t{1} << 62;

TEST(Tensor, NamesAndSizesOfDTypes) {
  const std::pair<const char*, std::size_t> known[] = {{"float32", 4}, {"float16", 2}, {"bfloat16", 2}, {"int64", 8},
                                                       {"int32", 4},   {"int8", 1},    {"uint8", 1},    {"bool", 1}};
  for (const auto& [name, size] : known) {
    EXPECT_STREQ(name_of(dtype_from_name(name)), name);
    EXPECT_EQ(size_of(dtype_from_name(name)), size);
  }
  for (const char* name : {"", "float64", "Float32", "float32 ", "F32"}) {
    EXPECT_TRUE(says(refusal<std::invalid_argument>([&] { dtype_from_name(name); }), "there is no dtype"));
  }
}

TEST(Tensor, CountsElementsAndBytes) {
  EXPECT_EQ(elements_of({}), 1);
  EXPECT_EQ(elements_of({1, 3, 224, 224}), 150528);
  EXPECT_EQ(bytes_of({{1, 3, 224, 224}, DType::kFloat32}), 602112);
  EXPECT_EQ(elements_of({0}), 0);
  EXPECT_EQ(elements_of({INT64_MAX, INT64_MAX, 0}), 0);
}

TEST(Tensor, RefusesToOverflow) {
  EXPECT_EQ(elements_of({kLimit}), kLimit);
  EXPECT_EQ(elements_of({1 << 30, 1 << 30, 4}), kLimit);
  EXPECT_EQ(bytes_of({{kLimit / 4}, DType::kFloat32}), kLimit);
  EXPECT_THROW(elements_of({kLimit + 1}), std::overflow_error);
  EXPECT_THROW(elements_of({1 << 30, 1 << 30, 5}), std::overflow_error);
  EXPECT_THROW(elements_of(Shape(8, INT32_MAX)), std::overflow_error);
  EXPECT_THROW(elements_of({INT64_MAX, INT64_MAX}), std::overflow_error);
  EXPECT_THROW(bytes_of({{kLimit / 4 + 1}, DType::kFloat32}), std::overflow_error);
  EXPECT_THROW(elements_of({-1}), std::overflow_error);
  EXPECT_THROW(elements_of({INT64_MIN, INT64_MIN}), std::overflow_error);
}

TEST(Tensor, IsShownAsPythonWouldShowIt) {
  EXPECT_EQ(to_string({{1, 3, 2, 2}, DType::kFloat32}), "float32 (1, 3, 2, 2)");
  EXPECT_EQ(to_string({{1}, DType::kInt64}), "int64 (1,)");
  EXPECT_EQ(to_string({{}, DType::kBool}), "bool ()");
}

}  // namespace
}  // namespace adaptivenet
