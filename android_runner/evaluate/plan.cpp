#include "evaluate/plan.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/quote.h"
#include "evaluate/plan_check.h"

namespace adaptivenet {
namespace {

const Json& list_from(const Json& value, const std::string& what) {
  if (!value.is_array()) throw PlanError("plan " + what + " must be a list: got " + shown(value));
  return value;
}

std::vector<std::string> strings_from(const Json& value, const std::string& what) {
  std::vector<std::string> strings;
  for (const Json& entry : list_from(value, what)) {
    if (!entry.is_string()) throw PlanError("plan " + what + " must be a list of strings: got " + shown(value));
    strings.push_back(entry.get<std::string>());
  }
  return strings;
}

std::int64_t whole_from(const Json& value, const std::string& what) {
  if (!value.is_number_integer()) throw PlanError("plan " + what + " must be a whole number: got " + shown(value));
  return value.get<std::int64_t>();
}

std::vector<std::int64_t> slots_from(const Json& value) {
  std::vector<std::int64_t> slots;
  for (const Json& slot : value) slots.push_back(whole_from(slot, "slot"));
  return slots;
}

Step step_from(const Json& entry) {
  if (entry.is_array() && !entry.empty()) {
    const Json& name = entry[0];
    if (name == "run" && entry.size() == 4 && entry[1].is_string() && entry[2].is_array()) {
      return {Step::Kind::kRun, entry[1].get<std::string>(), slots_from(entry[2]), whole_from(entry[3], "slot"), 0};
    }
    if (name == "score" && entry.size() == 4 && entry[2].is_string() && entry[3].is_array()) {
      return {Step::Kind::kScore, entry[2].get<std::string>(), slots_from(entry[3]), whole_from(entry[1], "subnet"), 0};
    }
    if (name == "free" && entry.size() == 2) return {Step::Kind::kFree, "", {}, whole_from(entry[1], "slot"), 0};
    if (name == "recall" && entry.size() == 3) {
      return {Step::Kind::kRecall, "", {}, whole_from(entry[2], "slot"), whole_from(entry[1], "key")};
    }
    if (name == "keep" && entry.size() == 3) {
      return {Step::Kind::kKeep, "", {}, whole_from(entry[1], "slot"), whole_from(entry[2], "key")};
    }
    if (name == "drop" && entry.size() == 2) return {Step::Kind::kDrop, "", {}, 0, whole_from(entry[1], "key")};
  }
  throw PlanError("a plan instruction is run, score, free, recall, keep or drop with its operands: got " +
                  shown(entry));
}

std::map<std::int64_t, Subnet> kept_from(const Json& value) {
  std::map<std::int64_t, Subnet> kept;
  for (const Json& entry : list_from(value, "kept")) {
    const bool is_pair = list_from(entry, "kept").size() == 2;
    const std::int64_t key = is_pair ? whole_from(entry[0], "key") : 0;
    if (!is_pair || kept.contains(key)) {
      throw PlanError("plan kept must be pairs of a key and blocks, each key once: got " + shown(value));
    }
    kept[key] = strings_from(entry[1], "key " + std::to_string(key));
  }
  return kept;
}

std::vector<Subnet> subnets_from(const Json& value, const BlockGraph& graph) {
  std::vector<Subnet> subnets;
  for (const Json& names : list_from(value, "subnets")) {
    Subnet subnet = strings_from(names, "a subnet");
    try {
      graph.require_subnet(subnet);
    } catch (const GraphError& error) {
      throw PlanError("plan subnet " + std::to_string(subnets.size()) + ": " + error.what());
    }
    subnets.push_back(std::move(subnet));
  }
  return subnets;
}

void require_size(const Json& document, const std::string& name, std::int64_t found) {
  const std::int64_t stated = whole_from(document.at(name), name);
  if (stated != found) {
    throw PlanError("the plan states " + name + " " + std::to_string(stated) + "; its instructions come to " +
                    std::to_string(found));
  }
}

}  // namespace

Plan Plan::from_json(const Pack& pack, const Json& document) {
  constexpr const char* kFields[] = {"block_runs", "instructions", "metrics", "peak_bytes",
                                     "slots",      "subnets",      "kept",    "kept_bytes"};
  const bool keeps = document.is_object() && document.size() == std::size(kFields);
  const auto end = std::end(kFields) - (keeps ? 0 : 2);
  const auto is_there = [&](const char* field) { return document.contains(field); };
  if (!document.is_object() || document.size() != static_cast<std::size_t>(end - std::begin(kFields)) ||
      !std::all_of(std::begin(kFields), end, is_there)) {
    throw PlanError(
        "a plan must be an object with exactly block_runs, instructions, metrics, peak_bytes, slots, subnets, and "
        "perhaps kept, kept_bytes");
  }
  Plan plan;
  plan.metrics = strings_from(document.at("metrics"), "metrics");
  for (const std::string& metric : plan.metrics) {
    if (!pack.metrics().contains(metric)) {
      throw PlanError("pack " + quote(pack.name()) + " has no metric " + quote(metric));
    }
  }
  plan.subnets = subnets_from(document.at("subnets"), pack.graph());
  if (plan.subnets.empty() || plan.metrics.empty()) {
    throw PlanError("nothing to evaluate: " + std::to_string(plan.subnets.size()) + " subnets, " +
                    std::to_string(plan.metrics.size()) + " metrics; give at least one of each");
  }
  PlanCheck check(pack, plan);
  if (keeps) check.begin_from(kept_from(document.at("kept")));
  for (const Json& entry : list_from(document.at("instructions"), "instructions")) check.take(step_from(entry));
  check.finish();
  require_size(document, "slots", plan.slots);
  require_size(document, "peak_bytes", plan.peak_bytes);
  require_size(document, "block_runs", plan.block_runs);
  if (keeps) require_size(document, "kept_bytes", plan.kept_bytes);
  return plan;
}

bool Plan::reads_labels() const {
  return std::any_of(instructions.begin(), instructions.end(), [](const Instruction& instruction) {
    const Score* score = std::get_if<Score>(&instruction);
    return score != nullptr && std::count(score->operands.begin(), score->operands.end(), kLabelSlot) > 0;
  });
}

}  // namespace adaptivenet
