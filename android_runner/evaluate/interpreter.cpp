#include "evaluate/interpreter.h"

#include <algorithm>
#include <set>

namespace adaptivenet {

std::set<std::size_t> runs_to_copy(const std::vector<Instruction>& instructions) {
  constexpr std::size_t kRecalled = -1;
  std::set<std::size_t> found;
  std::map<int, std::size_t> made_by;         // the run whose output is in a slot
  std::map<std::string, std::size_t> latest;  // the run of a block whose output lies in its memory
  const auto waits = [&](std::size_t run) {
    return std::any_of(made_by.begin(), made_by.end(), [&](const auto& slot) { return slot.second == run; });
  };
  for (std::size_t number = 0; number < instructions.size(); ++number) {
    const Instruction& instruction = instructions[number];
    if (const auto* run = std::get_if<Run>(&instruction)) {
      const auto before = latest.find(run->block);
      if (before != latest.end() && waits(before->second)) found.insert(before->second);
      made_by[run->target] = latest[run->block] = number;
    } else if (const auto* keep = std::get_if<Keep>(&instruction)) {
      if (made_by.at(keep->slot) != kRecalled) found.insert(made_by.at(keep->slot));
    } else if (const auto* recall = std::get_if<Recall>(&instruction)) {
      made_by[recall->slot] = kRecalled;
    } else if (const auto* free = std::get_if<Free>(&instruction)) {
      made_by.erase(free->slot);
    }
  }
  return found;
}

PlanRunner::PlanRunner(const Plan& plan, const Programs& blocks, const Programs& metrics) : slots_(plan.slots) {
  using Kind = Step::Kind;
  const std::set<std::size_t> copied = runs_to_copy(plan.instructions);
  for (const Instruction& instruction : plan.instructions) {
    if (const auto* run = std::get_if<Run>(&instruction)) {
      steps_.push_back({Kind::kRun, blocks.at(run->block), run->sources, run->target});
      steps_.back().copied = copied.contains(steps_.size() - 1);
    } else if (const auto* score = std::get_if<Score>(&instruction)) {
      steps_.push_back({Kind::kScore, metrics.at(score->metric), score->operands, 0, 0, score});
    } else if (const auto* free = std::get_if<Free>(&instruction)) {
      steps_.push_back({Kind::kFree, nullptr, {}, free->slot});
    } else if (const auto* recall = std::get_if<Recall>(&instruction)) {
      steps_.push_back({Kind::kRecall, nullptr, {}, recall->slot, recall->key});
    } else if (const auto* keep = std::get_if<Keep>(&instruction)) {
      steps_.push_back({Kind::kKeep, nullptr, {}, keep->slot, keep->key});
    } else {
      steps_.push_back({Kind::kDrop, nullptr, {}, 0, std::get<Drop>(instruction).key});
    }
  }
}

}  // namespace adaptivenet
