#include "interpreter.h"

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

PlanRunner::PlanRunner(const Plan& plan, const Programs& blocks, const Programs& metrics) : slots_(plan.slots) {
  for (const Instruction& instruction : plan.instructions) {
    Step step;
    if (const auto* run = std::get_if<Run>(&instruction)) {
      step = {blocks.at(run->block), run->sources, run->target, nullptr};
    } else if (const auto* score = std::get_if<Score>(&instruction)) {
      step = {metrics.at(score->metric), score->operands, 0, score};
    } else {
      step.target = std::get<Free>(instruction).slot;
    }
    steps_.push_back(std::move(step));
  }
}

}  // namespace adaptivenet
