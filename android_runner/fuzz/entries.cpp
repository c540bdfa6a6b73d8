#include "entries.h"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "core/onnx_assembly.h"
#include "core/pack.h"
#include "core/safetensors.h"
#include "evaluate/plan.h"
#include "tiny_pack.h"

namespace adaptivenet {
namespace {

std::string_view text_of(std::span<const std::byte> input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

// Requests and events cross as JSON, and errors go out in them.
void require_message(const std::exception& error) {
  const std::string message = error.what();
  require(message.size() < 1000, "a long message");
  require(message.find('\n') == std::string::npos, "a message of several lines");
  require(parse_json(Json(message).dump()) == message, "a message that is no UTF-8");
}

void json(std::span<const std::byte> input) {
  Json value;
  try {
    value = parse_json(text_of(input));
  } catch (const std::invalid_argument& error) {
    return require_message(error);
  }
  const std::string canonical = canonical_json(value);
  const Json again = parse_json(canonical);
  require(again == value, "canonical JSON says something else");
  require(canonical_json(again) == canonical, "canonical JSON has two forms");
}

void parse_pack(std::string_view text) {
  Pack pack;
  try {
    pack = Pack::parse(text);
  } catch (const PackError& error) {
    return require_message(error);
  }
  const BlockGraph& graph = pack.graph();
  graph.require_subnet(graph.oracle());
  require(pack.label().dtype == DType::kInt64, "another dtype of labels");
  for (const std::string& name : graph.oracle()) {
    for (const int cut : graph.reads(graph.block(name))) require(cut >= 0 && cut < graph.end(), "no cut to read");
    for (const char* backend : {"executorch", "onnx"}) {
      try {
        require(pack.block_artifact(name, backend).sha256().size() == 64, "no digest");
      } catch (const PackError&) {  // not exported for this one
      }
    }
  }
}

// Once as it is, and once with the right digest, which the fuzzer cannot guess.
void manifest(std::span<const std::byte> input) {
  parse_pack(text_of(input));
  Json document;
  try {
    document = parse_json(text_of(input));
  } catch (const std::invalid_argument&) {
    return;
  }
  if (document.is_object()) parse_pack(with_digest(document));
}

void plan(std::span<const std::byte> input) {
  static const Pack pack = Pack::parse(with_digest(tiny_manifest()));
  Plan plan;
  try {
    plan = Plan::from_json(pack, parse_json(text_of(input)));
  } catch (const PlanError& error) {
    return require_message(error);
  } catch (const std::invalid_argument&) {
    return;
  }
  // Run it on nothing: every slot that is read must be full.
  std::vector<bool> full(static_cast<std::size_t>(plan.slots));
  full[kInputSlot] = full[kLabelSlot] = true;
  std::set<int> keys;
  if (plan.kept) {
    for (const auto& [key, path] : *plan.kept) keys.insert(key);
  }
  for (const Instruction& instruction : plan.instructions) {
    if (const auto* run = std::get_if<Run>(&instruction)) {
      for (const int slot : run->sources) require(full.at(static_cast<std::size_t>(slot)), "a run reads an empty slot");
      require(pack.graph().contains(run->block), "an unknown block");
      require(!full.at(static_cast<std::size_t>(run->target)), "a run writes a full slot");
      full[static_cast<std::size_t>(run->target)] = true;
    } else if (const auto* score = std::get_if<Score>(&instruction)) {
      for (const int slot : score->operands) require(full.at(static_cast<std::size_t>(slot)), "a score reads nothing");
      require(score->subnet >= 0 && static_cast<std::size_t>(score->subnet) < plan.subnets.size(), "no such subnet");
      require(pack.metrics().at(score->metric).operands.size() == score->operands.size(), "other operands");
    } else if (const auto* recall = std::get_if<Recall>(&instruction)) {
      require(keys.contains(recall->key), "a recall of nothing");
      require(!full.at(static_cast<std::size_t>(recall->slot)), "a recall writes a full slot");
      full[static_cast<std::size_t>(recall->slot)] = true;
    } else if (const auto* keep = std::get_if<Keep>(&instruction)) {
      require(plan.kept.has_value(), "a plan that has nothing to do with what is kept keeps something");
      require(full.at(static_cast<std::size_t>(keep->slot)) && keep->slot > kLabelSlot, "no feature is kept");
      require(keys.insert(keep->key).second, "two features under one key");
    } else if (const auto* drop = std::get_if<Drop>(&instruction)) {
      require(keys.erase(drop->key) == 1, "nothing is dropped");
    } else {
      full.at(static_cast<std::size_t>(std::get<Free>(instruction).slot)) = false;
    }
  }
  require(std::count(full.begin(), full.end(), true) == 1 && full[kLabelSlot], "a slot is left full");
  require(plan.keeps.size() == keys.size(), "more or less is kept than the plan says");
  for (const auto& [key, path] : plan.keeps) require(keys.contains(key) && path.size() == 64, "something else is kept");
}

void safetensors(std::span<const std::byte> input) {
  std::map<std::string, TensorView> tensors;
  try {
    tensors = read_safetensors(input);
  } catch (const DataError& error) {
    return require_message(error);
  }
  std::size_t total = 0;
  for (const auto& [name, view] : tensors) {
    const std::span values(view.data, static_cast<std::size_t>(bytes_of(view.type)));
    // The sanitizer notices when a byte outside of the file is read. Without the sum, the compiler would not read at
    // all.
    for (const std::byte value : values) total += std::to_integer<std::size_t>(value);
    require(values.size() <= input.size(), "a tensor larger than its file");
  }
  require(total <= 255 * input.size(), "bytes twice");
}

// The program of a block from cut 0 to cut 1, alone and twice in a row.
void onnx(std::span<const std::byte> input) {
  const OnnxPart first{"block 'a'", input, {0}, 1};
  try {
    const std::string model = assemble_onnx(std::span(&first, 1));
    // What was made can be joined again, and stays what it is.
    const OnnxPart again{"block 'b'", std::as_bytes(std::span(model)), {0}, 1};
    require(assemble_onnx(std::span(&again, 1)) == model, "a model that changes");
  } catch (const PackError& error) {
    return require_message(error);
  }
  const OnnxPart same[] = {first, {"block 'c'", input, {1}, 2}};
  try {
    assemble_onnx(same);
  } catch (const PackError& error) {
    return require_message(error);
  }
  throw std::logic_error("a program of cut 0 was taken for one of cut 1");
}

}  // namespace

const std::map<std::string, Entry>& fuzz_entries() {
  static const std::map<std::string, Entry> entries = {
      {"json", json}, {"manifest", manifest}, {"onnx", onnx}, {"plan", plan}, {"safetensors", safetensors}};
  return entries;
}

}  // namespace adaptivenet
