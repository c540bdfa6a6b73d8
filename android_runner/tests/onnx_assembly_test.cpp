// Programs are joined as in Python: both replay tests/vectors/onnx_assembly.json.
#include "core/onnx_assembly.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "core/json.h"

namespace adaptivenet {
namespace {

std::string from_hex(const std::string& digits) {
  std::string bytes;
  for (std::size_t at = 0; at < digits.size(); at += 2) {
    bytes.push_back(static_cast<char>(std::stoi(digits.substr(at, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(OnnxAssembly, JoinsAndRefusesAsThePythonOneDoes) {
  std::ifstream file(TEST_VECTORS "/onnx_assembly.json");
  const Json vectors = Json::parse(file);
  ASSERT_GE(vectors.size(), 10u);
  for (const Json& example : vectors) {
    SCOPED_TRACE(example["name"].get<std::string>());
    std::vector<std::string> programs;
    for (const Json& part : example["parts"]) programs.push_back(from_hex(part["data"].get<std::string>()));
    std::vector<OnnxPart> parts;
    for (const Json& part : example["parts"]) {
      parts.push_back({part["what"].get<std::string>(), std::as_bytes(std::span(programs[parts.size()])),
                       part["takes"].get<std::vector<int>>(), part["gives"].get<int>()});
    }
    try {
      const std::string model = assemble_onnx(parts);
      ASSERT_TRUE(example.contains("model")) << "it was joined";
      EXPECT_EQ(model, from_hex(example["model"].get<std::string>()));
    } catch (const PackError& error) {
      EXPECT_EQ(error.what(), example.value("error", ""));
    }
  }
}

TEST(OnnxAssembly, RefusesEveryProgramThatIsCutOffOrJoinsIt) {
  std::ifstream file(TEST_VECTORS "/onnx_assembly.json");
  const Json part = Json::parse(file)[0]["parts"][0];
  const std::string program = from_hex(part["data"].get<std::string>());
  for (std::size_t size = 0; size < program.size(); ++size) {
    const OnnxPart cut{"block 'a'", std::as_bytes(std::span(program.data(), size)), {0}, 1};
    try {
      assemble_onnx(std::span(&cut, 1));  // what stands behind the graph may be missing
    } catch (const PackError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("block 'a' is no ONNX program")) << error.what();
    }
  }
}

}  // namespace
}  // namespace adaptivenet
