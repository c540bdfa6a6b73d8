#include "interpreter.h"

#include <algorithm>
#include <set>

namespace adaptivenet {

Chain::Chain(const BlockGraph& graph, const Subnet& names, const Programs& programs) {
  std::set<int> made;
  std::map<int, std::size_t> last_read;
  for (const std::string& name : names) made.insert(graph.block(name).end);
  for (std::size_t index = 0; index < names.size(); ++index) {
    const Block& block = graph.block(names[index]);
    for (const int cut : graph.reads(block)) {
      last_read[cut] = index;
      if (!made.contains(cut)) takes_.try_emplace(cut, block.name);
    }
  }
  for (std::size_t index = 0; index < names.size(); ++index) {
    const Block& block = graph.block(names[index]);
    Step step{programs.at(block.name), graph.reads(block), block.end, {}};
    for (const int cut : step.reads) {
      if (last_read[cut] == index) step.spent.push_back(cut);
    }
    steps_.push_back(std::move(step));
  }
  features_.resize(graph.cuts().size());
}

FeaturePtr Chain::operator()(const std::map<int, FeaturePtr>& given, std::vector<Clock::time_point>* passed) {
  for (const auto& [cut, feature] : given) features_[cut] = feature;
  for (const Step& step : steps_) {
    operands_.clear();
    for (const int cut : step.reads) operands_.push_back(features_[cut]);
    features_[step.end] = step.program->run(operands_, false);
    for (const int cut : step.spent) features_[cut].reset();
    if (passed != nullptr) passed->push_back(Clock::now());
  }
  operands_.clear();
  return std::move(features_[steps_.back().end]);
}

std::set<std::size_t> outlasting(const std::vector<Instruction>& instructions) {
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
  const std::set<std::size_t> copied = outlasting(plan.instructions);
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
