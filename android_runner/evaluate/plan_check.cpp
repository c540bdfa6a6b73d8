#include "evaluate/plan_check.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "core/error.h"
#include "core/quote.h"

namespace adaptivenet {
namespace {

constexpr std::int64_t kTooMany = std::int64_t{1} << 62;
constexpr std::int64_t kMostKey = std::numeric_limits<std::int32_t>::max();

}  // namespace

PlanCheck::PlanCheck(const Pack& pack, Plan& plan) : pack_(pack), graph_(pack.graph()), plan_(plan), paths_(graph_) {
  plan_.slots = kLabelSlot + 1;
  oracle_ = paths_.path_of(graph_.oracle());
  for (const Subnet& subnet : plan_.subnets) subnets_.push_back(paths_.path_of(subnet));
  metrics_.insert(plan_.metrics.begin(), plan_.metrics.end());
  hold(slots_, kInputSlot, make(Paths::kEmpty));
}

void PlanCheck::begin_from(const std::map<std::int64_t, Subnet>& kept) {
  const std::int64_t input = bytes_;
  plan_.kept.emplace();
  for (const auto& [key, names] : kept) {
    if (key < 0 || key > kMostKey) {
      throw PlanError("the plan begins from key " + std::to_string(key) + ": keys are from 0 to " +
                      std::to_string(kMostKey));
    }
    const std::string what = "plan key " + std::to_string(key) + ": ";
    if (names.empty()) throw PlanError(what + "no blocks made what is kept there");
    try {
      hold(keys_, key, make(paths_.path_of(names)));
    } catch (const GraphError& error) {
      throw PlanError(what + error.what());
    }
    plan_.kept->emplace(static_cast<int>(key), paths_.digest(features_.back().path));
  }
  plan_.kept_bytes = bytes_ - input;
}

void PlanCheck::take(const Step& step) {
  where_ = "plan instruction " + std::to_string(plan_.instructions.size());
  switch (step.kind) {
    case Step::Kind::kRun:
      run(step);
      break;
    case Step::Kind::kScore:
      score(step);
      break;
    case Step::Kind::kFree:
      read(step.number);
      release(slots_, step.number);
      plan_.instructions.emplace_back(Free{static_cast<int>(step.number)});
      break;
    case Step::Kind::kRecall: {
      const int feature = look_up(step.key);
      const int slot = require_empty(step.number);
      hold(slots_, slot, feature);
      plan_.instructions.emplace_back(Recall{static_cast<int>(step.key), slot});
      break;
    }
    case Step::Kind::kKeep:
      keep(step);
      break;
    case Step::Kind::kDrop:
      look_up(step.key);
      release(keys_, step.key);
      plan_.instructions.emplace_back(Drop{static_cast<int>(step.key)});
  }
}

void PlanCheck::finish() {
  if (!slots_.empty()) throw PlanError("the plan never frees slot " + std::to_string(slots_.begin()->first));
  if (scored_.size() != plan_.subnets.size() * plan_.metrics.size()) {
    throw PlanError("the plan makes " + std::to_string(scored_.size()) + " scores for " +
                    std::to_string(plan_.subnets.size()) + " subnets by " + std::to_string(plan_.metrics.size()) +
                    " metrics");
  }
  plan_.kept_bytes = std::max(plan_.kept_bytes, bytes_);
  for (const auto& [key, feature] : keys_) {
    plan_.keeps[static_cast<int>(key)] = paths_.digest(features_[static_cast<std::size_t>(feature)].path);
  }
}

void PlanCheck::run(const Step& step) {
  const std::string what = where_ + " runs block " + quote(step.name);
  std::vector<int> paths, cuts;
  for (const std::int64_t slot : step.sources) {
    paths.push_back(path_in(slot));
    cuts.push_back(paths_.cut(paths.back()));
  }
  if (!graph_.contains(step.name)) throw PlanError(what + ", which this pack does not have");
  const Block& block = graph_.block(step.name);
  if (cuts != graph_.reads(block))
    throw PlanError(what + " on the features at cuts " + shown(cuts) + "; it reads " + shown(graph_.reads(block)));
  if (paths.size() > 1 && !paths_.all_begin(paths.front(), paths)) {
    throw PlanError(what + " on features of different paths");
  }
  const int target = require_empty(step.number);
  hold(slots_, target, make(paths_.extend(paths.front(), step.name)));
  ++plan_.block_runs;
  plan_.instructions.emplace_back(Run{step.name, {step.sources.begin(), step.sources.end()}, target});
}

void PlanCheck::score(const Step& step) {
  const std::string what = where_ + " scores subnet " + std::to_string(step.number);
  const bool known =
      step.number >= 0 && step.number < static_cast<std::int64_t>(subnets_.size()) && metrics_.contains(step.name);
  if (!known || !scored_.emplace(step.number, step.name).second) {
    throw PlanError(what + " by " + quote(step.name) + ": unknown, or scored already");
  }
  for (const std::int64_t slot : step.sources) {
    if (slot != kLabelSlot) read(slot);
  }
  const auto& operands = pack_.metrics().at(step.name).operands;
  const auto is_of_the_kind = [](std::int64_t slot, Operand operand) {
    return (slot == kLabelSlot) == (operand == Operand::kLabel);
  };
  if (!std::equal(step.sources.begin(), step.sources.end(), operands.begin(), operands.end(), is_of_the_kind)) {
    throw PlanError(what + ": metric " + quote(step.name) + " of pack " + quote(pack_.name()) +
                    " reads other operands; compile the plan again");
  }
  const int own = subnets_[static_cast<std::size_t>(step.number)];
  const auto is_wanted = [&](std::int64_t slot, Operand operand) {
    return operand == Operand::kLabel || path_in(slot) == (operand == Operand::kOutput ? own : oracle_);
  };
  if (!std::equal(step.sources.begin(), step.sources.end(), operands.begin(), is_wanted)) {
    throw PlanError(what + " by features that are not its own output");
  }
  plan_.instructions.emplace_back(
      Score{static_cast<int>(step.number), step.name, {step.sources.begin(), step.sources.end()}});
}

void PlanCheck::keep(const Step& step) {
  const int feature = read(step.number);
  if (!plan_.kept) throw PlanError(where_ + " keeps a feature, in a plan that does not say what is kept");
  if (keys_.contains(step.key) || step.key < 0 || step.key > kMostKey) {
    throw PlanError(where_ + " keeps a feature under key " + std::to_string(step.key) +
                    ": it must be unused, from 0 to " + std::to_string(kMostKey));
  }
  if (step.number == kInputSlot) throw PlanError(where_ + " keeps the input, which every plan is given");
  hold(keys_, step.key, feature);
  plan_.instructions.emplace_back(Keep{static_cast<int>(step.number), static_cast<int>(step.key)});
}

int PlanCheck::read(std::int64_t slot) const {
  const auto found = slots_.find(slot);
  if (found == slots_.end()) throw PlanError(where_ + " reads slot " + std::to_string(slot) + ", which is empty");
  return found->second;
}

int PlanCheck::look_up(std::int64_t key) const {
  const auto found = keys_.find(key);
  if (found == keys_.end()) {
    throw PlanError(where_ + " names key " + std::to_string(key) + ", under which nothing is kept");
  }
  return found->second;
}

int PlanCheck::require_empty(std::int64_t slot) {
  if (slots_.contains(slot) || slot <= kLabelSlot || slot > plan_.slots) {
    throw PlanError(where_ + " writes slot " + std::to_string(slot) + ": it must be empty, from " +
                    std::to_string(kLabelSlot + 1) + " to " + std::to_string(plan_.slots));
  }
  plan_.slots = std::max(plan_.slots, static_cast<int>(slot) + 1);
  return static_cast<int>(slot);
}

int PlanCheck::make(int path) {
  features_.push_back({path, 0});
  return static_cast<int>(features_.size()) - 1;
}

// A plan that needs 2^62 bytes is refused: no whole number in a JSON document can be that large.
void PlanCheck::hold(Holders& holders, std::int64_t number, int feature) {
  holders[number] = feature;
  if (++features_[static_cast<std::size_t>(feature)].holders > 1) return;
  try {
    bytes_ += size_of(feature);
  } catch (const std::overflow_error&) {
    bytes_ = kTooMany;
  }
  if (bytes_ >= kTooMany) throw PlanError("the plan needs more bytes of features than there can be");
  plan_.peak_bytes = std::max(plan_.peak_bytes, bytes_);
}

void PlanCheck::release(Holders& holders, std::int64_t number) {
  const int feature = holders.at(number);
  holders.erase(number);
  if (--features_[static_cast<std::size_t>(feature)].holders == 0) bytes_ -= size_of(feature);
}

std::int64_t PlanCheck::size_of(int feature) const {
  return bytes_of(
      graph_.cuts()[static_cast<std::size_t>(paths_.cut(features_[static_cast<std::size_t>(feature)].path))]);
}

}  // namespace adaptivenet
