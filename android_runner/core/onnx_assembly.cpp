#include "core/onnx_assembly.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string_view>

#include "core/error.h"

namespace adaptivenet {
namespace {

// The types of fields on the wire, and the numbers of those that are needed of onnx.proto.
enum Wire : unsigned { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
namespace model {
enum : std::uint64_t { kIrVersion = 1, kGraph = 7, kOpset = 8, kFunction = 25 };
}
namespace opset {
enum : std::uint64_t { kDomain = 1, kVersion = 2 };
}
namespace graph {
enum : std::uint64_t {
  kNode = 1,
  kName = 2,
  kInitializer = 5,
  kInput = 11,
  kOutput = 12,
  kValueInfo = 13,
  kAnnotation = 14,
  kSparse = 15
};
}
constexpr std::uint64_t kValueName = 1;
constexpr std::size_t kLongestVarint = 10;

[[noreturn]] void refuse(const std::string& what, const std::string& why) {
  throw PackError(what + " is no ONNX program that can be joined with others: " + why + "; export the pack again");
}

std::string border(int cut) { return "cut" + std::to_string(cut); }

// A number of up to 64 bits at the beginning of `rest`, from which it is taken.
std::uint64_t read_varint(const std::string& what, std::string_view& rest) {
  std::uint64_t value = 0;
  for (std::size_t count = 0; count < std::min(kLongestVarint, rest.size()); ++count) {
    const auto byte = static_cast<unsigned char>(rest[count]);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * count);
    if (byte < 0x80) {
      rest.remove_prefix(count + 1);
      return value;
    }
  }
  refuse(what, "a number has no end");
}

// A field of a message: `whole` with its tag, and its content, or its value when it is a number.
struct Field {
  std::uint64_t number = 0;
  unsigned wire = kVarint;
  std::string_view whole;
  std::string_view content;
  std::uint64_t value = 0;
};

// Calls `use` for each of the outermost fields of a message.
template <typename Use>
void for_fields(const std::string& what, std::string_view message, Use&& use) {
  std::string_view rest = message;
  while (!rest.empty()) {
    const std::string_view begin = rest;
    Field field;
    const std::uint64_t tag = read_varint(what, rest);
    field.number = tag >> 3;
    field.wire = tag & 7;
    const std::string_view content = rest;
    std::uint64_t size = 0;
    std::size_t before = 0;  // of the content
    if (field.wire == kVarint) {
      field.value = read_varint(what, rest);
      size = content.size() - rest.size();
    } else if (field.wire == kBytes) {
      size = read_varint(what, rest);
      before = content.size() - rest.size();
    } else if (field.wire == kFixed64 || field.wire == kFixed32) {
      size = field.wire == kFixed64 ? 8 : 4;
    } else {
      refuse(what, "it has a field of type " + std::to_string(field.wire));
    }
    if (field.number == 0 || size > content.size() - before) refuse(what, "a field has no number or no end");
    field.content = content.substr(before, size);
    rest = content.substr(before + size);
    field.whole = begin.substr(0, begin.size() - rest.size());
    use(field);
  }
}

std::string_view name_of(const std::string& what, std::string_view value) {
  std::string_view name;
  for_fields(what, value, [&](const Field& field) {
    if (field.number == kValueName && field.wire == kBytes) name = field.content;
  });
  return name;
}

// What is needed of a model: `inputs` by cut, the fields to join with their tags.
struct Model {
  std::uint64_t ir_version = 0;
  std::map<std::string_view, std::uint64_t> opsets;
  std::vector<std::string_view> joined;
  std::map<int, std::string_view> inputs;
  std::string_view output;
};

void read_opset(const std::string& what, std::string_view content, Model& made) {
  std::string_view domain;
  std::uint64_t version = 0;
  for_fields(what, content, [&](const Field& field) {
    if (field.number == opset::kDomain && field.wire == kBytes) domain = field.content;
    if (field.number == opset::kVersion && field.wire == kVarint) version = field.value;
  });
  if (made.opsets.try_emplace(domain, version).first->second != version) {
    refuse(what, "it has two versions of an operator set");
  }
}

void read_graph(const OnnxPart& part, std::string_view content, Model& made) {
  std::map<std::string_view, std::string_view> inputs, outputs;
  for_fields(part.what, content, [&](const Field& field) {
    if (field.wire != kBytes) return;
    switch (field.number) {
      case graph::kNode:
      case graph::kInitializer:
      case graph::kValueInfo:
      case graph::kAnnotation:
      case graph::kSparse:
        made.joined.push_back(field.whole);
        break;
      case graph::kInput:
      case graph::kOutput: {
        auto& values = field.number == graph::kInput ? inputs : outputs;
        if (!values.try_emplace(name_of(part.what, field.content), field.content).second) {
          refuse(part.what, "it has two inputs or outputs of one name");
        }
        break;
      }
      default:
        break;
    }
  });
  std::string wanted;
  for (const int cut : part.takes) {
    wanted += (wanted.empty() ? "" : ", ") + border(cut);
    if (const auto found = inputs.find(border(cut)); found != inputs.end()) made.inputs[cut] = found->second;
  }
  const auto output = outputs.find(border(part.gives));
  if (made.inputs.size() != part.takes.size() || inputs.size() != part.takes.size() || outputs.size() != 1 ||
      output == outputs.end()) {
    refuse(part.what, "its inputs are not " + wanted + " and its output " + border(part.gives));
  }
  made.output = output->second;
}

Model read_model(const OnnxPart& part) {
  Model made;
  std::vector<std::string_view> graphs;
  const std::string_view bytes(reinterpret_cast<const char*>(part.data.data()), part.data.size());
  for_fields(part.what, bytes, [&](const Field& field) {
    if (field.number == model::kIrVersion && field.wire == kVarint) made.ir_version = field.value;
    if (field.number == model::kOpset && field.wire == kBytes) read_opset(part.what, field.content, made);
    if (field.number == model::kGraph && field.wire == kBytes) graphs.push_back(field.content);
    if (field.number == model::kFunction) refuse(part.what, "it has functions of its own");
  });
  if (graphs.size() != 1) refuse(part.what, "it has " + std::to_string(graphs.size()) + " graphs");
  read_graph(part, graphs.front(), made);
  return made;
}

std::string varint(std::uint64_t value) {
  std::string found;
  for (; value >= 0x80; value >>= 7) found.push_back(static_cast<char>((value & 0x7f) | 0x80));
  found.push_back(static_cast<char>(value));
  return found;
}

std::string tag(std::uint64_t number, unsigned wire) { return varint(number << 3 | wire); }

// Adds a field whose content is bytes.
void add(std::string& message, std::uint64_t number, std::string_view content) {
  message += tag(number, kBytes) + varint(content.size());
  message += content;
}

}  // namespace

std::string assemble_onnx(std::span<const OnnxPart> parts) {
  std::uint64_t ir_version = 0;
  std::map<std::string_view, std::pair<std::uint64_t, const std::string*>> opsets;  // version, and the part that has it
  std::string body;
  std::size_t size = 0;
  for (const OnnxPart& part : parts) size += part.data.size() + 64;
  body.reserve(size);  // weights are large: they lie in memory once
  add(body, graph::kName, "assembled");
  std::set<int> made;
  for (const OnnxPart& part : parts) {
    const Model read = read_model(part);
    ir_version = std::max(ir_version, read.ir_version);
    for (const auto& [domain, version] : read.opsets) {
      const auto& [known, by] = opsets.try_emplace(domain, version, &part.what).first->second;
      if (known == version) continue;
      throw PackError(part.what + " is made for operator set " + std::to_string(version) + " and " + *by + " for " +
                      std::to_string(known) + ", so they cannot run as one model; export the pack again");
    }
    for (const std::string_view field : read.joined) body += field;
    for (const int cut : part.takes) {
      if (made.insert(cut).second) add(body, graph::kInput, read.inputs.at(cut));
    }
    add(body, &part == &parts.back() ? graph::kOutput : graph::kValueInfo, read.output);
    made.insert(part.gives);
  }
  std::string model = tag(model::kIrVersion, kVarint) + varint(ir_version);
  for (const auto& [domain, of_part] : opsets) {
    std::string content;
    if (!domain.empty()) add(content, opset::kDomain, domain);
    content += tag(opset::kVersion, kVarint) + varint(of_part.first);
    add(model, model::kOpset, content);
  }
  model += tag(model::kGraph, kBytes) + varint(body.size());
  body.insert(0, model);
  return body;
}

}  // namespace adaptivenet
