#include "plan.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "error.h"
#include "quote.h"

namespace adaptivenet {
namespace {

using Slots = std::vector<std::int64_t>;

// The instructions as they come, before their numbers are known to be slots.
struct Step {
  enum class Kind { kRun, kScore, kFree } kind;
  std::string name;         // of the block or the metric
  Slots sources;            // what it reads
  std::int64_t number = 0;  // the slot that is written or freed, or the subnet
};

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

Slots slots_from(const Json& value) {
  Slots slots;
  for (const Json& slot : value) slots.push_back(whole_from(slot, "slot"));
  return slots;
}

Step step_from(const Json& entry) {
  if (entry.is_array() && !entry.empty()) {
    const Json& name = entry[0];
    if (name == "run" && entry.size() == 4 && entry[1].is_string() && entry[2].is_array()) {
      return {Step::Kind::kRun, entry[1].get<std::string>(), slots_from(entry[2]), whole_from(entry[3], "slot")};
    }
    if (name == "score" && entry.size() == 4 && entry[2].is_string() && entry[3].is_array()) {
      return {Step::Kind::kScore, entry[2].get<std::string>(), slots_from(entry[3]), whole_from(entry[1], "subnet")};
    }
    if (name == "free" && entry.size() == 2) return {Step::Kind::kFree, "", {}, whole_from(entry[1], "slot")};
  }
  throw PlanError("a plan instruction is run, score or free with its operands: got " + shown(entry));
}

// Paths from cut 0 as numbers, equal for equal paths: what made a feature is compared at every instruction, and a list
// of names for each would let a small plan take much memory.
class Paths {
 public:
  static constexpr int kEmpty = 0;

  explicit Paths(const BlockGraph& graph) : graph_(graph), paths_{{kEmpty, 0, 0}} {}

  int extend(int path, const std::string& block) {
    const auto [entry, is_new] = known_.try_emplace({path, block}, static_cast<int>(paths_.size()));
    if (is_new) paths_.push_back({path, paths_[path].length + 1, graph_.block(block).end});
    return entry->second;
  }

  int path_of(const Subnet& subnet) {
    int path = kEmpty;
    for (const std::string& block : subnet) path = extend(path, block);
    return path;
  }

  int cut(int path) const { return paths_[path].cut; }

  // Whether each of `others` is `path` or how it begins.
  bool all_begin(int path, const std::vector<int>& others) const {
    std::vector<int> beginnings(paths_[path].length + 1);
    for (int at = path;; at = paths_[at].before) {
      beginnings[paths_[at].length] = at;
      if (at == kEmpty) break;
    }
    return std::all_of(others.begin(), others.end(), [&](int other) {
      const std::size_t length = paths_[other].length;
      return length < beginnings.size() && beginnings[length] == other;
    });
  }

 private:
  struct Path {
    int before;  // without the last block
    std::size_t length;
    int cut;
  };

  const BlockGraph& graph_;
  std::vector<Path> paths_;
  std::map<std::pair<int, std::string>, int> known_;
};

// Follows the steps, knowing of each full slot the path that made what it holds, and adds up what they take.
class Walk {
 public:
  Walk(const Pack& pack, Plan& plan) : pack_(pack), graph_(pack.graph()), plan_(plan), paths_(graph_) {
    made_by_[kInputSlot] = Paths::kEmpty;
    plan_.slots = kLabelSlot + 1;
    oracle_ = paths_.path_of(graph_.oracle());
    for (const Subnet& subnet : plan_.subnets) subnets_.push_back(paths_.path_of(subnet));
    metrics_.insert(plan_.metrics.begin(), plan_.metrics.end());
    add_bytes(0);
  }

  void follow(const Step& step) {
    where_ = "plan instruction " + std::to_string(plan_.instructions.size());
    switch (step.kind) {
      case Step::Kind::kRun:
        run(step);
        break;
      case Step::Kind::kScore:
        score(step);
        break;
      case Step::Kind::kFree:
        bytes_ -= bytes_of(graph_.cuts()[paths_.cut(read(step.number))]);
        made_by_.erase(step.number);
        plan_.instructions.emplace_back(Free{static_cast<int>(step.number)});
    }
  }

  void finish() const {
    if (!made_by_.empty()) {
      throw PlanError("the plan never frees slot " + std::to_string(made_by_.begin()->first));
    }
    if (scored_.size() != plan_.subnets.size() * plan_.metrics.size()) {
      throw PlanError("the plan makes " + std::to_string(scored_.size()) + " scores for " +
                      std::to_string(plan_.subnets.size()) + " subnets by " + std::to_string(plan_.metrics.size()) +
                      " metrics");
    }
  }

 private:
  int read(std::int64_t slot) const {
    const auto found = made_by_.find(slot);
    if (found == made_by_.end()) throw PlanError(where_ + " reads slot " + std::to_string(slot) + ", which is empty");
    return found->second;
  }

  void run(const Step& step) {
    const std::string what = where_ + " runs block " + quote(step.name);
    std::vector<int> paths, cuts;
    for (const std::int64_t slot : step.sources) {
      paths.push_back(read(slot));
      cuts.push_back(paths_.cut(paths.back()));
    }
    if (!graph_.contains(step.name)) throw PlanError(what + ", which this pack does not have");
    const Block& block = graph_.block(step.name);
    if (cuts != graph_.reads(block))
      throw PlanError(what + " on the features at cuts " + shown(cuts) + "; it reads " + shown(graph_.reads(block)));
    if (paths.size() > 1 && !paths_.all_begin(paths.front(), paths)) {
      throw PlanError(what + " on features of different paths");
    }
    if (made_by_.contains(step.number) || step.number <= kLabelSlot || step.number > plan_.slots) {
      throw PlanError(where_ + " writes slot " + std::to_string(step.number) + ": it must be empty, from " +
                      std::to_string(kLabelSlot + 1) + " to " + std::to_string(plan_.slots));
    }
    made_by_[step.number] = paths_.extend(paths.front(), step.name);
    const int target = static_cast<int>(step.number);
    plan_.slots = std::max(plan_.slots, target + 1);
    ++plan_.block_runs;
    add_bytes(block.end);
    plan_.instructions.emplace_back(Run{step.name, {step.sources.begin(), step.sources.end()}, target});
  }

  void score(const Step& step) {
    const std::string what = where_ + " scores subnet " + std::to_string(step.number);
    const bool known =
        step.number >= 0 && step.number < static_cast<std::int64_t>(subnets_.size()) && metrics_.contains(step.name);
    if (!known || !scored_.emplace(step.number, step.name).second) {
      throw PlanError(what + " by " + quote(step.name) + ": unknown, or scored already");
    }
    const int own = subnets_[static_cast<std::size_t>(step.number)];
    bool reads_own = false;
    for (const std::int64_t slot : step.sources) {
      if (slot == kLabelSlot) continue;
      const int path = read(slot);
      reads_own = reads_own || path == own;
      if (path != own && path != oracle_) throw PlanError(what + " by features that are not its own output");
    }
    if (!reads_own) throw PlanError(what + " by features that are not its own output");
    const auto& operands = pack_.metrics().at(step.name).operands;
    const auto same = [](std::int64_t slot, Operand operand) {
      return (slot == kLabelSlot) == (operand == Operand::kLabel);
    };
    if (!std::equal(step.sources.begin(), step.sources.end(), operands.begin(), operands.end(), same)) {
      throw PlanError(what + ": metric " + quote(step.name) + " of pack " + quote(pack_.name()) +
                      " reads other operands; compile the plan again");
    }
    plan_.instructions.emplace_back(
        Score{static_cast<int>(step.number), step.name, {step.sources.begin(), step.sources.end()}});
  }

  // A plan that needs 2^62 bytes cannot say so: no whole number of a document is that large.
  void add_bytes(int cut) {
    try {
      bytes_ += bytes_of(graph_.cuts()[static_cast<std::size_t>(cut)]);
    } catch (const std::overflow_error&) {
      bytes_ = kTooMany;
    }
    if (bytes_ >= kTooMany) throw PlanError("the plan needs more bytes of features than there can be");
    plan_.peak_bytes = std::max(plan_.peak_bytes, bytes_);
  }

  static constexpr std::int64_t kTooMany = std::int64_t{1} << 62;

  const Pack& pack_;
  const BlockGraph& graph_;
  Plan& plan_;
  Paths paths_;
  int oracle_ = 0;
  std::vector<int> subnets_;
  std::set<std::string> metrics_;
  std::map<std::int64_t, int> made_by_;
  std::set<std::pair<std::int64_t, std::string>> scored_;
  std::int64_t bytes_ = 0;
  std::string where_;
};

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
  constexpr const char* kFields[] = {"block_runs", "instructions", "metrics", "peak_bytes", "slots", "subnets"};
  const auto is_there = [&](const char* field) { return document.contains(field); };
  if (!document.is_object() || document.size() != std::size(kFields) ||
      !std::all_of(std::begin(kFields), std::end(kFields), is_there)) {
    throw PlanError(
        "a plan must be an object with exactly block_runs, instructions, metrics, peak_bytes, slots, subnets");
  }
  Plan plan;
  plan.metrics = strings_from(document.at("metrics"), "metrics");
  for (const std::string& metric : plan.metrics) {
    if (!pack.metrics().contains(metric)) {
      throw PlanError("pack " + quote(pack.name()) + " has no metric " + quote(metric));
    }
  }
  plan.subnets = subnets_from(document.at("subnets"), pack.graph());
  Walk walk(pack, plan);
  for (const Json& entry : list_from(document.at("instructions"), "instructions")) walk.follow(step_from(entry));
  walk.finish();
  require_size(document, "slots", plan.slots);
  require_size(document, "peak_bytes", plan.peak_bytes);
  require_size(document, "block_runs", plan.block_runs);
  return plan;
}

bool Plan::reads_labels() const {
  return std::any_of(instructions.begin(), instructions.end(), [](const Instruction& instruction) {
    const Score* score = std::get_if<Score>(&instruction);
    return score != nullptr && std::count(score->operands.begin(), score->operands.end(), kLabelSlot) > 0;
  });
}

}  // namespace adaptivenet
