// Rows of several inputs are made and refused as in Python: both replay tests/vectors/inputs.json.
#include "core/inputs.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "refusal.h"

namespace adaptivenet {
namespace {

template <typename Value>
std::vector<std::byte> bytes_of_all(const std::vector<std::string>& texts, Value (*parse)(const std::string&)) {
  std::vector<std::byte> bytes(texts.size() * sizeof(Value));
  for (std::size_t at = 0; at < texts.size(); ++at) {
    const Value value = parse(texts[at]);
    std::memcpy(&bytes[at * sizeof value], &value, sizeof value);
  }
  return bytes;
}

// A byte before them, so that they lie where no number may.
std::vector<std::byte> values_in(DType dtype, const std::vector<std::string>& texts) {
  std::vector<std::byte> values;
  switch (dtype) {
    case DType::kInt64:
      values =
          bytes_of_all<std::int64_t>(texts, [](const std::string& text) -> std::int64_t { return std::stoll(text); });
      break;
    case DType::kInt32:
      values =
          bytes_of_all<std::int32_t>(texts, [](const std::string& text) -> std::int32_t { return std::stoi(text); });
      break;
    case DType::kBool:
      values = bytes_of_all<char>(texts, [](const std::string& text) -> char { return text == "0" ? 0 : 2; });
      break;
    default:
      values = bytes_of_all<float>(texts, [](const std::string& text) { return std::strtof(text.c_str(), nullptr); });
  }
  values.insert(values.begin(), std::byte{1});
  return values;
}

struct Held {
  std::string name;
  DType dtype;
  std::vector<std::byte> bytes;
  std::size_t count;
};

TEST(Inputs, AreWrittenAndRefusedAsInPython) {
  std::ifstream file(TEST_VECTORS "/inputs.json");
  const Json vectors = Json::parse(file)["rows"];
  ASSERT_GE(vectors.size(), 40u);
  for (const Json& example : vectors) {
    SCOPED_TRACE(example["name"].get<std::string>());
    std::vector<Input> inputs;
    std::size_t width = 0;
    for (const Json& input : example["inputs"]) {
      inputs.push_back({input["name"].get<std::string>(),
                        {input["shape"].get<Shape>(), dtype_from_name(input["dtype"].get<std::string>())}});
      width += static_cast<std::size_t>(elements_of(inputs.back().type.shape));
    }
    std::vector<Held> held;
    for (const Json& given : example["given"]) {
      const DType dtype = dtype_from_name(given[1].get<std::string>());
      const auto texts = given[2].get<std::vector<std::string>>();
      held.push_back({given[0].get<std::string>(), dtype, values_in(dtype, texts), texts.size()});
    }
    const auto given = [&](std::size_t at) {
      return NamedValues{held[at].name, held[at].dtype, held[at].bytes.data() + 1, held[at].count};
    };
    std::vector<float> row(width);
    try {
      write_row(inputs, held.size(), given, row);
      ASSERT_FALSE(example["row"].is_null()) << "it was written";
      EXPECT_EQ(row, example["row"].get<std::vector<float>>());
    } catch (const DataError& error) {
      EXPECT_EQ(error.what(), example["error"].is_null() ? "" : example["error"].get<std::string>());
    }
  }
}

TEST(Inputs, AreGivenOnce) {
  const std::vector<Input> inputs = {{"mask", {{1}, DType::kBool}}};
  const std::byte value{1};
  float row[1];
  const auto given = [&](std::size_t) { return NamedValues{"mask", DType::kBool, &value, 1}; };
  EXPECT_EQ(refusal<DataError>([&] { write_row(inputs, 2, given, row); }), "the row: 'mask' is given more than once");
}

}  // namespace
}  // namespace adaptivenet
